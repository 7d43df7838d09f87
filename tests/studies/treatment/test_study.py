"""The choice of films for the study."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.studies.treatment import study

LABEL = np.eye(2, dtype=np.float32)[np.random.default_rng(0).permutation([0] * 12 + [1] * 8)]
PATIENTS = np.asarray([f"p{i}" for i in range(20)])


@pytest.mark.parametrize("normal", [0, 1])
def test_the_diseased_come_first_then_the_controls_each_film_once(normal):
    chosen = study.choose(LABEL, normal, PATIENTS, 5, 3, seed=0)
    healthy = LABEL[chosen, normal] == 1
    assert healthy.tolist() == [False] * 5 + [True] * 3
    assert len(set(chosen.tolist())) == 8


def test_the_choice_is_the_seeds_and_differs_between_seeds():
    chosen = [study.choose(LABEL, 0, PATIENTS, 4, 4, seed=seed).tolist() for seed in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1]
    assert len({tuple(c) for c in chosen[1:]}) > 1


def test_more_controls_do_not_change_which_diseased_films_are_chosen():
    few, many = study.choose(LABEL, 0, PATIENTS, 4, 2, seed=0), study.choose(LABEL, 0, PATIENTS, 4, 6, seed=0)
    assert few[:4].tolist() == many[:4].tolist()


def test_asking_for_more_than_there_are_gives_all_of_them():
    assert sorted(study.choose(LABEL, 0, PATIENTS, 100, 100, seed=0).tolist()) == list(range(20))


def test_a_patient_gives_one_film_and_an_unknown_label_none():
    twice = np.asarray([f"p{i // 2}" for i in range(20)])
    label = np.eye(2, dtype=np.float32)[[0, 0, 1, 1] * 5]
    label[:4] = np.nan
    chosen = study.choose(label, 0, twice, 100, 100, seed=0)
    assert len(chosen) == len(set(twice[chosen])) == 8
    assert chosen.min() >= 4


@pytest.mark.parametrize(("column", "missing"), [(0, "diseased"), (1, "normal")])
def test_a_part_without_one_kind_is_refused_by_name(column, missing):
    label = np.eye(2, dtype=np.float32)[[column] * 6]
    with pytest.raises(UserError, match=f"no {missing} film"):
        study.choose(label, 0, PATIENTS[:6], 2, 2, seed=0)
