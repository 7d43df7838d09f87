"""A finished run of tiny networks, whose phases ended where chance began them: what reads runs is tried on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

import cxrjax
from cxrjax import defaults, files, manifest
from cxrjax.infer.finished import Run
from cxrjax.tasks import TASKS
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch, State

SIZE = 16
RESNET = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
UNET = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4, "patch": 2, "updown": "plain"}
CODEC = {"name": "autoencoder_tiny", "channels": (8, 8), "groups": 4, "latent": 2}


def config_of() -> Any:
    c = defaults.run()
    c.data = defaults.data("phantom", ("Normal", "Pneumonia"), SIZE)
    c.phases = ("classifier", "judge", "diffusion", "codec")
    adam = defaults.optim("adam", 1e-3)
    c.classifier = defaults.classify(RESNET, adam, 1, 4)
    c.judge = defaults.classify(RESNET, adam, 1, 4, seeds=1)
    c.diffusion = defaults.diffusion(UNET, adam, 1, 4, t_max=600)
    c.codec = defaults.autoencoder(CODEC, adam, adam, 1, 4, perceptual=0.0, given=())
    c.study = defaults.treatment(sampler={"stride": 100}, arms={"wide": {"mode": "time_gated", "power": 0.5}})
    return c


def _drawn(state: State) -> State:
    """Weights that answer something: fresh networks say nothing where their last layer begins at 0."""
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), (state.params, state.ema))
    return state.replace(params=moved[0], ema=moved[1])


def make(folder: Path) -> Run:
    """Writes the run; its judge has predictions of 40 validation films, as a comparison keeps them."""
    config = config_of()
    for i, name in enumerate(config.phases):
        task = TASKS[config[name].task](config[name], tuple(config.data.classes))
        state = _drawn(jax.jit(task.init)(jax.random.key(i), Batch.blank(1, SIZE, 2)))
        with Checkpoints(folder / "checkpoints" / name) as checkpoints:
            checkpoints.save(1, state, {}, {}, done=True)
    rng, label = np.random.default_rng(4), np.eye(2)[np.arange(40) % 2]
    logits = 2 * label + 2 * rng.standard_normal((40, 2))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    files.write_arrays(folder / "predictions" / "judge.val.npz", label=label, logits=logits, probability=probability)
    record = {"finished": True, "config": manifest.plain(config), "data": {"bit_depth": 12}}
    manifest.write_json(folder / "manifest.json", record)
    manifest.write_json(folder / "results.json", {"classifier": {}})
    return cxrjax.load(folder)
