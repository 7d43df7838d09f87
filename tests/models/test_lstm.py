"""The LSTM decoder: causal in the labels, the same when told what it would have said, a teacher of its encoder."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from cxrjax import models

K = 5


def _variables(net: Any, films: np.ndarray) -> Any:
    """Random variables from shapes alone: no initializer is compiled."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0), films)
    return jax.tree.map(lambda leaf: 0.5 + 0.4 * rng.normal(size=leaf.shape).astype(np.float32).clip(-1, 1), shapes)


@pytest.fixture(scope="module")
def decoder() -> tuple[Any, Any, Any]:
    """The variables, the features, and `label -> logits` in training (None runs freely)."""
    head = models.LstmHead(K, units=6)
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 4, 4, 8)).astype(np.float32)
    shapes = jax.eval_shape(head.init, jax.random.key(0), features)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return variables, features, jax.jit(lambda label: head.apply(variables, features, train=True, label=label)[0])


def _labels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 2, size=(3, K)).astype(np.float32)


def _with(label: np.ndarray, j: int, column: Any) -> np.ndarray:
    out = label.copy()
    out[:, j] = column
    return out


def _sigmoid(x: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x)))


@pytest.mark.parametrize("j", [0, 2, K - 1])
def test_a_label_moves_only_the_logits_after_it(decoder: tuple[Any, Any, Any], j: int) -> None:
    told, label = decoder[2], _labels()
    before, after = told(label), told(_with(label, j, 1 - label[:, j]))
    np.testing.assert_array_equal(before[:, : j + 1], after[:, : j + 1])
    assert (np.asarray(before)[:, j + 1 :] != np.asarray(after)[:, j + 1 :]).all()


def test_told_its_own_probabilities_it_says_the_same(decoder: tuple[Any, Any, Any]) -> None:
    told = decoder[2]
    free = told(None)
    np.testing.assert_allclose(told(_sigmoid(free)), free, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(told(np.full((3, K), np.nan, np.float32)), free, rtol=1e-5, atol=1e-5)
    assert not np.allclose(told(_labels()), free)


def test_an_unknown_label_is_replaced_by_its_own_probability(decoder: tuple[Any, Any, Any]) -> None:
    told, label = decoder[2], _labels()
    own = _sigmoid(told(label))[:, 1]
    gap = told(_with(label, 1, np.nan))
    np.testing.assert_allclose(gap, told(_with(label, 1, own)), rtol=1e-5, atol=1e-6)


def test_a_step_is_the_lstm_of_its_definition(decoder: tuple[Any, Any, Any]) -> None:
    """Hochreiter and Schmidhuber's gates with a forget gate, written out, on one-hot place and previous label."""
    variables, features, told = decoder
    params, label = variables["params"], _labels()
    pooled = features.mean((1, 2))
    h, c = (pooled @ params[name]["kernel"] + params[name]["bias"] for name in ("h0", "c0"))
    cell, out = params["steps"]["cell"], params["steps"]["out"]

    previous, expected = np.zeros(3), []
    for j in range(K):
        x = np.concatenate([np.tile(np.eye(K)[j], (3, 1)), previous[:, None]], 1)
        i, f, g, o = (x @ cell[f"i{n}"]["kernel"] + h @ cell[f"h{n}"]["kernel"] + cell[f"h{n}"]["bias"] for n in "ifgo")
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        expected.append((h @ out["kernel"] + out["bias"])[:, 0])
        previous = label[:, j]
    np.testing.assert_allclose(told(label), np.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_encoder_and_labels_may_be_unknown() -> None:
    net = models.build("densenet_lstm_tiny", K, blocks=(1,), growth=4, stem_features=4, units=6)
    films = np.random.default_rng(3).uniform(size=(3, 8, 8, 1)).astype(np.float32)
    variables, label = _variables(net, films), _with(_labels(), 1, [np.nan, 0, 1])

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> jax.Array:
        given = {**variables, "params": params}
        (logits, _), _ = net.apply(given, films, train=True, label=label, mutable=["batch_stats"])
        return (logits[:, -1] ** 2).sum()  # the last label alone: back through every step

    grads = gradient(variables["params"])
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(grads)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert np.abs(grads["backbone"]["conv0"]["kernel"]).max() > 0
