import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.ops import losses

LOGITS = jax.random.normal(jax.random.key(0), (6, 3))
ONEHOT = jax.nn.one_hot(jnp.asarray([0, 1, 2, 0, 1, 2]), 3)
VALID = jnp.ones(6)


def test_softmax_is_the_mean_negative_log_probability():
    log = jax.nn.log_softmax(LOGITS)
    expected = -np.mean([log[i, c] for i, c in enumerate([0, 1, 2, 0, 1, 2])])
    np.testing.assert_allclose(losses.softmax_cross_entropy(LOGITS, ONEHOT, VALID), expected, rtol=1e-6)


def test_sigmoid_is_the_mean_bernoulli_loss():
    p = jax.nn.sigmoid(LOGITS)
    expected = -np.mean(np.where(ONEHOT > 0, np.log(p), np.log(1 - p)))
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(LOGITS, ONEHOT, VALID), expected, rtol=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_unknown_labels_and_padding_leave_value_and_gradient_alone(name):
    loss = losses.LOSSES[name]
    unknown = jnp.concatenate([ONEHOT, jnp.full((2, 3), jnp.nan)])
    logits = jnp.concatenate([LOGITS, 100 * jnp.ones((2, 3))])
    value, gradient = jax.value_and_grad(loss)(logits, unknown, jnp.ones(8))
    expected, expected_gradient = jax.value_and_grad(loss)(LOGITS, ONEHOT, VALID)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate([expected_gradient, np.zeros((2, 3))]), atol=1e-7)
    padded = loss(logits, jnp.nan_to_num(unknown), jnp.asarray([1.0] * 6 + [0.0] * 2))
    np.testing.assert_allclose(padded, expected, rtol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_batch_without_a_known_label_costs_nothing_and_moves_nothing(name):
    value, gradient = jax.value_and_grad(losses.LOSSES[name])(LOGITS, jnp.full((6, 3), jnp.nan), VALID)
    assert value == 0
    assert (np.asarray(gradient) == 0).all()


def test_class_weights_weigh_films_by_their_class():
    weight = jnp.asarray([1.0, 0.0, 0.0])
    only_first = losses.softmax_cross_entropy(LOGITS, ONEHOT, VALID, weight)
    expected = losses.softmax_cross_entropy(LOGITS[jnp.asarray([0, 3])], ONEHOT[jnp.asarray([0, 3])], VALID[:2])
    np.testing.assert_allclose(only_first, expected, rtol=1e-6)


def test_impossible_logits_of_other_classes_give_no_nan():
    logits = LOGITS.at[0, 1].set(-jnp.inf)
    value, gradient = jax.value_and_grad(losses.softmax_cross_entropy)(logits, ONEHOT, VALID)
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(gradient)).all()
