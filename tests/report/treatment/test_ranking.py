"""The figure of arms inside and outside, and what the page says of judges elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from cxrjax.report import faces, write
from cxrjax.report.treatment import arms, headline, ranking

SAID = "Its independent judge calls a share of 0.410 of healthy untreated films of official normal."
WARNED = "The independent judge calls a share of 0.410 normal, less than 0.8 <&>."


def _scaled(tree: Any, factor: float) -> Any:
    if "value" in tree and not isinstance(tree["value"], dict):
        return {key: value * factor if key in ("value", "low", "high") else value for key, value in tree.items()}
    return {key: _scaled(value, factor) for key, value in tree.items()}


@pytest.fixture(scope="module")
def outside_dir(fakes, tmp_path_factory) -> Path:
    """A run whose arms change half as much again outside, where one of them never reaches the rate."""
    workdir = fakes.run(tmp_path_factory.mktemp("outside"))
    path = workdir / "results.json"
    results = json.loads(path.read_text())
    found = {name: _scaled(results[name], 1.5) for name in ("equal_rate", "progress", "control")}
    del found["equal_rate"]["independent"]["0.5"]["mask_blend"]
    found["progress"]["mask_blend"] = {"100": {"normal_rate": {"independent": {"value": 0.12, "n": 60}}}}
    normal = {"value": 0.41, "low": 0.31, "high": 0.52, "n": 80, "unit": "fraction"}
    results |= {
        "external": {"official": found}, "sentences": [SAID], "warnings": [WARNED],
        "healthy": {"inside": {"independent": {"normal": {**normal, "value": 0.97}}},
                    "official": {"independent": {"normal": normal, "normal_set": {**normal, "value": 0.88}}}},
    }  # fmt: skip
    path.write_text(json.dumps(results))
    return workdir


def test_the_figure_has_a_panel_for_each_source_in_the_order_of_inside(outside_dir):
    _, run = faces.read(outside_dir)
    figure = ranking.outside(run)
    assert figure is not None
    inside, there = figure.axes
    assert [axes.get_title().splitlines()[0].split(":")[0] for axes in (inside, there)] == ["inside", "official"]
    assert inside.get_xlim() == there.get_xlim()
    assert [label.get_text() for label in inside.get_yticklabels()] == run.ranking[1]

    def dots(axes: Any) -> dict[int, float]:
        return {int(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"}

    lost = run.ranking[1].index("mask_blend")
    assert set(dots(inside)) - set(dots(there)) == {lost}
    assert all(dots(there)[place] == pytest.approx(1.5 * dots(inside)[place]) for place in dots(there))
    assert [text.get_text() for text in there.texts] == ["not reached; at most 12 %, at λ = 100"]


def test_a_rate_that_untreated_films_have_is_not_said_to_be_missed(outside_dir):
    _, run = faces.read(outside_dir)
    axes = Figure().subplots()
    low, high = (arms.best_rate(run, "uniform"), arms.best_rate(run, "mask_blend", source="official"))
    ranking.missed(axes, [None, None, low[1]], [low, high, low], 0.5)
    assert [text.get_text() for text in axes.texts] == [
        "untreated films have this rate", "not reached; at most 12 %, at λ = 100",
    ]  # fmt: skip


def test_a_run_without_films_from_elsewhere_has_no_such_figure(run_dir):
    assert ranking.outside(faces.read(run_dir)[1]) is None
    assert not (run_dir / "figures" / "outside.png").exists()


def test_the_page_says_how_judges_do_on_healthy_films_and_warns(outside_dir):
    page = write(outside_dir).read_text()
    assert (outside_dir / "figures" / "outside.png").exists()
    _, run = faces.read(outside_dir)
    assert headline.headline(run).endswith(SAID)
    assert (
        f'<span class="tag">Warning</span> {WARNED.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}'
        in page
    )
    names = {name: entry.value for name, entry in headline.key_numbers(run)}
    words = "Healthy untreated films called normal"
    assert names[f"{words}, official (independent)"] == 0.41
    assert names[f"{words} at the threshold set on others of them, official (independent)"] == 0.88
