"""The diagnostic on features that can be told apart."""

import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.studies.classification import ntk

RNG = np.random.default_rng(0)
CLASS = np.arange(24) % 2
FEATURES = (5 + 0.3 * RNG.normal(size=(24, 6)) * (1 + CLASS[:, None])).astype(np.float32)
LABELS = np.eye(2, dtype=np.float32)[CLASS]


@pytest.fixture(scope="module")
def found():
    return ntk.diagnose(FEATURES, LABELS, widths=(64, 1024), steps=60, lr=1.0)


def test_the_head_learns_and_the_wider_ones_kernel_moves_less(found):
    assert found["width"] == [64, 1024]
    assert all(after < before for before, after in zip(found["loss"], found["trained_loss"], strict=True))
    assert 0 < found["change"][1] < found["change"][0]
    assert 0 < found["arc_cosine_error"][1] < found["arc_cosine_error"][0]


def test_without_training_nothing_moves_and_the_start_is_the_seeds():
    still = ntk.diagnose(FEATURES, LABELS, widths=(64,), steps=0)
    assert still["change"] == [0]
    assert still["condition"] == still["trained_condition"]
    other = ntk.diagnose(FEATURES, LABELS, widths=(64,), steps=0, seed=1)
    assert still["smallest_eigenvalue"] != other["smallest_eigenvalue"]


def test_shift_and_scale_of_the_features_do_not_matter(found):
    moved = ntk.diagnose(100 * FEATURES - 7, LABELS, widths=(64,), steps=60)
    assert moved["change"][0] == pytest.approx(found["change"][0], rel=1e-2)


def test_more_films_than_the_kernel_takes_are_refused():
    with pytest.raises(UserError, match="256"):
        ntk.diagnose(np.zeros((300, 4)), np.zeros((300, 2)), widths=(8,), steps=0)
