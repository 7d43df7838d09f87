"""Damage of films: none at no strength, more with every strength, the same for a film whatever is beside it."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax import defaults
from cxrjax.data import corruptions, phantom
from cxrjax.errors import UserError

STRENGTHS = {kind: values for kind, (values, _) in defaults.DAMAGE.items()}
parametrize = pytest.mark.parametrize("kind", corruptions.KINDS)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.stack([phantom.render(70 + i, 128, {"Pneumonia": 0.3 * i}).image for i in range(4)])


def changed(films: np.ndarray, kind: str, strength: float, seed: int = 0) -> np.ndarray:
    """Mean absolute change of each film, in grays."""
    found = corruptions.damaged(films, np.arange(len(films)), kind, strength, seed)
    assert found.shape == films.shape
    assert found.dtype == np.uint8
    return np.abs(found.astype(float) - films).mean(axis=(1, 2))


@parametrize
def test_no_strength_is_the_film_itself(films, kind):
    most = changed(films, kind, corruptions.KINDS[kind].none).max()
    assert most < 1 if kind == "jpeg" else most == 0  # quality 100 still rounds


@parametrize
def test_a_film_is_damaged_more_with_every_strength(films, kind):
    each = np.stack([changed(films, kind, strength) for strength in (corruptions.KINDS[kind].none, *STRENGTHS[kind])])
    assert (np.diff(each, axis=0) > 0).all()


@parametrize
def test_a_film_is_damaged_alike_whatever_is_beside_it_and_otherwise_by_another_seed(films, kind):
    strength = STRENGTHS[kind][-1]
    index = np.array([12, 3, 40, 8])
    all_four = corruptions.damaged(films, index, kind, strength, 5)
    np.testing.assert_array_equal(corruptions.damaged(films[2:3], index[2:3], kind, strength, 5), all_four[2:3])
    others = [corruptions.damaged(films, index, kind, strength, seed) for seed in range(6, 14)]
    drawn = kind not in ("blur", "jpeg", "downscale")
    assert any((other != all_four).any() for other in others) == drawn


def test_each_kind_does_what_it_is_called(films):
    film = films[:1] // 2 + 64  # far from black and white, where all is cut

    def one(kind: str, strength: float, seed: int) -> np.ndarray:
        return corruptions.damaged(film, np.zeros(1, int), kind, strength, seed).astype(float)

    brighter = {one("exposure", 0.2, seed).mean() > film.mean() for seed in range(8)}
    assert brighter == {True, False}  # both directions are drawn
    for seed in range(4):
        spread = one("contrast", 1.2, seed)
        assert abs(spread.mean() - film.mean()) < 1
        assert min(abs(spread.std() / film.std() - factor) for factor in (1.2, 1 / 1.2)) < 0.01
    black = corruptions.damaged(np.zeros_like(film), np.zeros(1, int), "gamma", 1.5, 0)
    assert not black.any()
    assert np.abs(np.diff(one("blur", 0.03, 0))).mean() < np.abs(np.diff(film.astype(float))).mean()
    assert abs((one("noise", 0.04, 0) - film).std() - 0.04 * 255) < 0.5
    turned = one("rotation", 90, 0)[0]
    assert min(np.abs(np.rot90(film[0], k) - turned).mean() for k in (1, 3)) < 1


def test_strengths_that_cannot_be_are_told_by_kind():
    corruptions.check(STRENGTHS, "study.robustness.kinds")
    assert STRENGTHS.keys() == corruptions.KINDS.keys()
    assert {len(values) for values in STRENGTHS.values()} == {5}
    with pytest.raises(UserError, match=r"study\.robustness\.kinds.*did you mean 'blur'"):
        corruptions.check({"blurr": (1.0,)}, "study.robustness.kinds")
    for kind, wrong in (
        ("noise", (0.2, 0.1)),
        ("noise", (0.0, 0.1)),
        ("jpeg", (10, 50)),
        ("crop", (0.95,)),
        ("blur", ()),
    ):
        with pytest.raises(UserError, match=rf"kinds\.{kind} = .*each stronger than the one before"):
            corruptions.check({kind: wrong}, "study.robustness.kinds")
