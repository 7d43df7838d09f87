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
