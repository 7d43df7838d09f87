"""The floor: exclusive classes, findings with unknowns, penalties chosen by whole patients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cxrjax.errors import UserError
from cxrjax.metrics import classification
from cxrjax.studies import floor


def rows(n: int, seed: int, k: int = 3, pixels: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a pixel of its own for each finding."""
    rng = np.random.default_rng(seed)
    label = (rng.uniform(size=(n, k)) < 0.3).astype(np.float32)
    image = rng.normal(size=(n, pixels)).astype(np.float32)
    image[:, :k] += 2 * label
    return image, label


def test_each_finding_is_a_logistic_regression_of_its_own_known_films():
    train, label = rows(150, 0)
    films, _ = rows(40, 1)
    label[::5, 1] = np.nan
    found = floor.logreg32(train, label, films, 0, (0.05,))
    for c in range(3):
        known = ~np.isnan(label[:, c])
        scaler = StandardScaler().fit(train[known])
        model = LogisticRegression(C=0.05, max_iter=5000, tol=1e-6).fit(scaler.transform(train[known]), label[known, c])
        expected = model.predict_proba(scaler.transform(films))[:, 1]
        np.testing.assert_allclose(found[:, c], expected, atol=2e-3)


def test_a_finding_of_one_class_gives_its_rate():
    train, label = rows(60, 0, 4)
    label[:, 1], label[:, 2] = 0, 1
    label[:, 3] = np.nan
    found = floor.logreg32(train, label, rows(10, 1)[0], 0, (0.01, 0.1))
    np.testing.assert_array_equal(found[:, 1:], np.tile([0.0, 1.0, 0.5], (10, 1)))
    assert len(np.unique(found[:, 0])) == 10


def test_rows_decide_whether_classes_exclude_each_other():
    train, label = rows(90, 0)
    one = np.eye(3, dtype=np.float32)[np.arange(90) % 3]
    films = rows(20, 1)[0]
    np.testing.assert_allclose(floor.logreg32(train, one, films, 0).sum(axis=1), 1.0, atol=1e-12)
    assert np.ptp(floor.logreg32(train, label, films, 0).sum(axis=1)) > 0.01
    assert np.ptp(floor.logreg32(train, one, films, 0, exclusive=False).sum(axis=1)) > 0.01
    one[::4] = np.nan  # an unknown film takes no part
    known = ~np.isnan(one[:, 0])
    expected = floor.logreg32(train[known], one[known], films, 0)
    np.testing.assert_allclose(floor.logreg32(train, one, films, 0), expected, atol=1e-12)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_whole_patients_choose_the_penalty(is_exclusive):
    """Films of a patient are alike and labels are the patient's: a weak penalty learns faces by heart."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 5)
    sick = np.repeat((np.arange(40) % 2).astype(np.float32), 5)
    image = rng.normal(size=(40, 300))[patients] + 0.1 * rng.normal(size=(200, 300))
    image[:, :60] += 0.25 * (2 * sick[:, None] - 1)
    label = np.stack([1 - sick, sick], axis=1) if is_exclusive else np.stack([sick, sick], axis=1)
    for patient in (None, patients):
        ordered = sorted(penalty := (1e-4, 10.0))
        folds = list(floor._folds(label, patient, is_exclusive, 0))
        means = floor._validated(floor._softmax if is_exclusive else floor._sigmoid, image, label, folds, ordered)
        shared = [set(patients[a]) & set(patients[b]) for a, b in folds]
        if patient is None:
            assert all(shared)
            assert min(means) > 0.99  # a film of the same patient gives the label away
        else:
            assert not any(shared)
            assert max(means) < 0.99
        chosen = floor.logreg32(image, label, image, 0, penalty, patient, is_exclusive)
        expected = floor.logreg32(image, label, image, 0, (ordered[int(np.argmax(means))],), exclusive=is_exclusive)
        np.testing.assert_allclose(chosen, expected, atol=1e-9)


def test_rare_classes_and_weak_penalties_raise_no_warning():
    train, _ = rows(60, 0)
    rare = np.eye(3, dtype=np.float32)[np.r_[np.zeros(29, int), np.ones(28, int), 2, 2, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = floor.logreg32(train, rare, train, 0, (0.01, 1e4), np.arange(60) // 2)
    assert np.isfinite(found).all()
    assert classification.accuracy(rare.argmax(axis=1), found.argmax(axis=1)) > 0.6


def test_films_of_three_channels_give_their_mean():
    image = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(floor.small(image), floor.small(image.mean(axis=-1, keepdims=True)), atol=1e-6)
    assert floor.small(image[:0]).shape == (0, 1024)


def test_too_little_to_learn_from_is_told():
    train, label = rows(20, 0)
    with pytest.raises(UserError, match="known label"):
        floor.logreg32(train, np.full_like(label, np.nan), train, 0)
    with pytest.raises(UserError, match="one class only"):
        floor.logreg32(train, np.tile([[1.0, 0.0]], (20, 1)), train, 0)
    with pytest.raises(UserError, match="too few"):
        floor.logreg32(train, label, train, 0, (0.1, 1.0), np.zeros(20))


def squares(n: int, seed: int, contrast: float, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with a brighter square in every second film."""
    sick = np.arange(n) % 2
    image = np.random.default_rng(seed).uniform(0.2, 0.5, (n, size, size, 1)).astype(np.float32)
    image[sick == 1, size // 4 : size // 2, size // 4 : size // 2] += contrast
    return image, np.eye(2, dtype=np.float32)[sick]


@pytest.mark.parametrize("penalties", [(0.01,), (0.001, 0.1)])
def test_the_floor_learns_a_planted_difference(penalties):
    train, test = squares(60, 0, 0.1), squares(40, 1, 0.1)
    probability = floor.logreg32(floor.small(train[0]), train[1], floor.small(test[0]), seed=0, penalties=penalties)
    assert probability.shape == (40, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-9)
    assert (probability.argmax(axis=1) == test[1].argmax(axis=1)).mean() > 0.9


def test_the_floor_finds_nothing_where_there_is_nothing():
    train, test = squares(60, 0, 0.0), squares(200, 1, 0.0)
    probability = floor.logreg32(floor.small(train[0]), train[1], floor.small(test[0]), seed=0)
    _, low, high = classification.delong_interval(test[1][:, 1], probability[:, 1])
    assert low < 0.5 < high


@pytest.mark.parametrize("size", [32, 64, 80])
def test_small_films_are_area_means(size):
    image, _ = squares(3, 0, 0.2, size)
    small = floor.small(image)
    assert small.shape == (3, 1024)
    np.testing.assert_allclose(small.mean(axis=1), image.mean(axis=(1, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(floor.small(np.full_like(image, 0.3)), 0.3, atol=1e-6)
    if size == 64:
        blocks = image[..., 0].reshape(3, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(3, -1)
        np.testing.assert_allclose(small, blocks, atol=1e-6)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_neighbors_are_sklearns_by_the_cosine_of_standardized_rows(is_exclusive):
    train, label = rows(80, 0)
    if is_exclusive:
        label = np.eye(3, dtype=np.float32)[np.arange(80) % 3]
    films = rows(25, 1)[0]
    scaler = StandardScaler().fit(train)
    for count in (1, 7):
        found = floor.learned(floor.NEAREST, train, label, films, 0, (count,), exclusive=is_exclusive)
        model = KNeighborsClassifier(count, metric="cosine").fit(scaler.transform(train), label)
        each = model.predict_proba(scaler.transform(films))
        expected = np.stack([p[:, 1] for p in each], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_neighbors_of_unknown_label_are_not_asked_and_where_all_are_unknown_the_rate_is_said():
    train = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    label = np.array([[1, np.nan, 1], [np.nan, np.nan, 0], [0, 1, 1], [0, np.nan, 1]], float)
    found = floor.learned(floor.NEAREST, train, label, train[:1], 0, (2,), exclusive=False)
    np.testing.assert_allclose(found, [[1, 1, 0.5]])  # one known neighbor; none of the second, whose known rate is 1
    unknown = np.where(np.arange(3) == 1, np.nan, label)
    assert floor.learned(floor.NEAREST, train, unknown, train[:1], 0, (2,), exclusive=False)[0, 1] == 0.5


@pytest.mark.parametrize("method", [floor.LINEAR, floor.NEAREST])
def test_the_validation_part_chooses_the_setting_where_it_is_given(method):
    rng = np.random.default_rng(0)
    sick = np.arange(60) % 2
    label, train = np.eye(2, dtype=np.float32)[sick], rng.normal(size=(60, 40)) + 0.4 * sick[:, None]
    settings = (1e-4, 1e2) if method is floor.LINEAR else (1, 25)
    asked, (val, truth) = rng.normal(size=(30, 40)), (rng.normal(size=(40, 40)), np.arange(40) % 2)
    val += 0.4 * truth[:, None]
    each = [floor.learned(method, train, label, val, 0, (s,)) for s in settings]
    best = int(np.argmax([classification.auroc(truth, p[:, 1]) for p in each]))
    seen = []
    for validation in ((val, np.eye(2)[truth]), (val, np.eye(2)[1 - truth])):  # reversed, the worst is the best
        found = floor.learned(method, train, label, asked, 0, settings, validation=validation)
        alone = [floor.learned(method, train, label, asked, 0, (setting,)) for setting in settings]
        seen.append([np.allclose(found, one, atol=1e-6) for one in alone])
    assert seen[0] == [best == 0, best == 1]
    assert seen[1] == seen[0][::-1]
