"""What is asked of treated films beside the judges: lungs found, findings called, and what the figures make of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from cxrjax.data import phantom
from cxrjax.infer import predict
from cxrjax.studies.treatment import judging, measures, ranking


def score(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"normal_probability_judge": image.mean(axis=(1, 2, 3)), "pooled": image.reshape(len(image), -1)}


def films() -> np.ndarray:
    return np.stack([phantom.render(seed, 64, {}).image for seed in (1, 2)])[..., None] / np.float32(255)


def told(asked: judging.Asked, image: np.ndarray, treated: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The figures of treated films, as `measures.results` asks for them."""
    before, after = (judging.judged(score, asked, image, x) for x in (image, treated))
    own = {f"own_{name}": before[name] for name in measures.ASKED if name in before}
    about = {"image": image[..., 0], "pooled": before["pooled"], "cam": np.ones(image.shape[:3]), **own}
    return measures.measures(about, {"image": treated[..., 0], **after})


def test_lungs_that_stay_overlap_and_lungs_that_are_gone_do_not():
    image = films()
    asked = judging.Asked(lungs=True)
    np.testing.assert_array_equal(told(asked, image, image)["lungs"]["dice"], 1)
    gone = image.copy()
    gone[0] = 0.5  # a blank film has no lungs
    gone[1, :, 3:] = image[1, :, :-3]  # lungs that moved by three pixels
    lost, moved = told(asked, image, gone)["lungs"]["dice"]
    assert lost == 0
    assert 0.7 < moved < 1
    assert np.isnan(told(asked, gone, image)["lungs"]["dice"][0])  # none to lose
    assert "lungs" not in judging.judged(score, asked, image[:, :16, :16], image[:, :16, :16])  # too small to seek


def test_findings_that_are_called_otherwise_are_counted():
    asked = judging.Asked(findings=lambda image: image.reshape(len(image), -1)[:, :3] > 0.5)
    image = np.full((2, 8, 8, 1), 0.6, np.float32)
    treated = image.copy()
    treated[0, 0, :2] = 0.1
    np.testing.assert_array_equal(told(asked, image, treated)["attributes"]["changed"], [2, 0])


def test_a_classifiers_findings_are_called_at_its_operating_point_without_the_disease():
    def member(logits: Any) -> Any:
        return SimpleNamespace(
            classes=("Edema", "Pneumonia", "Mass"), read=lambda image: image, options=SimpleNamespace(exclusive=False),
            logits=lambda image, batch: np.asarray(logits),
        )  # fmt: skip

    half, sure = [[0.0, 9.0, -3.0]], [[1.0, 9.0, -3.0]]
    two = (member(half), member(sure))
    cut = (0.55, 0.5, 0.04)  # of the mean: 1/2 and 0.731 are 0.616, and 0.047
    one = predict.Predictor("x", two, predict.Operating(None, cut, None, ""))
    called = judging.findings_of(one, ("Normal", "Pneumonia"), 4)
    assert called(np.zeros((1, 8, 8, 1))).tolist() == [[True, True]]
    strict = one._replace(operating=predict.Operating(None, (0.65, 0.5, 0.05), None, ""))
    assert judging.findings_of(strict, ("Normal", "Pneumonia"), 4)(np.zeros((1, 8, 8, 1))).tolist() == [[False, False]]


def test_judges_are_asked_on_the_way_to_the_treated_film():
    image, treated = np.zeros((2, 4, 4, 1), np.float32), np.ones((2, 4, 4, 1), np.float32)
    found = judging.judged(score, judging.Asked(insertions=4), image, treated)
    np.testing.assert_allclose(found["path_judge"], np.repeat(np.arange(5) / 4, 2).reshape(5, 2))
    assert set(judging.judged(score, judging.NOTHING, image, treated)) == {"normal_probability_judge", "pooled"}


def test_what_was_asked_for_has_a_table_with_its_words():
    entry = {"value": {"value": 0.9, "low": 0.8, "high": 1.0}, "difference": {"value": 0.1, "low": 0.0, "high": 0.2}}
    at = {"gated": {"lungs": {"dice": entry}}, "uniform": {"lungs": {"dice": {"value": entry["value"]}}}}
    rates = {"normal_rate": {"judge": {"value": 0.6}}}
    out = {"equal_rate": {"judge": {"0.5": at}}, "progress": {mode: {"200": rates} for mode in at}}
    (table,) = ranking._beside(out, ("uniform", "gated"), "judge", "0.5")
    assert len(table["columns"]) == 2
    assert {row["name"]: row["cells"] for row in table["rows"]} == {
        "gated": [entry["value"], entry["difference"]], "uniform": [entry["value"], None],
    }  # fmt: skip
    assert "rewards" in table["note"]
    assert ranking._beside({"equal_rate": {"judge": {"0.5": {}}}}, ("uniform",), "judge", "0.5") == []
