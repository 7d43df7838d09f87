"""What is made of a treatment study's results: ranks, distances to healthy films, the price of fewer evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.metrics import entries
from cxrjax.studies.treatment import measures, pixels, ranking, realism, solvers


def leaf(value: float | None, half: float = 0.01) -> dict[str, float | int | str | None]:
    value = float("nan") if value is None else value
    return entries.entry(value, value - half, value + half, n=10, unit="gray level")


def results(changes: dict[str, float | None], best: dict[str, float]) -> dict:
    """Results of arms with a change at rate 0.5 (None: never reached) and a highest rate."""
    entry = {
        mode: {
            "mae": {"outside": {"value": leaf(v), "difference": leaf(0.0), "minus_pixel": leaf(-0.1)},
                    "whole": {"value": leaf(v)}},
            "ssim": {"outside": {"value": leaf(v), "minus_pixel": leaf(0.1)}},
            "cosine": {"features": {"value": leaf(v)}}, "reidentified": {"first": {"value": leaf(v)}},
        } for mode, v in changes.items()
    }  # fmt: skip
    by_lambda = {
        mode: {
            str(lam): {"normal_rate": {"independent": leaf(rate * lam / 600)}, "seconds_a_film": leaf(0.5)}
            for lam in (300, 600)
        }
        for mode, rate in best.items()
    }
    untreated = {"normal_rate": {"independent": leaf(0.0)}}
    control = {
        mode: {lam: {"normal_rate": {"independent": leaf(1.0)}, "change": leaf(0.1)} for lam in ("300", "600")}
        for mode in best
    }
    return {
        "progress": {"untreated": untreated, **by_lambda},
        "control": {"untreated": untreated, **control},
        "equal_rate": {"independent": {"0.5": entry}},
    }


ARMS = ("uniform", "near", "never", "hardly")
OUT = results(
    {"uniform": 0.2, "near": 0.05, "never": None, "hardly": None},
    {"uniform": 1.0, "near": 0.7, "never": 0.1, "hardly": 0.4},
)


def test_arms_rank_by_their_change_and_those_that_miss_the_rate_by_their_best():
    assert ranking.order(OUT, ARMS, "independent", "0.5") == ["near", "uniform", "hardly", "never"]


def test_an_arm_that_reaches_the_rate_by_chance_comes_after_those_that_reach_it_surely():
    out = results({"uniform": 0.2, "near": 0.05, "sure": 0.1}, {"uniform": 1.0, "near": 0.5, "sure": 0.9})
    out["equal_rate"]["independent"]["0.5"]["near"]["mae"]["outside"]["value"] |= {"low": None, "high": None}
    assert ranking.order(out, ("uniform", "near", "sure"), "independent", "0.5") == ["sure", "uniform", "near"]


def test_the_table_names_every_arm_and_says_who_missed_the_rate():
    table, *_ = ranking.tables(OUT, ARMS, "independent", (0.5,), truth=False)
    rows = {row["name"]: row["cells"] for row in table["rows"]}
    assert list(rows) == ["near", "uniform", "hardly", "never"]
    assert rows["never"][0] == "not reached"
    assert rows["never"][-1] == "0.100 at 600"
    assert rows["near"][0]["value"] == 0.05
    assert all(len(cells) == len(table["columns"]) for cells in rows.values())


def test_the_last_table_says_that_there_is_no_distance_rather_than_a_zero():
    table = ranking.tables(OUT, ARMS, "independent", (0.5,), truth=False)[-1]
    assert "Too few films" in table["note"]
    assert [row["name"] for row in table["rows"]] == ["untreated", *(f"{arm}, lambda 600" for arm in ARMS)]
    assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"])


def test_latent_and_pixel_arms_stand_side_by_side():
    names = ("uniform", "near", "pixel_uniform", "pixel_near")
    out = results(dict.fromkeys(names, 0.1), dict.fromkeys(names, 1.0))
    table, *_ = pixels.tables(out, names, "independent", (0.5,))
    assert [row["name"] for row in table["rows"]] == ["uniform", "near"]
    assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"])


def test_the_difference_to_the_pixel_arm_is_paired_at_equal_rate():
    n, rng = 40, np.random.default_rng(0)
    normal = np.stack([np.zeros(n), (np.arange(n) < 30).astype(float)])
    error = np.stack([np.zeros(n), rng.uniform(0.1, 0.3, n)])
    found = measures.equal_rate(
        dict.fromkeys(("uniform", "a", "pixel_a"), normal),
        {"uniform": error, "a": error, "pixel_a": error + np.array([[0.0], [0.2]])}, 0.5, "gray level",
    )  # fmt: skip
    assert found["a"]["minus_pixel"]["value"] == pytest.approx(-0.2 * 0.5 / 0.75)
    assert found["a"]["minus_pixel"]["high"] < 0
    assert "minus_pixel" not in found["uniform"]


def test_healthy_features_are_near_and_shifted_ones_far():
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((24, 24))
    healthy = rng.standard_normal((120, 24)) @ basis
    to = realism.reference(healthy, films=60)
    assert to is not None
    near = realism.distance(to, rng.standard_normal((60, 24)) @ basis)
    far = realism.distance(to, (rng.standard_normal((60, 24)) + 2.0) @ basis)
    assert far["low"] > near["high"]
    assert abs(near["value"]) < 0.1 * far["value"]


@pytest.mark.parametrize(("healthy", "films"), [(20, 60), (120, 20)])
def test_too_few_films_have_no_distance(healthy, films):
    assert realism.reference(np.random.default_rng(0).standard_normal((healthy, 24)), films) is None


def test_the_excess_over_the_reference_is_relative_and_paired():
    reference = np.random.default_rng(0).uniform(0.1, 1.0, 50)
    found = solvers.excess(1.03 * reference, reference)
    assert found["value"] == pytest.approx(0.03)
    assert found["low"] == pytest.approx(0.03)  # the same factor for every film leaves no spread
    assert solvers.excess(reference, 0 * reference)["value"] is None
