"""The adversarial losses: where they are least, their value by hand, and who counts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax.ops.adversarial import ADVERSARIAL

SQUARES, ENTROPY = ADVERSARIAL["least_squares"], ADVERSARIAL["cross_entropy"]
ALL = jnp.ones(4)


@pytest.mark.parametrize(("part", "target"), [("real", 1.0), ("fake", 0.0), ("fool", 1.0)])
def test_least_squares_is_nothing_at_its_target_alone_and_flat_there(part, target):
    loss = getattr(SQUARES, part)
    assert float(loss(jnp.full(4, target), ALL)) == 0
    assert np.array_equal(jax.grad(loss)(jnp.full(4, target), ALL), np.zeros(4))
    for away in (-0.5, 0.3):
        assert float(loss(jnp.full(4, target + away), ALL)) == pytest.approx(0.5 * away**2, rel=1e-5)


def test_least_squares_are_equations_5_and_6_by_hand():
    # D(x), D(s), D(x|c), D(s|c) of two films, at one scale.
    x, s, xc, sc = ([2.0, 1.0], [1.0, -2.0], [0.0, 3.0], [0.5, 0.5])
    valid = jnp.ones(2)
    d = sum(SQUARES.real(jnp.asarray(v), valid) for v in (x, xc))
    d += sum(SQUARES.fake(jnp.asarray(v), valid) for v in (s, sc))
    assert float(d) == pytest.approx(0.5 * (1 / 2 + 5 / 2 + 5 / 2 + 0.5 / 2))
    g = sum(SQUARES.fool(jnp.asarray(v), valid) for v in (s, sc))
    assert float(g) == pytest.approx(0.5 * (9 / 2 + 0.5 / 2))


@pytest.mark.parametrize(("part", "label"), [("real", 1.0), ("fake", 0.0), ("fool", 1.0)])
def test_cross_entropy_is_that_of_the_score_as_a_logit_and_falls_toward_its_side(part, label):
    loss = getattr(ENTROPY, part)
    score = jnp.asarray([-50.0, -1.0, 0.25, 50.0])
    expected = optax.sigmoid_binary_cross_entropy(score, jnp.full(4, label)).mean()
    np.testing.assert_allclose(loss(score, ALL), expected, rtol=1e-6)
    slope = np.asarray(jax.grad(loss)(jnp.zeros(4), ALL))
    assert ((slope < 0) == bool(label)).all()


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
@pytest.mark.parametrize("part", ["real", "fake", "fool"])
def test_padding_counts_neither_in_the_mean_nor_in_the_gradient(name, part):
    loss = getattr(ADVERSARIAL[name], part)
    score = jnp.asarray([0.3, -0.8, 7.0, -9.0])
    valid = jnp.asarray([1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(loss(score, valid), loss(score[:2], jnp.ones(2)), rtol=1e-6)
    slope = np.asarray(jax.grad(loss)(score, valid))
    np.testing.assert_allclose(slope[:2], jax.grad(loss)(score[:2], jnp.ones(2)), rtol=1e-6)
    assert np.array_equal(slope[2:], [0, 0])
    assert float(loss(score, jnp.zeros(4))) == 0  # not NaN
