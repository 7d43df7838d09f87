"""Films from elsewhere are drawn as they were measured: a row a system, a panel a set and measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrjax.report.classification.external import external
from cxrjax.report.read.classification import Classification, read
from cxrjax.report.read.workdir import read_run


def entry(value: float | None) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.05)
    return {"value": value, "low": low, "high": high, "n": 9, "unit": "1"}


def run_of(folder: Path, **sets: dict[str, Any]) -> Classification:
    (folder / "manifest.json").write_text("{}")
    (folder / "results.json").write_text(json.dumps({"external": sets}))
    return read(read_run(folder))


def a_set(**measures: tuple[float | None, float | None]) -> dict[str, Any]:
    sides = {
        side: {name: entry(pair[i]) for name, pair in measures.items()} for i, side in enumerate(("inside", "outside"))
    }
    return {"systems": {"net": sides, "logreg32": sides}, "titles": [["net", "Net"], ["logreg32", "the floor"]]}


def test_each_set_has_a_panel_a_measure_with_both_sides_and_their_intervals(tmp_path):
    run = run_of(tmp_path, kids=a_set(auroc=(0.9, 0.7), accuracy_at_threshold=(0.8, 0.75)), far=a_set(auroc=(0.9, 0.6)))
    figure = external(run)
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [
        "kids: AUROC",
        "kids: accuracy",
        "far: AUROC",
    ]
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Net", "the floor"]
    across, first, hollow, second, filled = axes.lines[:5]
    np.testing.assert_allclose(across.get_xdata(), [0.9, 0.7])
    np.testing.assert_allclose(first.get_xdata(), [0.8, 0.95])
    np.testing.assert_allclose(second.get_xdata(), [0.6, 0.75])
    assert (hollow.get_xdata()[0], hollow.get_markerfacecolor()) == (0.9, "white")
    assert (filled.get_xdata()[0], filled.get_markerfacecolor()) == (0.7, filled.get_color())
    assert axes.lines[-1].get_xdata()[0] == 0.7  # of the floor outside
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first system is above


@pytest.mark.parametrize("sets", [{}, {"kids": a_set(auroc=(0.9, None))}, {"kids": {}}])
def test_what_was_not_measured_is_not_drawn(tmp_path, sets):
    assert external(run_of(tmp_path, **sets)) is None
