"""Is it still this patient's film?"""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxrjax.errors import UserError
from cxrjax.metrics import identity

FILMS = np.random.default_rng(0).uniform(0, 1, (6, 8, 8))


def test_a_film_is_first_among_itself_and_others():
    assert identity.ranks(FILMS, FILMS).tolist() == [1] * 6
    brighter = 0.5 * FILMS + 0.2  # exposure is no identity
    assert identity.ranks(brighter, FILMS).tolist() == [1] * 6


def test_a_film_that_became_another_is_last_or_nearly():
    shuffled = FILMS[[1, 0, 2, 3, 4, 5]]
    ranks = identity.ranks(shuffled, FILMS)
    assert (ranks[:2] > 1).all()
    assert ranks[2:].tolist() == [1] * 4


def test_a_negative_is_farthest():
    assert identity.ranks(1 - FILMS, FILMS).tolist() == [6] * 6


def test_cosine_is_that_of_the_angle():
    a = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = np.array([[0.0, 2.0], [3.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(identity.cosine(a, b), [0.0, 1.0, np.nan], atol=1e-12)


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="one shape"):
        identity.ranks(FILMS, FILMS[:3])
    with pytest.raises(UserError, match="one shape"):
        identity.cosine(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_film_that_is_no_film_is_not_its_own_patient(value):
    films = np.random.default_rng(0).random((3, 8, 8))
    treated = films.copy()
    treated[1, 2, 3] = value
    with pytest.raises(UserError, match="NaN or infinite"):
        identity.ranks(treated, films)


LIKE = np.array([[0.9, 0.1, 0.5], [0.2, 0.4, 0.4], [0.3, 0.6, 0.8]])


def test_verification_counts_pairs_of_one_patient_above_pairs_of_two():
    # Of 18 comparisons: 0.9 and 0.8 are above all six, 0.4 above three and level with one.
    assert identity.verification(LIKE) == pytest.approx((6 + 6 + 3 + 1 + 0.5 * 1 - 1) / 18)
    assert identity.verification(np.eye(4)) == 1
    assert identity.verification(np.ones((4, 4))) == 0.5
    truth, score = np.eye(3).ravel(), LIKE.ravel()
    assert identity.verification(LIKE) == pytest.approx(roc_auc_score(truth, score))


def test_resamples_of_patients_keep_a_sure_answer_and_spread_an_unsure_one():
    assert np.nanmin(identity.verification_draws(np.eye(8), 50)) == 1  # a patient drawn twice is no second one
    drawn = identity.verification_draws(np.random.default_rng(0).normal(size=(30, 30)), 200)
    assert 0.02 < np.nanstd(drawn) < 0.1
    assert np.nanmean(drawn) == pytest.approx(0.5, abs=0.1)


def test_likenesses_are_cosines_and_correlations():
    a, b = np.array([[1.0, 0], [0, 0], [3, 4]]), np.array([[2.0, 0], [0, 1]])
    np.testing.assert_allclose(identity.similarity(a, b), [[1, 0], [0, 0], [0.6, 0.8]], atol=1e-12)
    flat = FILMS.reshape(6, -1)
    np.testing.assert_allclose(identity.correlation(FILMS[:2], FILMS), np.corrcoef(flat)[:2], atol=1e-12)
    np.testing.assert_array_equal(identity.ranks_in(LIKE), [1, 1, 1])
    np.testing.assert_array_equal(identity.ranks_in(LIKE[:, [1, 0, 2]]), [3, 3, 1])
