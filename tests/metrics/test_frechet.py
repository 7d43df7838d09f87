"""Fréchet distance against closed forms, its intervals against simulation; KID and the Inception score."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, stats

from cxrjax.errors import UserError
from cxrjax.metrics import frechet, generative


def normal(rng, n, d, shift=0.0, scale=1.0):
    return rng.normal(0, 1, (n, d)) * scale + shift


def with_covariance(rng, n, cov):
    """(n, d) features of mean 0 whose sample covariance is cov."""
    q, _ = np.linalg.qr(np.c_[np.ones(n), normal(rng, n, len(cov))])
    return q[:, 1:] @ np.linalg.cholesky(cov).T * np.sqrt(n - 1)


def by_moments(a, b):
    """The distance as it is usually printed, with sqrtm of the product."""
    p, q = (np.cov(x, rowvar=False) for x in (a, b))
    root = linalg.sqrtm(p @ q)
    return ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(p + q) - 2 * np.trace(root).real


@pytest.mark.parametrize(("n", "d", "scale"), [(575, 1024, 1.0), (575, 1024, 0.3), (300, 14, 1.0), (60, 20, 1e3)])
def test_identical_sets_are_at_zero(n, d, scale):
    x = normal(np.random.default_rng(1), n, d, scale=scale)
    assert 0 <= frechet.distance(x, x) < 1e-12
    assert 0 <= frechet.distance(x, x[::-1]) < 1e-12


def test_identical_singular_sets_are_at_zero():
    rng = np.random.default_rng(2)
    x = normal(rng, 300, 4) @ normal(rng, 4, 14)  # rank 4 of 14
    x[:, 5] = 7.0
    assert 0 <= frechet.distance(x, x[rng.permutation(300)]) < 1e-12
    assert frechet.distance(np.ones((9, 3)), np.ones((5, 3)) + 2) == pytest.approx(12, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(100, 6), (20, 40)])
def test_a_shift_of_the_mean_is_its_squared_length(n, d):
    rng = np.random.default_rng(3)
    x, shift = normal(rng, n, d), normal(rng, 1, d)
    assert frechet.distance(x, x + shift) == pytest.approx((shift**2).sum(), rel=1e-12)


def test_commuting_covariances_have_a_closed_form():
    rng = np.random.default_rng(4)
    p, q = rng.uniform(0.1, 3, 8), rng.uniform(0.1, 3, 8)
    a, b = with_covariance(rng, 40, np.diag(p)), with_covariance(rng, 70, np.diag(q)) + 0.25
    expected = 8 * 0.25**2 + ((np.sqrt(p) - np.sqrt(q)) ** 2).sum()
    assert frechet.distance(a, b) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("n", "m", "d"), [(90, 60, 7), (12, 60, 30), (12, 20, 30), (25, 200, 30)])
def test_symmetric_and_invariant_under_rotation(n, m, d):
    rng = np.random.default_rng(5)
    a, b = normal(rng, n, d), normal(rng, m, d, 0.3, 2.0)
    turn = stats.ortho_group.rvs(d, random_state=6)
    value = frechet.distance(a, b)
    assert frechet.distance(b, a) == pytest.approx(value, rel=1e-12)
    assert frechet.distance(a @ turn, b @ turn) == pytest.approx(value, rel=1e-12)
    assert frechet.distance(3 * a, 3 * b) == pytest.approx(9 * value, rel=1e-12)


def test_equals_sqrtm_where_that_is_sound():
    rng = np.random.default_rng(7)
    a, b = normal(rng, 200, 10) @ normal(rng, 10, 10), normal(rng, 150, 10, 0.2) @ normal(rng, 10, 10)
    assert frechet.distance(a, b) == pytest.approx(by_moments(a, b), rel=1e-9)


def test_fewer_rows_than_features_agree_with_many():
    rng = np.random.default_rng(8)
    a, b = normal(rng, 9, 5), normal(rng, 11, 5, 0.5, 1.5)
    wide = stats.ortho_group.rvs(30, random_state=9)[:5]  # the same figures among 30 features
    assert frechet.distance(a @ wide, b @ wide) == pytest.approx(by_moments(a, b), rel=1e-9)
    many = normal(rng, 80, 5)
    assert frechet.distance(a @ wide, many @ wide) == pytest.approx(frechet.distance(a, many), rel=1e-9)
    a, b = normal(rng, 30, 5), normal(rng, 24, 5, 0.5, 1.5)
    short, long = frechet.draws(a @ wide, b @ wide, 20), frechet.draws(a, b, 20)
    np.testing.assert_allclose(short, long, rtol=1e-9)


def test_draws_are_distances_of_halves(monkeypatch):
    rng = np.random.default_rng(10)
    a = np.repeat([[0.0, 0.0], [1.0, 3.0]], 2, axis=0)  # halves of four films: six, of three kinds
    b = normal(rng, 4, 2)
    pairs = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    possible = np.unique(np.round([frechet.distance(a[i], b[j]) for i in pairs for j in pairs], 8))
    found = frechet.draws(a, b, 400, seed=1)
    np.testing.assert_array_equal(np.unique(np.round(found, 8)), possible)
    np.testing.assert_array_equal(found, frechet.draws(a, b, 400, seed=1))
    assert (found != frechet.draws(a, b, 400, seed=2)).any()
    whole = frechet.draws(np.repeat(a, 3, axis=0), b, 50, groups=np.repeat(np.arange(4), 3))
    assert len(np.unique(np.round(whole, 8))) <= 18  # patients stay together
    monkeypatch.setattr(frechet, "_CELLS", 7 * 8)  # seven halves at a time
    np.testing.assert_allclose(frechet.draws(a, b, 400, seed=1), found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.1, 1.1), (0.5, 1.4)])
def test_intervals_hold_their_truth(shift, scale):
    """95 % intervals, 100 replicates: at or above 0.90 less two standard errors (measured 0.93 to 1)."""
    rng, n, d = np.random.default_rng(11), 200, 4
    base = np.linspace(0.5, 1.4, d)

    def pair():
        return normal(rng, n, d, scale=base), normal(rng, n, d, shift, scale * base)

    limit = d * shift**2 + ((scale - 1) ** 2 * base**2).sum()
    expected = np.mean([frechet.distance(*pair()) for _ in range(2000)])
    found = [frechet.estimate(*pair(), draws=200, seed=i) for i in range(100)]
    assert all(e.low <= e.value <= e.high and e.debiased_low <= e.debiased <= e.debiased_high for e in found)
    assert all(e.low >= 0 for e in found)
    assert np.mean([e.low <= expected <= e.high for e in found]) >= 0.84
    assert np.mean([e.debiased_low <= limit <= e.debiased_high for e in found]) >= 0.84
    debiased, values = np.array([(e.debiased, e.value) for e in found]).T
    error = debiased.std() / 10
    assert abs(debiased.mean() - limit) < 3.5 * error
    if shift < 0.5:
        assert abs(values.mean() - limit) > 3.5 * error  # the bias that was taken off
    lengths = np.array([e.high - e.low for e in found])
    assert 0.85 < lengths.mean() / (3.92 * values.std()) < 2  # nor by being needlessly wide


def test_films_of_one_patient_widen_the_interval():
    rng = np.random.default_rng(12)
    patients = np.repeat(np.arange(60), 5)
    real, made = normal(rng, 60, 3)[patients] + normal(rng, 300, 3, scale=0.1), normal(rng, 300, 3, 1.0)
    alone, together = frechet.estimate(real, made, 300), frechet.estimate(real, made, 300, groups=patients)
    assert 1.4 < (together.high - together.low) / (alone.high - alone.low) < 2.4  # sqrt(3) in theory
    assert together.debiased < alone.debiased


def test_floor_is_the_distance_of_two_sets_of_n():
    rng = np.random.default_rng(13)
    pairs = np.array([frechet.distance(normal(rng, 150, 6), normal(rng, 150, 6)) for _ in range(300)])
    floors = np.array([frechet.floor(normal(rng, 150, 6), seed=i) for i in range(20)])
    error = np.hypot(pairs.std() / np.sqrt(300), floors.std() / np.sqrt(20))
    assert abs(floors.mean() - pairs.mean()) < 4 * error + 0.02 * pairs.mean()
    x = normal(rng, 101, 3)
    assert frechet.floor(x, 5, seed=1) == frechet.floor(x, 5, seed=1) != frechet.floor(x, 5, seed=2)
    assert frechet.floor(2 * x) == pytest.approx(4 * frechet.floor(x))


def test_to_infinity_takes_the_bias_off():
    rng = np.random.default_rng(14)
    shifts = {0.0: 0.0, 0.5: 10 * 0.5**2}
    for shift, limit in shifts.items():
        sets = [(normal(rng, 100, 10), normal(rng, 120, 10, shift)) for _ in range(12)]
        plain = np.array([frechet.distance(*s) for s in sets])
        far = np.array([frechet.to_infinity(*s, seed=i) for i, s in enumerate(sets)])
        assert abs(far.mean() - limit) < 4 * far.std() / np.sqrt(12)
        assert plain.mean() - limit > 3 * abs(far.mean() - limit)


def test_difference_of_two_models():
    rng = np.random.default_rng(15)
    real, a, b, worse = normal(rng, 200, 4), normal(rng, 200, 4), normal(rng, 160, 4), normal(rng, 200, 4, 0.5)
    forth, value = frechet.difference(real, a, b, 300)
    back, opposite = frechet.difference(real, b, a, 300)
    assert value == -opposite == frechet.distance(real, a) - frechet.distance(real, b)
    np.testing.assert_allclose(np.quantile(forth, [0.1, 0.5, 0.9]), -np.quantile(back, [0.9, 0.5, 0.1]), atol=0.03)
    low, high = frechet.reflected(value, forth)[1:]
    assert low < 0 < high
    found, value = frechet.difference(real, worse, a, 300)
    assert frechet.reflected(value, found).low > 0.2
    alone = frechet.draws(real, worse, 300) - frechet.draws(real, a, 300, seed=1)
    assert found.std() < alone.std()  # one half of real for both


def test_equal_models_differ_by_zero_on_average():
    """95 % intervals of 80 replicates hold 0 in 0.90 of them or more, less two standard errors."""
    rng = np.random.default_rng(16)
    held, values = [], []
    for i in range(80):
        found, value = frechet.difference(
            normal(rng, 150, 4), normal(rng, 150, 4, 0.3), normal(rng, 150, 4, 0.3), 200, i
        )
        interval = frechet.reflected(value, found)
        held.append(interval.low <= 0 <= interval.high)
        values.append(value)
    assert np.mean(held) >= 0.83
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(80)


def test_reflected_mirrors_the_quantiles():
    assert frechet.reflected(1.0, np.linspace(1, 3, 101), 0.9) == pytest.approx((1.0, -0.9, 0.9))


def kernel(x, y):
    return (x @ y / len(x) + 1) ** 3


def test_kid_equals_its_definition():
    rng = np.random.default_rng(17)
    a, b = normal(rng, 7, 3), normal(rng, 5, 3, 0.4)
    expected = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    expected += np.mean([kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    expected -= 2 * np.mean([kernel(x, y) for x in a for y in b])
    assert generative.kid(a, b)[0] == pytest.approx(expected, rel=1e-12)
    assert generative.kid(b, a) == pytest.approx(generative.kid(a, b), rel=1e-12)


def kid_of_normals(d, shift):
    """KID of N(0, 1) and N(shift, 1) of d features, from the first three moments of x.y."""

    def mean(p, q):  # means p and q in every feature
        m, p, q = d * p * q, d * p**2, d * q**2
        moments = (1, m, m**2 + p + q + d, m**3 + 3 * m * q + 3 * m * (p + d + 2))
        return sum(c * t / d**i for i, (c, t) in enumerate(zip((1, 3, 3, 1), moments, strict=True)))

    return mean(0, 0) + mean(shift, shift) - 2 * mean(0, shift)


@pytest.mark.parametrize(("shift", "m"), [(0.0, 100), (0.3, 100), (0.6, 60)])
def test_kid_is_unbiased_and_knows_its_error(shift, m):
    """95 % intervals, 400 replicates: at or above 0.90 less two standard errors (measured 0.91 to 1)."""
    rng, limit = np.random.default_rng(18), kid_of_normals(5, shift)
    pairs = [(normal(rng, 100, 5), normal(rng, m, 5, shift)) for _ in range(400)]
    values, errors = np.array([generative.kid(*p) for p in pairs]).T
    assert abs(values.mean() - limit) < 3.5 * values.std() / 20
    assert (values.mean() > 0.1) == (shift > 0)
    assert 0.9 < np.sqrt((errors**2).mean()) / values.std() < 1.4
    assert np.mean(abs(values - limit) < 1.96 * errors) >= 0.87
    interval = generative.kid_interval(*pairs[0])
    assert interval == pytest.approx((values[0], values[0] - 1.96 * errors[0], values[0] + 1.96 * errors[0]), abs=1e-4)


def test_inception_score_limits():
    assert generative.inception_score(np.tile([0.2, 0.1, 0.4], (9, 1))) == pytest.approx(1.0, abs=1e-12)
    assert generative.inception_score(np.tile(np.eye(6), (5, 1))) == pytest.approx(6.0, rel=1e-12)
    p = np.random.default_rng(19).dirichlet(np.ones(4), 50)
    assert 1 < generative.inception_score(p) < 4
    assert generative.inception_score(p) == pytest.approx(generative.inception_score(p * np.arange(1, 51)[:, None]))
    mean = p.mean(axis=0)
    assert generative.inception_score(p) == pytest.approx(np.exp(np.mean((p * np.log(p / mean)).sum(axis=1))))


def test_refusals():
    assert frechet.enough(28, 14)
    assert not frechet.enough(27, 14)
    x = np.ones((5, 2))
    for call, message in (
        (lambda: frechet.distance(np.ones(5), x), r"\(5,\)"),
        (lambda: frechet.distance(x, np.ones((1, 2))), "two films"),
        (lambda: frechet.distance(x, np.where(np.eye(5, 2), np.nan, x)), "2 features are not finite"),
        (lambda: frechet.distance(x, np.ones((5, 3))), r"\[2, 3\] features"),
        (lambda: frechet.draws(x, x, 5, groups=["p"] * 4), "groups"),
        (lambda: frechet.draws(x, x, 5, groups=["p"] * 5), "1 films or patients"),
        (lambda: generative.kid(x, np.ones((5, 3))), "2 and 3"),
        (lambda: generative.inception_score(-x), "below 0"),
        (lambda: generative.inception_score(np.zeros((3, 2))), "all 0"),
        (lambda: generative.inception_score(np.ones(3)), "expected"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_floor_halves_patients_so_that_a_perfect_generator_scores_it():
    """Four films a patient, as like as siblings: halves that share patients would be too near."""
    rng = np.random.default_rng(21)

    def films(patients: int, each: int = 4) -> np.ndarray:
        return np.repeat(normal(rng, patients, 6), each, axis=0) + 0.5 * normal(rng, patients * each, 6)

    names = np.repeat(np.arange(100), 4)
    sets = [films(100) for _ in range(12)]
    perfect = np.mean([frechet.distance(x, films(100)) for x in sets])
    by_patient = np.mean([frechet.floor(x, groups=names) for x in sets])
    by_film = np.mean([frechet.floor(x) for x in sets])
    assert 0.8 < perfect / by_patient < 1.2
    assert perfect / by_film > 1.5
    with pytest.raises(UserError, match="3 films or patients"):
        frechet.floor(films(3), groups=np.repeat(np.arange(3), 4))
    with pytest.raises(UserError, match=r"groups of shape \(2,\)"):
        frechet.floor(films(3), groups=np.arange(2))
