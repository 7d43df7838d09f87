"""Is it still this patient's film?"""

import numpy as np
import pytest

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
