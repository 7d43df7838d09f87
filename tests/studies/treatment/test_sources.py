"""Which films of a source a study takes, and what healthy ones tell of its judges."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.metrics import entries
from cxrjax.studies.treatment import sources

# 12 diseased films and 8 healthy ones.
LABEL = np.eye(2, dtype=np.float32)[np.random.default_rng(0).permutation([0] * 12 + [1] * 8)]
PATIENTS = np.asarray([f"p{i}" for i in range(20)])


@pytest.mark.parametrize("normal", [0, 1])
def test_the_diseased_come_first_then_the_controls_each_film_once(normal):
    chosen = sources.choose(LABEL, normal, PATIENTS, 5, 3, seed=0)
    healthy = LABEL[chosen, normal] == 1
    assert healthy.tolist() == [False] * 5 + [True] * 3
    assert len(set(chosen.tolist())) == 8


def test_the_choice_is_the_seeds_and_differs_between_seeds():
    chosen = [sources.choose(LABEL, 0, PATIENTS, 4, 4, seed=seed).tolist() for seed in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1]
    assert len({tuple(c) for c in chosen[1:]}) > 1


def test_more_controls_do_not_change_which_diseased_films_are_chosen():
    few, many = sources.choose(LABEL, 0, PATIENTS, 4, 2, seed=0), sources.choose(LABEL, 0, PATIENTS, 4, 6, seed=0)
    assert few[:4].tolist() == many[:4].tolist()


def test_asking_for_more_than_there_are_gives_all_of_them():
    assert sorted(sources.choose(LABEL, 0, PATIENTS, 100, 100, seed=0).tolist()) == list(range(20))


def test_a_patient_gives_one_film_and_an_unknown_label_none():
    twice = np.asarray([f"p{i // 2}" for i in range(20)])
    label = np.eye(2, dtype=np.float32)[[0, 0, 1, 1] * 5]
    label[:4] = np.nan
    chosen = sources.choose(label, 0, twice, 100, 100, seed=0)
    assert len(chosen) == len(set(twice[chosen])) == 8
    assert chosen.min() >= 4


@pytest.mark.parametrize(("column", "missing"), [(0, "diseased"), (1, "normal")])
def test_a_part_without_one_kind_is_refused_by_name(column, missing):
    label = np.eye(2, dtype=np.float32)[[column] * 6]
    with pytest.raises(UserError, match=f"no {missing} film"):
        sources.choose(label, 0, PATIENTS[:6], 2, 2, seed=0)


@pytest.mark.parametrize(("count", "most"), [(20, 500), (7, 500), (0, 500), (20, 30)])
def test_thresholds_are_set_on_patients_who_are_in_no_other_figure(count, most):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        normal, patients = rng.random(200) < 0.5, rng.integers(0, 90, 200)
        label = np.stack([normal, ~normal], axis=1).astype(np.float32)
        keep = sources.choose(label, 0, patients, 16, 8, seed)
        held, asked = sources.healthy(normal, patients, np.isin(patients, patients[keep]), count, most, seed)
        assert normal[held].all()
        assert normal[asked].all()
        for films in (held, asked):
            assert len({*patients[films]}) == len(films)
        assert not {*patients[held]} & {*patients[keep], *patients[asked]}
        assert {*keep[-8:]} <= {*asked}  # the controls, before they are treated
        free = len({*patients[normal]} - {*patients[keep]})
        assert len(held) == min(count, free // 2)
        assert len(asked) == min(most, len({*patients[normal]}) - len(held))
        more = sources.healthy(normal, patients, np.isin(patients, patients[keep]), count + 1, most, seed)[0]
        assert {*held} <= {*more}


def _source(held: int, asked: int) -> sources.Source:
    """Healthy films 0 ... held - 1 to set a threshold on, then those that judges are asked about, of which one is
    treated; each film is its own number."""

    class Numbers(sources.Source):
        def read(self, rows: np.ndarray) -> dict[str, Any]:
            return {"image": rows}

    rows, films = np.arange(held + asked), SimpleNamespace()
    return Numbers("official", films, "test", rows[held : held + 1], np.zeros(1, bool), rows[:held], rows[held:])


def test_a_judge_is_tried_on_healthy_films_at_its_own_threshold_and_at_one_that_nine_in_ten_of_others_lie_above():
    own = np.linspace(0.05, 0.24, 20)[np.random.default_rng(0).permutation(20)]
    rest = np.array([0.9, 0.51, 0.5, 0.07, 0.068, 0.061, 0.055, 0.2])
    normal = np.concatenate([own, rest]).astype(np.float32)
    found = sources.judge(
        _source(20, 8), lambda rows: {"normal_probability_independent": normal[rows], "pooled": rows[:, None]},
        ("independent",),
    )  # fmt: skip
    cut = found.cuts["independent"]
    assert cut == pytest.approx((0.07 + 0.06) / 2)  # of 0.05, 0.06, 0.07, ... two of twenty lie below
    assert (own > cut).mean() == 0.9
    figures = found.figures["independent"]
    assert (figures["threshold"]["value"], figures["threshold"]["n"]) == (cut, 20)
    assert (figures["normal"]["value"], figures["normal"]["n"]) == (2 / 8, 8)  # above one half, not at it
    assert (figures["normal_set"]["value"], figures["normal_set"]["n"]) == (6 / 8, 8)
    assert found.pooled[:, 0].tolist() == [*range(20), *range(21, 28)]  # the treated one is left out


def test_without_films_to_set_a_threshold_on_there_is_none_and_without_healthy_films_no_figure():
    def score(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"normal_probability_independent": np.full(len(rows), 0.7, np.float32), "pooled": rows[:, None]}

    found = sources.judge(_source(0, 4), score, ("independent",))
    assert found.cuts == {}
    assert set(found.figures["independent"]) == {"normal"}
    assert sources.judge(_source(0, 0), score, ("independent",)).figures == {}


def _rate(yes: int, n: int = 20) -> dict[str, Any]:
    return {"normal": entries.rate(np.arange(n) < yes), "threshold": entries.plain(0.1, 20, "1")}


def test_a_judge_that_misses_healthy_films_is_warned_of_by_name_and_source():
    found = {"inside": {"independent": _rate(19), "cam_network": _rate(16)},
             "official": {"independent": _rate(8), "cam_network": _rate(15)}}  # fmt: skip
    said = sources.warnings(found)
    assert len(said) == 2  # 0.8 itself is not below 0.8
    assert said[0].startswith("The independent judge calls a share of 0.400 [0.219, 0.613] of healthy untreated films")
    assert "of official normal, less than 0.8" in said[0]
    assert "CAM network calls a share of 0.750" in said[1]
    (told,) = sources.sentences(found, "independent")
    assert told.startswith("Its independent judge calls a share of 0.950 [")
    assert "of healthy untreated films of this run's own set and 0.400 [0.219, 0.613] of healthy" in told
    rows = sources.judges_table(found)["rows"]
    assert [row["name"] for row in rows] == [
        f"{judge}, {source}" for judge in ("independent judge", "CAM network") for source in ("inside", "official")
    ]


def test_a_set_may_not_be_called_as_the_runs_own_films_are():
    config = defaults.run()
    config.data = defaults.data("phantom", ("Normal", "Pneumonia"), 16)
    config.data.external.Inside = {"name": "phantom"}
    with pytest.raises(UserError, match=r"data\.external\.Inside: .*give another name"):
        sources.check_names(config)


def test_other_films_of_a_set_have_another_folder_and_the_runs_own_have_none():
    keys = {"key": np.array(["a", "b", "c"])}

    def source(name: str, fingerprint: str, keep: list[int]) -> Path:
        films: Any = SimpleNamespace(fingerprint=fingerprint, table=lambda split: keys)
        none = np.zeros(0, int)
        return sources.Source(name, films, "test", np.array(keep), none, none, none).folder(Path("progress"))

    assert source("inside", "f", [0, 1]) == Path("progress")
    folders = [
        source(*about) for about in (("x", "f", [0, 1]), ("x", "f", [0, 2]), ("x", "g", [0, 1]), ("y", "f", [0, 1]))
    ]
    assert len({*folders}) == 4
    assert source("x", "f", [0, 1]) == folders[0]
    assert all(folder.parent == Path("progress/external") for folder in folders)
