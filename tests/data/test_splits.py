"""No patient is on two sides, and carving keeps shares and label rates."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.data.splits import carve, check_disjoint, folds, joined, nested, patient_id
from cxrjax.errors import UserError


def test_overlap_names_the_patients():
    with pytest.raises(UserError, match=r"2 patient\(s\) are in both 'train' and 'test': ann, bob"):
        check_disjoint({"train": {"ann", "bob", "eve"}, "val": {"joe"}, "test": {"bob", "ann"}})


def test_unknown_patients_do_not_overlap():
    check_disjoint({"train": ["", "ann"], "test": ["", "bob"]})


@pytest.fixture
def cohort() -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    patients = [f"p{n}" for n in rng.integers(0, 700, 2000)]
    labels = (rng.random((2000, 2)) < [0.3, 0.1]).astype(np.float32)
    return patients, labels


def test_carve_keeps_patients_whole_and_shares(cohort):
    patients, labels = cohort
    split = carve(patients, labels, {"val": 0.1, "test": 0.2}, seed=0)
    check_disjoint({name: set(np.array(patients)[split == name]) for name in ("train", "val", "test")})
    for name, share in [("train", 0.7), ("val", 0.1), ("test", 0.2)]:
        assert abs((split == name).mean() - share) < 0.005
        np.testing.assert_allclose(labels[split == name].mean(0), labels.mean(0), atol=0.06)


def test_carve_is_seeded_and_blind_to_order(cohort):
    patients, labels = cohort
    split = carve(patients, labels, {"val": 0.2}, seed=1)
    turned = carve(patients[::-1], labels[::-1], {"val": 0.2}, seed=1)
    np.testing.assert_array_equal(split, turned[::-1])
    assert (split != carve(patients, labels, {"val": 0.2}, seed=2)).any()


def test_carve_deals_films_without_patient_one_by_one():
    split = carve([""] * 100, np.zeros((100, 1)), {"val": 0.25}, seed=0)
    assert (split == "val").sum() == 25


@pytest.mark.parametrize("fractions", [{"val": 0.6, "test": 0.5}, {"val": -0.1}, {"val": 1.0}])
def test_impossible_shares_are_refused(fractions):
    with pytest.raises(UserError, match=r"data\.carve"):
        carve(["a", "b"], np.zeros((2, 1)), fractions, seed=0)


def test_folds_keep_patients_whole_and_spread_labels(cohort):
    patients, labels = cohort
    labels = np.concatenate([labels, np.zeros((2000, 1), np.float32)], axis=1)
    rare = sorted(set(patients))[:10]  # ten patients with a finding that nobody else has
    labels[np.isin(patients, rare), 2] = 1
    fold = folds(patients, labels, 5, seed=0)
    assert fold.dtype == np.int64
    np.testing.assert_allclose(np.bincount(fold), 400, atol=12)
    for patient in set(patients):
        assert len(set(fold[np.array(patients) == patient])) == 1
    assert {len({p for p in rare if fold[patients.index(p)] == i}) for i in range(5)} <= {1, 2, 3}
    for i in range(5):
        np.testing.assert_allclose(labels[fold == i].mean(0), labels.mean(0), atol=0.05)
    np.testing.assert_array_equal(fold, folds(patients[::-1], labels[::-1], 5, seed=0)[::-1])
    assert (fold != folds(patients, labels, 5, seed=1)).any()


def test_folds_of_unknown_patients_and_impossible_numbers():
    fold = folds([""] * 10, np.zeros((10, 1)), 5, seed=0)
    assert np.bincount(fold).tolist() == [2] * 5
    for k in (1, 4):
        with pytest.raises(UserError, match=f"folds is {k}: expected 2 to 3"):
            folds(["a", "a", "b", "c"], np.zeros((4, 1)), k, seed=0)


def test_a_patient_has_one_form():
    assert {patient_id(text) for text in ("12", "12.0", "012", " 12 ", "12.", "\uff11\uff12")} == {"12"}
    assert {patient_id(text) for text in ("", " ", "nan", "NaN", "NA", "None")} == {""}
    assert patient_id("000") == "0"
    assert {patient_id(text) for text in ("Jos\u00e9  B", "Jose\u0301 B ")} == {"Jos\u00e9 B"}
    assert len({patient_id(text) for text in ("12.5", "125", "p12", "1-2", "0x12")}) == 5


def test_joined_ids_chain():
    got = joined([("b", ""), ("", "x"), ("c", "x"), ("b", "y"), ("", "y"), ("", ""), ("z", "")])
    assert got == ["b", "c", "c", "b", "b", "", "z"]


def test_fewer_patients_are_among_more_and_keep_shares_and_films_together(cohort):
    patients, labels = cohort
    place = nested(patients, labels, seed=0)
    count = len(set(patients))
    assert sorted(set(place)) == list(range(count))
    assert all(len(set(place[np.array(patients) == name])) == 1 for name in patients[:20])  # a patient's films together
    by_patient = np.array([labels[place == i].max(axis=0) for i in range(count)])
    for few in (64, 128, 256):
        np.testing.assert_allclose(by_patient[:few].mean(0), by_patient.mean(0), atol=0.05)
    order = np.random.default_rng(1).permutation(len(patients))
    np.testing.assert_array_equal(nested([patients[i] for i in order], labels[order], seed=0), place[order])
    assert (nested(patients, labels, seed=1) != place).any()


def test_few_patients_still_have_every_class():
    labels = np.zeros((500, 6), np.float32)
    labels[np.arange(400), np.minimum(np.random.default_rng(0).geometric(0.5, 400) - 1, 5)] = 1
    labels[7] = 0, 0, 0, 0, 0, 1
    labels[:, 5] *= np.arange(500) == 7  # one patient alone
    place = nested([f"p{i}" for i in range(500)], labels, seed=3)
    few = labels[place < 7]
    assert few.any(axis=0).all()
    assert (few == 0).all(axis=1).any()
