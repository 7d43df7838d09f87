"""The compiled step of every task, data-parallel: what devices say to one another, and that nothing moves unasked."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults
from cxrjax.tasks import TASKS, cells
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

pytestmark = pytest.mark.skipif(jax.device_count() < 2, reason="needs 2 (fake) devices")

SIZE, CLASSES = 16, ("Mass", "Effusion")
ADAM = defaults.optim("adam", 1e-3)
RESNET = {"name": "resnet_tiny", "blocks": (1,), "widths": (8,)}
UNET = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4, "patch": 1, "updown": "plain"}
CODEC = {"name": "autoencoder_tiny", "channels": (8, 8), "groups": 4, "latent": 2, "patch": 1}
GAN = {"name": "cgan", "sizes": (SIZE,), "features": 4, "d_features": 4}


def _of_latents(config):
    with config.unlocked():
        config.autoencoder = ConfigDict({"net": CODEC})
    return config


CONFIGS = {
    "autoencoder": lambda: defaults.autoencoder(CODEC, ADAM, ADAM, 4, 8, perceptual=0.0, given=()),
    "classify": lambda: defaults.classify(RESNET, ADAM, 4, 8, noise=0.1, warp=1, ema=0.9),
    "ddpm": lambda: defaults.diffusion(UNET, ADAM, 4, 8, ema=0.9),
    "gan": lambda: defaults.gan(GAN, 1e-3, 4, 8, latent=7, ratio=1),
    "grid": lambda: defaults.classify(RESNET, ADAM, 4, 8),
    "identify": lambda: defaults.identify(RESNET, ADAM, 4, 8, width=8),
    "latent_classify": lambda: _of_latents(defaults.classify(RESNET, ADAM, 4, 8, normalize="symmetric")),
    "latent_ddpm": lambda: _of_latents(defaults.diffusion(UNET, ADAM, 4, 8)),
}
QUICK = ("classify", "ddpm")
BY_COST = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in (*TASKS, "grid")]


def _films(name):
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (8, SIZE, SIZE, 2 if name == "identify" else 1)).astype(np.float32)
    label = np.eye(2, dtype=np.float32)[np.arange(8) % 2]
    return Batch(image, label, np.ones(8, np.float32), np.arange(8, dtype=np.int32))


def _filled(leaf):
    """Small positive numbers, on the host."""
    if jax.dtypes.issubdtype(leaf.dtype, np.floating):
        return np.random.default_rng(leaf.size).uniform(0.01, 0.1, leaf.shape).astype(leaf.dtype)
    return np.zeros(leaf.shape, leaf.dtype)


@lru_cache
def _compiled(name):
    """The loop's own program of a task on two devices, and what it is given but for the batch."""
    mesh, config = meshes.make(2), CONFIGS[name]()
    if name == "grid":
        task = cells.together(config, 2, [cells.Cell("tiny", "sgd", lr, 0.9) for lr in (0.01, 0.1)], mesh)
    else:
        task = TASKS[name](config, CLASSES)
    shapes = jax.eval_shape(task.init, jax.random.key(0), _films(name))
    placed = meshes.state_shardings(mesh, shapes)
    leaves, structure = jax.tree.flatten(placed)
    state = meshes.place(jax.tree.map(_filled, shapes), placed)
    batch, root = meshes.put(mesh, _films(name)), meshes.replicate(mesh, jax.random.key(0))
    scalars = jax.eval_shape(task.step, state, batch, root)[1]
    running = meshes.replicate(mesh, {key: loop.metrics.Average.empty() for key in (*scalars, "skipped")})
    run = loop.programs(task, mesh, structure, tuple(leaves)).run.lower(state, running, batch, root)
    return mesh, run.compile(compiler_options={"xla_backend_optimization_level": 0}), state, running, root


def said(text):
    """Of a compiled program the elements that each kind of collective gives, by kind."""
    out = {}
    kinds = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast"
    for shapes, kind in re.findall(rf"= (.+?) ({kinds})(?:-start)?\(", text):
        sizes = [math.prod(map(int, filter(None, s.split(",")))) for s in re.findall(r"\w+\[([\d,]*)\]", shapes)]
        out[kind] = out.get(kind, 0) + sum(sizes)
    return out


@pytest.mark.parametrize("name", BY_COST)
def test_steps_move_nothing_between_host_and_devices_unasked(name):
    mesh, run, state, running, root = _compiled(name)
    state = jax.tree.map(lambda x: x.copy(), state)  # it is donated
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, running = run(state, running, meshes.put(mesh, _films(name)), root)
    assert int(state.step) == 3
    assert float(running["skipped"].compute()) == 0


@pytest.mark.parametrize("name", ["classify", "ddpm"])
def test_devices_add_up_gradients_and_nothing_else(name):
    """But for the two statistics of each BatchNorm, and the loss and the weight of the films."""
    _, run, state, *_ = _compiled(name)
    count = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.stats)))
    assert said(run.as_text()) == {"all-reduce": count + 2}


def test_a_collective_is_seen():
    text = "%a = f32[2,3]{1,0} all-gather(%x)\n%b = (f32[4]{0}, f32[]) all-reduce(%y, %z)\n"
    text += "%c = s32[4] all-reduce-start(%q)\n%d = f32[4] add(%a, %b)"
    assert said(text) == {"all-gather": 6, "all-reduce": 9}
