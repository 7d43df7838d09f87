"""The words and numbers follow the intervals."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxrjax.report.faces import read
from cxrjax.report.read.workdir import Entry
from cxrjax.report.summary import DASH, interval, number, verdict
from cxrjax.report.treatment.headline import headline


def _results(workdir: Path, change: dict) -> str:
    """The headline of a run whose best-ranked guided mode has another difference to uniform noise."""
    path = workdir / "results.json"
    results = json.loads(path.read_text())
    results["equal_rate"]["independent"]["0.5"]["noise_matrix"]["mae"]["outside"]["difference"] = change
    path.write_text(json.dumps(results))
    return headline(read(workdir)[1])


def test_headline_follows_the_interval_not_the_wish(fakes: SimpleNamespace, tmp_path: Path) -> None:
    workdir = fakes.run(tmp_path, n=8, size=16, lambdas=(100,))
    assert "better preserved" in _results(workdir, {"value": -0.03, "low": -0.04, "high": -0.02})
    assert "less well" in _results(workdir, {"value": 0.03, "low": 0.02, "high": 0.04})
    assert "cannot be told apart" in _results(workdir, {"value": -0.03, "low": -0.07, "high": 0.01})


def test_verdict_is_given_where_the_interval_leaves_out_zero() -> None:
    assert verdict(Entry((), -0.2, -0.3, -0.1)) == "better"
    assert verdict(Entry((), 0.2, 0.1, 0.3)) == "worse"
    assert verdict(Entry((), -0.2, -0.5, 0.1)) == verdict(Entry((), -0.2)) == ""


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_missing_numbers_print_as_a_dash(missing: float | None) -> None:
    assert number(missing) == DASH
    assert interval(Entry(("a",), 1.0, missing, 2.0)) == DASH
    assert interval(Entry(("a",), 1.0, 0.5, 2.0)) == "[0.500, 2.000]"
