"""Pairs of films of one patient, and the second film that is drawn for a phantom."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.data import pairs, phantom
from cxrjax.data.redrawn import redrawn
from cxrjax.errors import UserError
from cxrjax.metrics import identity


def several(sizes: tuple[int, ...] = (2, 3, 2, 4, 2)) -> pairs.Several:
    """Films of one gray, 10 times the patient and the number of the film; the first of patient 0 is film 0."""
    groups = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    of = {int(i): 10 * p + k for p, group in enumerate(groups) for k, i in enumerate(group)}
    return pairs.Several(lambda i: np.full((4, 4), of[i], np.uint8), tuple(groups), "films")


def grays(batch) -> np.ndarray:
    return np.rint(255 * batch.image[:, 0, 0]).astype(int)  # (b, 2)


def test_a_pair_is_two_films_of_one_patient_and_a_batch_of_other_patients():
    stream, passed = pairs.Pairs(several(), 2, seed=0), []
    for _ in range(40):
        batch = next(stream)
        found = grays(batch)
        assert (found // 10 == batch.index[:, None]).all()
        assert (found[:, 0] != found[:, 1]).all()
        assert len(set(batch.index.tolist())) == 2
        passed += found.ravel().tolist()
    assert set(passed) == {0, 1, 10, 11, 12, 20, 21, 30, 31, 32, 33, 40, 41}  # every film comes


def test_a_stream_goes_on_where_it_stopped_and_processes_share_its_batches():
    whole, halves = pairs.Pairs(several(), 4, 3), [pairs.Pairs(several(), 4, 3, (i, 2)) for i in range(2)]
    first = [next(whole) for _ in range(3)]
    for batch in first:
        np.testing.assert_array_equal(grays(batch), np.concatenate([grays(next(half)) for half in halves]))
    again = pairs.Pairs(several(), 4, 3)
    again.set_state(whole.get_state())
    np.testing.assert_array_equal(next(again).image, next(whole).image)
    with pytest.raises(UserError, match="other films"):
        pairs.Pairs(several(), 4, 4).set_state(whole.get_state())


def test_every_patient_is_evaluated_once_and_the_rest_of_a_batch_is_no_pair():
    found = list(pairs.once(several(), 4))
    assert [batch.index.tolist() for batch in found] == [[0, 1, 2, 3], [4, -1, -1, -1]]
    assert found[1].valid.tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(grays(found[0]), [[0, 1], [10, 11], [20, 21], [30, 31]])


def test_too_few_patients_with_several_films_are_counted():
    pairs.check(several(), 5, "train")
    with pytest.raises(UserError, match="5 patients of the train part have several films; expected 6"):
        pairs.check(several(), 6, "train")


def test_a_redrawn_phantom_is_the_same_chest_on_another_film():
    sick = {"Pneumonia": 1.0}
    first = np.stack([phantom.render(seed, 64, sick).image for seed in range(12)]) / 255
    second = np.stack([redrawn(seed, 64, sick) for seed in range(12)]) / 255
    assert np.abs(first - second).mean(axis=(1, 2)).min() > 0.01
    assert identity.verification(identity.correlation(first, second)) > 0.7  # of one patient, above chance
    np.testing.assert_array_equal(redrawn(3, 64, sick), redrawn(3, 64, sick))
    assert (redrawn(3, 64, sick, take=2) != redrawn(3, 64, sick)).any()
    well = [np.array_equal(redrawn(seed, 32, sick), redrawn(seed, 32, {})) for seed in range(16)]
    assert 2 < sum(well) < 14  # about half of the second films show no finding
