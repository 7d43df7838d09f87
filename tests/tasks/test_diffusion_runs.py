"""Every diffusion task through the same trials: killed and resumed, on several devices, in bfloat16."""

from functools import partial

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults
from cxrjax.tasks import TASKS
from cxrjax.train import log as logs
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

KINDS = ("gaussian", "simplex", "map", "latent")
# A latent holds what could go wrong with the others, too; a killed run of any task is tried in train/test_loop.py.
BY_COST = [pytest.param(kind, marks=() if kind == "latent" else pytest.mark.slow) for kind in KINDS]
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def task_of(kind, dtype="float32", optimizer="adamw", lr=1e-3):
    net = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4, "patch": 2, "updown": "plain", "dtype": dtype}
    changes = {
        "gaussian": {}, "simplex": {"noise": "simplex", "simplex": {"wavelength": 8.0}}, "map": {"time": "map"},
        "latent": {},
    }[kind]  # fmt: skip
    config = defaults.diffusion(net, defaults.optim(optimizer, lr), 200, 8, prediction="v", ema=0.9, **changes)
    if kind != "latent":
        return TASKS["ddpm"](config, ("Normal", "Pneumonia"))
    codec = {"name": "autoencoder_tiny", "channels": (8, 8), "groups": 4, "latent": 2, "patch": 1, "dtype": dtype}
    with config.unlocked():
        config.autoencoder = ConfigDict({"net": codec})
    config.net.patch = 1
    return TASKS["latent_ddpm"](config, ("Normal", "Pneumonia"))


def batch(seed=0):
    rows = np.linspace(0, 1, 16, dtype=np.float32)[None, :, None, None]
    image = 0.7 * rows + 0.3 * np.random.default_rng(seed).uniform(0, 1, (8, 16, 16, 1)).astype(np.float32)
    return Batch(image, np.zeros((8, 2), np.float32), np.ones(8, np.float32), np.arange(8, dtype=np.int32))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_continues_to_the_same_bits(kind, tmp_path, stream):
    task = task_of(kind)

    def fit(folder, stop_at=None):
        folder.mkdir(exist_ok=True)
        with logs.Log(folder) as log:
            return loop.fit(
                task, loop.Phase("diffusion", 5, log_every=2, eval_every=4, save_every=2),
                stream=stream(batch, stop_at), evals=lambda: iter([batch(seed=99)]), example=batch(), workdir=folder,
                mesh=meshes.make(1),
                key=jax.random.key(5), log=log,
            )  # fmt: skip

    whole = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", stop_at=3)
    resumed = fit(tmp_path / "killed")
    assert jax.tree.structure(resumed) == jax.tree.structure(whole)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if kind == "latent":
        assert float(resumed.stats["latent"]["scale"]) > 0


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
@pytest.mark.parametrize("kind", BY_COST)
def test_one_and_eight_devices_give_the_same_gradients(kind):
    task = task_of(kind, optimizer="sgd", lr=1.0)
    start = jit(task.init)(jax.random.key(0), batch())
    # Off zero, where a fresh network answers nothing and most gradients vanish.
    start = start.replace(params=jax.tree.map(lambda p: p + 0.02, start.params))
    step = jit(task.step)

    def run(devices):
        mesh = meshes.make(devices)
        placed = meshes.replicate(mesh, (start, jax.random.key(1)))
        after, scalars = step(placed[0], meshes.put(mesh, batch()), placed[1])
        gradients = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), start.params, after.params)  # lr 1
        return gradients, jax.tree.map(np.asarray, (after.stats, scalars))

    one, eight = run(1), run(8)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(a).max())))
    assert float(one[1][1]["grad_norm"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_trains_to_the_losses_of_float32(kind):
    mean = {}
    for dtype in ("float32", "bfloat16"):
        task = task_of(kind, dtype)
        state = jax.jit(task.init)(jax.random.key(0), batch())
        step, losses = jax.jit(task.step, donate_argnums=0), []
        for i in range(200):
            state, scalars = step(state, batch(seed=i), jax.random.key(i))
            losses.append(scalars["loss"])
        mean[dtype] = np.asarray(losses).reshape(4, 50).mean(axis=1)
    assert mean["float32"][-1] < 0.9 * mean["float32"][0]  # it learns at all
    np.testing.assert_allclose(mean["bfloat16"], mean["float32"], rtol=0.01)
