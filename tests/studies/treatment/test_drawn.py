"""What a regression says of the anatomy that phantoms were drawn with, on planted parameters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrjax.data import phantom
from cxrjax.errors import UserError
from cxrjax.studies import floor
from cxrjax.studies.treatment import drawn, judging, measures


def test_parameters_are_those_that_a_phantom_of_this_name_is_drawn_with():
    one, other = drawn.of_patients(np.array(["phantom7", "phantom8"]))
    patient = phantom.anatomy.draw(7)
    told = dict(zip(drawn.PARAMETERS, one, strict=True))
    assert told["heart"] == patient.scale * patient.geometry.heart
    assert told["air"] == pytest.approx((patient.air[0] + patient.air[1]) / 2)
    apart = dict(zip(drawn.PARAMETERS, one != other, strict=True))
    assert [name for name, differs in apart.items() if not differs] == ["breast"]  # both are men


def test_the_regression_is_the_ridge_in_closed_form():
    x = np.array([[0.0, 0], [2, 0], [0, 3], [2, 3]])  # orthogonal about its mean
    y = np.array([[-1.0], [1], [-1], [1]])
    center, weights = drawn.learn(x, y)
    np.testing.assert_array_equal(center, [1, 1.5])
    # By axis x'y / (x'x + penalty): 4 / (4 + 1), and nothing of the other.
    np.testing.assert_allclose(weights, [[4 / (4 + drawn.PENALTY)], [0]], atol=1e-12)


def test_r2_is_the_share_of_the_variance_that_both_films_explain():
    truth = np.array([-1.0, 1, -1, 1] * 10)
    found = drawn.explained(np.stack([truth, 0 * truth]), truth)
    assert found["value"] == pytest.approx(1 - (0 + 1) / 2)  # right of one film, blind of the other
    blind = drawn.explained(np.stack([0 * truth] * 2), truth)
    assert blind["value"] == pytest.approx(0)
    assert blind["high"] <= 0.01  # of a resample's own mean it knows nothing


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Films whose upper half is as bright as `thorax` says and whose lower half is noise; a lesion dims them."""
    rng = np.random.default_rng(0)
    parameters = rng.uniform(0, 1, (80, len(drawn.PARAMETERS)))
    patients = np.array([f"phantom{i}" for i in range(80)])

    def films(prepared: Any, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        first = 0 if split == "train" else 40
        twin = np.random.default_rng(first).uniform(0, 1, (len(rows), 32, 32, 1)).astype(np.float32)
        twin[:, :16] = parameters[first + rows, 0][:, None, None, None]
        return {"twin": twin, "image": 0.98 * twin}

    def table(split: str) -> dict[str, np.ndarray]:
        return {"patient": patients[:40] if split == "train" else patients[40:]}

    monkeypatch.setattr(drawn.data, "films", films)
    monkeypatch.setattr(drawn, "of_patients", lambda names: parameters[[int(name[7:]) for name in names]])
    return SimpleNamespace(films=SimpleNamespace(table=table, held_out="test"))


def test_what_films_do_not_tell_takes_no_part_and_what_they_tell_has_its_r2(planted: Any):
    reader, told = drawn.fit(planted)
    assert reader.names == ("thorax",)
    assert told["thorax"]["r2"]["low"] > 0.9
    assert set(told) == set(drawn.PARAMETERS)
    assert all(entry["r2"]["value"] < drawn.LEAST for name, entry in told.items() if name != "thorax")
    image = np.zeros((2, 32, 32, 1), np.float32)
    image[1, :16] = 1
    low, high = reader.read(image)["thorax"]
    assert high - low == pytest.approx(np.sqrt(12), rel=0.2)  # a uniform's range in its standard deviations


def test_a_treated_film_is_held_against_its_twin_and_not_against_itself():
    n = 3
    weights = np.zeros((1024, 2))
    weights[0, 0], weights[1, 1] = 1, -2  # reads two pixels
    reader = drawn.Reader(("thorax", "heart"), np.zeros(1024), weights)
    twin = np.full((n, 32, 32, 1), 0.5, np.float32)
    sick, treated = twin.copy(), twin.copy()
    sick[:, 0, 0], treated[0, 0, 0], treated[1, 0, 1] = 0.1, 0.7, 0.2

    def score(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"normal_probability_judge": np.ones(len(image)), "pooled": floor.small(image)}

    run = judging.judged(score, judging.Asked(anatomy=reader.read), sick, treated)
    about = {f"{measures.TWIN}{judging.ANATOMY}{name}": told for name, told in reader.read(twin).items()}
    films = {"image": sick[..., 0], "cam": np.ones((n, 32, 32)), "pooled": floor.small(sick), **about}
    found = measures.measures(films, {"image": treated[..., 0], **run})["anatomy"]
    np.testing.assert_allclose(found["thorax"], [0.2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found["heart"], [0, 0.6, 0], atol=1e-6)
    np.testing.assert_allclose(found[drawn.ALL], [0.1, 0.3, 0], atol=1e-6)
    bare = {name: value for name, value in films.items() if name not in about}
    assert "anatomy" not in measures.measures(bare, {"image": treated[..., 0], **run})  # real films from elsewhere


def test_films_that_nobody_drew_are_refused():
    drawn.check_films(SimpleNamespace(has_truth=True))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"study.anatomy is on: .* phantoms alone; set it to False"):
        drawn.check_films(SimpleNamespace(has_truth=False))  # type: ignore[arg-type]


def test_the_table_begins_with_how_well_each_parameter_is_told_and_what_a_lesion_does():
    def entry(value: float) -> dict[str, Any]:
        return {"value": value, "low": value, "high": value, "n": 9, "unit": drawn.UNIT}

    r2 = {"thorax": {"r2": entry(0.9)}, "ribs": {"r2": entry(0.2)}}
    arm = {"anatomy": {"all": {"value": entry(0.3), "difference": entry(-0.1)}, "thorax": {"value": entry(0.4)}}}
    rates = {"normal_rate": {"judge": entry(0.6)}}
    out = {
        "anatomy": r2, "equal_rate": {"judge": {"0.5": {"gated": arm}}},
        "progress": {"untreated": {"anatomy": {"all": entry(0.1), "thorax": entry(0.2)}}, "gated": {"200": rates}},
    }  # fmt: skip
    (table,) = drawn.tables(out, ("gated",), "judge", 0.5)
    assert table["columns"] == ["all of them", "minus uniform, paired", "thorax"]
    assert {row["name"]: row["cells"] for row in table["rows"]} == {
        "held-out R2": [None, None, entry(0.9)], "untreated": [entry(0.1), None, entry(0.2)],
        "gated": [entry(0.3), entry(-0.1), entry(0.4)],
    }  # fmt: skip
    assert "left out, with their R2: ribs (0.20)" in table["note"]
    assert drawn.tables({}, ("gated",), "judge", 0.5) == []
