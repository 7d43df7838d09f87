"""Hyper-parameters in the state: the same optimizer as one built with them, and stacked cells that do not mix."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import defaults
from cxrjax.tasks import cells as grid
from cxrjax.tasks import classify
from cxrjax.train import mesh as meshes
from cxrjax.train import optim
from cxrjax.types import Batch, State

PARAMS = {"w": jnp.asarray([[1.0, -2.0], [0.5, 3.0]])}


def batch(n=8):
    rng = np.random.default_rng(0)
    image, label = rng.uniform(0, 1, (n, 4, 4, 1)).astype(np.float32), np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    return Batch(image, label, np.ones(n, np.float32), np.arange(n, dtype=np.int32))


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, **_):
        return nn.Dense(2)(nn.Dense(4)(x.reshape(len(x), -1))), {}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(classify, "network", lambda config, num_classes: Small())
    return defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), steps=4, batch=8, log_every=2)


def with_opt(opt):
    return State(step=jnp.int32(0), params={}, stats={}, opt={"net": opt}, ema={}, frozen={}, evals={})


@pytest.mark.parametrize("name", ["sgd", "nag", "adam", "adamw"])
def test_it_is_the_optimizer_built_with_these_numbers(name):
    extras = {"weight_decay": 0.01, "clip": 1.0, "schedule": "cosine", "warmup": 2}
    plain = optim.make(defaults.optim(name, 0.02, b1=0.7, **extras), 10)
    hyper = grid.hyper_optimizer(defaults.optim("adam", 9.0, **extras), name, 10)
    state = grid.with_hyper(with_opt(hyper.init(PARAMS)), 0.02, 0.7).opt["net"]

    def path(tx, state):
        params = PARAMS
        for i in range(5):
            grads = jax.tree.map(lambda p, i=i: p * (i + 1) - 1, params)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params["w"]

    expected = jax.jit(lambda: path(plain, plain.init(PARAMS)))()
    np.testing.assert_allclose(jax.jit(lambda: path(hyper, state))(), expected, rtol=1e-5)


def test_one_trace_serves_all_numbers():
    tx, traces = grid.hyper_optimizer(defaults.optim("adam", 1.0), "nag", 10), []

    @jax.jit
    def step(state):
        traces.append(1)
        return tx.update(PARAMS, state.opt["net"], PARAMS)[0]

    steps = [step(grid.with_hyper(with_opt(tx.init(PARAMS)), lr, m))["w"] for lr in (0.1, 0.2) for m in (0.3, 0.9)]
    assert len(traces) == 1
    np.testing.assert_allclose(steps[2], 2 * steps[0], rtol=1e-6)
    np.testing.assert_allclose(steps[1] / steps[0], jnp.full((2, 2), 1.9 / 1.3), rtol=1e-6)


def test_a_cell_is_the_same_whatever_its_neighbors_do(config):
    cells = [grid.Cell("small", "sgd", lr, m) for lr, m in ((0.1, 0.0), (0.1, 0.9), (1e30, 0.9))]
    mesh = meshes.make(1)
    task, alone = grid.together(config, 2, cells, mesh), grid.alone(config, 2, "sgd")
    key, films = jax.random.key(0), batch()
    stacked, step, step_alone = jax.jit(task.init)(key, films), jax.jit(task.step), jax.jit(alone.step)
    fresh = jax.jit(alone.init)(key, films)
    single = [grid.with_hyper(fresh, cell.lr, cell.momentum) for cell in cells[:2]]
    for i in range(6):
        stacked, scalars = step(stacked, films, jax.random.key(i))
        single = [step_alone(state, films, jax.random.key(i))[0] for state in single]
        assert all(np.isfinite(v) for v in scalars.values())
    assert float(scalars["live"]) == pytest.approx(2 / 3)
    assert stacked.evals["dead"].tolist() == [False, False, True]
    assert jax.tree.all(jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), stacked.params))
    for i, state in enumerate(single):
        for a, b in zip(jax.tree.leaves(stacked.params), jax.tree.leaves(state.params), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-6)
    kernel = stacked.params["net"]["Dense_0"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])


def test_a_passing_fault_kills_no_cell_and_a_whole_window_of_them_does(config):
    cells = [grid.Cell("small", "sgd", 0.1, 0.9)] * 2
    task = grid.together(config, 2, cells, meshes.make(1))  # windows of two steps
    good, bad = batch(), batch().replace(image=batch().image * np.nan)
    state, step = jax.jit(task.init)(jax.random.key(0), good), jax.jit(task.step)
    for films, dead in ((good, False), (bad, False), (bad, False), (good, False), (bad, False), (bad, True)):
        before = state.params
        state, scalars = step(state, films, jax.random.key(0))
        assert state.evals["dead"].tolist() == [dead, dead]
        moved = not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before, state.params))
        assert moved == (films is good)
        assert float(scalars["live"]) == (films is good)
    after, _ = step(state, good, jax.random.key(0))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), after.params, state.params))


def test_each_cell_has_rows_and_figures_of_its_own(config):
    cells = [grid.Cell("small", "sgd", 0.1, m) for m in (0.3, 0.9)]
    task = grid.together(config, 2, cells, meshes.make(1))
    label = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    logits = np.stack([8 * label - 4, 4 - 8 * label], axis=1)  # (4, 2 cells, 2)
    summary = task.summarize({"logits": logits, "label": label, "dead": np.zeros((4, 2), bool)})
    assert (summary[f"{cells[0].name}/accuracy"], summary[f"{cells[1].name}/accuracy"]) == (1, 0)
    logits[2, 1, 0] = np.inf
    broken = task.summarize({"logits": logits, "label": label, "dead": np.ones((4, 2), bool)})
    assert broken[f"{cells[0].name}/auroc"] == 1
    assert np.isnan(broken[f"{cells[1].name}/auroc"])
    assert broken[f"{cells[0].name}/diverged"] == 1


def test_taking_cells_keeps_their_states_and_the_step(config):
    cells = [grid.Cell("small", "adam", lr, 0.9) for lr in (0.1, 0.2, 0.3)]
    task = grid.together(config, 2, cells, meshes.make(1))
    state = jax.jit(task.init)(jax.random.key(0), batch()).replace(step=jnp.int32(7))
    taken = grid.take(state, [2, 0])
    assert int(taken.step) == 7
    np.testing.assert_allclose(taken.opt["net"].hyperparams["learning_rate"], [0.3, 0.1], rtol=1e-6)
