"""Embeddings that tell patients apart: what a step learns, and what is refused."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import optax
import pytest

from cxrjax import defaults, models
from cxrjax.errors import UserError
from cxrjax.ops import augment
from cxrjax.tasks import classify, identify
from cxrjax.types import Batch

NET = models.build("resnet_tiny", num_classes=8, blocks=(1, 1), widths=(8, 16))
TX = optax.adam(3e-3)
OPTIONS = identify.Options(0.2, classify.Options(normalize="unit", ranges=augment.Ranges(exposure=0.05)))
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def pairs(n: int = 8, size: int = 16) -> Batch:
    """Each patient a coarse pattern, each film its own grain."""
    rng = np.random.default_rng(0)
    patient = rng.uniform(0.2, 0.8, (n, 4, 4, 1)).repeat(size // 4, axis=1).repeat(size // 4, axis=2)
    image = np.clip(patient + rng.normal(0, 0.05, (n, size, size, 2)), 0, 1).astype(np.float32)
    return Batch(image, np.zeros((n, 0), np.float32), np.ones(n, np.float32), np.arange(n, dtype=np.int32))


def test_steps_bring_films_of_a_patient_together_and_evaluation_says_so():
    state = jit(partial(identify.init, NET, TX, OPTIONS))(jax.random.key(0), pairs())
    step = jit(partial(identify.step, NET, TX, OPTIONS))
    seen = []
    for i in range(12):
        state, scalars = step(state, pairs(), jax.random.key(i))
        seen.append(float(scalars["loss"]))
    assert seen[-1] < 0.7 * seen[0]
    rows = jit(partial(identify.predict, NET, OPTIONS))(state, pairs(), jax.random.key(0))
    rows = jax.tree.map(np.asarray, rows)
    for name in ("first", "second"):
        np.testing.assert_allclose(np.linalg.norm(rows[name], axis=1), 1, rtol=1e-5)
    same = identify.summarize(OPTIONS, rows)
    turned = identify.summarize(OPTIONS, {"first": rows["first"], "second": np.roll(rows["second"], 1, axis=0)})
    assert same["auroc"] > 0.9 > turned["auroc"]
    assert same["loss"] < turned["loss"]
    assert float(identify.on_eval(state, same).evals["best_loss"]) == pytest.approx(same["loss"])


def test_a_phase_is_bound_to_its_options():
    config = defaults.identify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), 2, 4, width=12, shift=0.1)
    assert identify.options_of(config).seen.ranges.on == ("shift",)
    blank = Batch.blank(2, 16, 2)
    state = jax.eval_shape(identify.make(config).init, jax.random.key(0), blank)
    assert state.params["net"]["head"]["classes"]["kernel"].shape[-1] == 12
    config.temperature = 0.0
    with pytest.raises(UserError, match=r"temperature = 0\.0: expected a number above 0"):
        identify.make(config)
