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


def test_the_two_spellings_of_cross_entropy_are_one_function():
    with jax.enable_x64():
        logits = jax.random.normal(jax.random.key(1), (64, 5), jnp.float64) * 4
        label = jax.nn.one_hot(jax.random.randint(jax.random.key(2), (64,), 0, 5), 5, dtype=jnp.float64)
        weight = jnp.asarray([1.0, 2.0, 0.5, 1.0, 3.0], jnp.float64)
        for extra in ((), (weight,)):
            a, da = jax.value_and_grad(losses.softmax_cross_entropy)(logits, label, jnp.ones(64), *extra)
            b, db = jax.value_and_grad(losses.sparse_cross_entropy)(logits, label, jnp.ones(64), *extra)
            np.testing.assert_allclose(a, b, rtol=1e-14)
            np.testing.assert_allclose(da, db, atol=1e-14)
    a, b = (f(LOGITS, ONEHOT, VALID) for f in (losses.softmax_cross_entropy, losses.sparse_cross_entropy))
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", losses.EXCLUSIVE)
def test_minus_infinity_on_other_classes_is_no_nan(name):
    logits = jnp.where(ONEHOT > 0, 2.0, jnp.where(jnp.arange(3)[None, :] == 1, -jnp.inf, LOGITS))
    value, gradient = jax.value_and_grad(losses.LOSSES[name])(logits, ONEHOT, VALID)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_focal_losses_without_gamma_are_plain_and_with_it_favor_the_hard():
    np.testing.assert_allclose(
        losses.focal_cross_entropy(LOGITS, ONEHOT, VALID, gamma=0.0),
        losses.softmax_cross_entropy(LOGITS, ONEHOT, VALID), rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        losses.sigmoid_focal_cross_entropy(LOGITS, ONEHOT, VALID, gamma=0.0),
        losses.sigmoid_cross_entropy(LOGITS, ONEHOT, VALID), rtol=1e-5,
    )  # fmt: skip
    easy, hard = jnp.asarray([[4.0, 0.0]]), jnp.asarray([[0.0, 4.0]])
    label, one = jnp.asarray([[1.0, 0.0]]), jnp.ones(1)
    plain = [losses.softmax_cross_entropy(x, label, one) for x in (easy, hard)]
    focal = [losses.focal_cross_entropy(x, label, one) for x in (easy, hard)]
    assert focal[0] / plain[0] < 0.01
    assert focal[1] / plain[1] > 0.9


def test_batch_weights_make_few_positives_weigh_as_much_as_many_negatives():
    label = jnp.zeros((8, 2)).at[0, 0].set(1.0)  # one positive of sixteen entries
    gradient = jax.grad(losses.batch_weighted_cross_entropy)(jnp.zeros((8, 2)), label, jnp.ones(8))
    np.testing.assert_allclose(-gradient[0, 0], gradient.sum() - gradient[0, 0], rtol=1e-5)
    no_positive = losses.batch_weighted_cross_entropy(jnp.zeros((8, 2)), jnp.zeros((8, 2)), jnp.ones(8))
    np.testing.assert_allclose(no_positive, np.log(2), rtol=1e-6)


def test_label_smoothing_keeps_the_sum_and_the_unknown():
    smoothed = losses.smooth(ONEHOT, 0.1, exclusive=True)
    np.testing.assert_allclose(smoothed.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(smoothed.max(), 0.9 + 0.1 / 3, rtol=1e-6)
    assert np.isnan(losses.smooth(jnp.asarray([[jnp.nan, 1.0]]), 0.1, exclusive=False)[0, 0])


def test_nt_xent_is_the_cross_entropy_of_the_partner_among_all_other_films():
    rng = np.random.default_rng(0)
    films = rng.normal(size=(6, 4))
    films /= np.linalg.norm(films, axis=1, keepdims=True)
    like = np.exp(films @ films.T / 0.5)
    np.fill_diagonal(like, 0)
    by_hand = [-np.log(like[i, (i + 3) % 6] / like[i].sum()) for i in range(6)]
    found = losses.nt_xent(jnp.asarray(films[:3]), jnp.asarray(films[3:]), jnp.ones(3), 0.5)
    assert float(found) == pytest.approx(np.mean(by_hand), rel=1e-5)
    padded = [jnp.concatenate([jnp.asarray(x), jnp.asarray(films[:1])]) for x in (films[:3], films[3:])]
    assert float(losses.nt_xent(*padded, jnp.array([1.0, 1, 1, 0]), 0.5)) == pytest.approx(float(found), rel=1e-5)
