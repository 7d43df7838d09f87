"""A system that does not beat the floor is named in words, whatever the study."""

from __future__ import annotations

import pytest

from cxrjax.studies import tables
from cxrjax.studies.treatment import classifiers

CLASSES = ("Normal", "Pneumonia")


def entry(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "n": 40, "unit": "1"}


ABOVE, LEVEL, BELOW = entry(0.03, 0.01, 0.05), entry(0.005, -0.001, 0.011), entry(-0.02, -0.03, -0.01)
ALONE, NONE = entry(0.2), entry(None)


def test_only_an_interval_wholly_above_0_beats_the_floor():
    assert tables.not_above({"ours": ABOVE, "other": ABOVE}) == ""
    found = tables.not_above({"a": ABOVE, "b": LEVEL, "c": BELOW, "d": ALONE, "e": NONE, "f": entry(0.1, 0.0, 0.2)})
    assert found.startswith("Not better than logreg32, a logistic regression on 32x32 films")
    assert found.endswith(
        ": b (+0.005 [-0.001, +0.011]), c (-0.020 [-0.030, -0.010]), d (+0.200, no interval), e (no figure), "
        "f (+0.100 [+0.000, +0.200])."
    )


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_table_of_systems_names_those_that_do_not_beat_the_floor(exclusive):
    names = {"cnn": ABOVE, "resnet": LEVEL}
    out = {"systems": {name: {"auroc": entry(0.9), "minus_logreg32": {"auroc": gap}} for name, gap in names.items()}}
    out["systems"]["logreg32"] = {"auroc": entry(0.88)}
    titles = {"cnn": "CNN-5", "resnet": "ResNet-18", "logreg32": "logreg32 (floor)"}
    note = tables.make(out, titles, CLASSES, exclusive, "phantoms", None)[0]["note"]
    assert "paired AUROC difference: ResNet-18 (+0.005 [-0.001, +0.011])." in note
    assert "CNN-5" not in note


def test_the_classifiers_of_a_treatment_stand_beside_the_floor():
    out = {
        name: {"test": {"accuracy": entry(0.9), "auroc": entry(0.95)}, "minus_logreg32": {"auroc": gap}}
        for name, gap in (("classifier", ABOVE), ("judge", BELOW), ("latent_classifier", LEVEL))
    }
    out["logreg32"] = {"test": {"accuracy": entry(0.85), "auroc": entry(0.94)}}
    (table,) = classifiers.tables_of(out, ("classifier", "judge", "latent_classifier"), "test")
    assert [row["name"] for row in table["rows"]] == ["classifier", "judge", "latent classifier", "logreg32"]
    assert table["rows"][0]["cells"] == [entry(0.9), entry(0.95), ABOVE]
    assert table["rows"][-1]["cells"][-1] is None
    assert "difference: judge (-0.020 [-0.030, -0.010]), latent classifier (+0.005" in table["note"]
    assert "not better" not in classifiers.tables_of(out, ("classifier",), "test")[0]["note"].lower()
