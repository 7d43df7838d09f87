"""What a treated film changed, against counts by hand and areas in closed form."""

import numpy as np

from cxrjax.metrics import counterfactual


def test_changed_counts_pixels_beyond_a_gray_level_within_the_mask():
    films, treated = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    treated[0, 0] = 0.05  # four pixels seen
    treated[1, 0] = 0.03  # under 1/32: not seen
    treated[1, 1, 1] = -0.2
    np.testing.assert_array_equal(counterfactual.changed(films, treated), [4 / 16, 1 / 16])
    mask = np.zeros((2, 4, 4))
    mask[0, :2, :2] = 1
    np.testing.assert_array_equal(counterfactual.changed(films, treated, mask), [2 / 4, np.nan])


def test_transfer_asks_the_other_judge_of_convinced_films_alone():
    convinced, normal = np.array([True, True, False, True]), np.array([True, False, True, False])
    np.testing.assert_array_equal(counterfactual.transferred(convinced, normal), [True, False, False])


def test_insertions_go_from_the_film_to_the_treated_one_by_falling_change():
    film = np.zeros((1, 2, 2))
    treated = np.array([[[0.1, 0.4], [-0.3, 0.2]]])
    path = counterfactual.insertions(film, treated, 4)
    np.testing.assert_array_equal(path[0], film)
    np.testing.assert_array_equal(path[4], treated)
    np.testing.assert_array_equal(path[1], [[[0, 0.4], [0, 0]]])
    np.testing.assert_array_equal(path[2], [[[0, 0.4], [-0.3, 0]]])
    np.testing.assert_array_equal(path[3], [[[0, 0.4], [-0.3, 0.2]]])


def test_cout_is_the_difference_of_areas():
    steps = np.linspace(0, 1, 11)[:, None]
    np.testing.assert_allclose(counterfactual.cout(steps, 1 - steps), 0, atol=1e-12)  # both areas are 1/2
    turned = (steps > 0).astype(float)  # by the first pixels
    np.testing.assert_allclose(counterfactual.cout(turned, 1 - turned), 0.9)  # 1 less half a step of two on both
    np.testing.assert_allclose(counterfactual.cout(0 * steps, 0 * steps + 1), -1)
    np.testing.assert_allclose(counterfactual.cout(steps**2, 0 * steps), (steps**2)[1:-1].sum() / 10 + 0.05)


def test_spread_and_interval_over_seeds_are_students():
    repeats = np.array([0.2, 0.4, 0.9])[:, None, None, None] * np.ones((3, 2, 4, 4))
    sd = np.sqrt((0.3**2 + 0.1**2 + 0.4**2) / 2)  # about the mean 0.5
    np.testing.assert_allclose(counterfactual.spread(repeats), sd)
    low, high = counterfactual.seed_interval(repeats)
    np.testing.assert_allclose(high - 0.5, 4.302653 * sd * np.sqrt(4 / 3), rtol=1e-6)  # t of 2 degrees at 0.975
    np.testing.assert_allclose(low + high, 1)
    same = np.full((3, 1, 2, 2), 0.25)
    np.testing.assert_array_equal(counterfactual.seed_interval(same), same[:2])  # nothing drawn: a point


def test_the_interval_holds_its_share_of_one_more_seed():
    drawn = np.random.default_rng(0).normal(0.5, 0.1, (4, 1, 200, 200))
    low, high = counterfactual.seed_interval(drawn[:3])
    np.testing.assert_allclose(counterfactual.within(drawn[3], low, high), 0.95, atol=0.005)


def test_within_counts_the_pixels_of_the_mask_that_an_interval_holds():
    films = np.array([[[0.1, 0.5], [0.9, 0.3]], [[0.1, 0.5], [0.9, 0.3]]])
    low, high = np.full_like(films, 0.3), np.full_like(films, 0.6)
    np.testing.assert_array_equal(counterfactual.within(films, low, high), [0.5, 0.5])  # a bound is held
    mask = np.zeros_like(films)
    mask[0, 0] = 1
    np.testing.assert_array_equal(counterfactual.within(films, low, high, mask), [0.5, np.nan])


def test_dice_is_that_of_the_regions():
    a, b = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    a[0, :2], b[0, 1:3] = True, True  # 8 and 8, of which 4 are shared
    a[1] = True
    np.testing.assert_array_equal(counterfactual.dice(a, b), [0.5, 0, np.nan])


def test_attributes_that_are_others_are_counted():
    before = np.array([[True, False, False], [True, True, False]])
    after = np.array([[False, False, True], [True, True, False]])
    np.testing.assert_array_equal(counterfactual.attributes_changed(before, after), [2, 0])
