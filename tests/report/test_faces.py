"""Every study has a face, and a study's page is made of its face alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console

from cxrjax import report
from cxrjax.errors import UserError
from cxrjax.report import faces
from cxrjax.report.face import CAUTION, Face, Plot
from cxrjax.report.read.workdir import Run
from cxrjax.studies import STUDIES


def _workdir(folder: Path, study: Any, results: Any = None) -> Path:
    (folder / "manifest.json").write_text(json.dumps({"config": {"study": study}}))
    (folder / "results.json").write_text(json.dumps(results or {}))
    return folder


def test_every_study_has_a_face() -> None:
    assert set(faces.FACES) == set(STUDIES)


def test_a_new_study_needs_its_face_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A study that the report has never heard of: its figure, headline, key number and notice are on its page."""

    def weights(run: Run) -> Figure:
        figure = Figure(figsize=(3, 2))
        figure.subplots().bar(list(run.results["weights"]), list(run.results["weights"].values()))
        return figure

    plot = Plot(weights, "Weights", "What each doll weighs.", place="above", generated=True)
    face = Face(
        {"weights": plot, "absent": Plot(lambda run: None, "Absent", "Nothing.")},
        headline=lambda run: f"{len(run.results['weights'])} dolls were weighed.",
        key_numbers=lambda run: [("Weight of Ann", run.entry("weights", "Ann"))],
        notices=(Markup("Dolls are <b>synthetic</b>."),),
        drawn=("secret",),
    )
    monkeypatch.setitem(faces.FACES, "toys", face)
    results = {"weights": {"Ann": 3.25, "Bob": 4.5}, "secret": {"a": 1}}
    workdir = _workdir(tmp_path, {"name": "toys"}, results)
    page = report.write(workdir).read_text()
    assert '<p class="headline">2 dolls were weighed.</p>' in page
    assert page.index('id="figure-weights"') < page.index("Key numbers") < page.index("weights.Bob")
    assert '<td>Weight of Ann</td><td class="r"><b>3.250</b>' in page
    assert "Dolls are <b>synthetic</b>." in page
    assert str(CAUTION) not in page
    assert "secret.a" not in page
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["weights.png"]
    console = Console(record=True, width=120)
    console.print(*report.rich_tables(workdir))
    assert "Weight of Ann" in console.export_text()


def test_a_study_without_a_face_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json: config\.study\.name is 'progres': .* mean 'progress'\?"):
        report.write(_workdir(tmp_path, {"name": "progres"}))


def test_a_run_of_no_study_says_so_and_shows_what_every_run_has(tmp_path: Path) -> None:
    page = report.write(_workdir(tmp_path, {}, {"thing": {"value": 1.5}})).read_text()
    assert "manifest.json names no study" in page
    assert "thing" in page


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("launch/main.py --config=configs/cgan.py:smoke --workdir=/tmp/run", "cgan-smoke"),
        ("launch/main.py --config configs/cgan.py --config.seed=1", "cgan"),
        ("main.py --config='my configs/cgan.py:default' --config.study.name=smoke", "cgan"),
        ("main.py --workdir=config --config=a.py --config=b.py:full", "b-full"),
        ("test", "the folder"),
        ("", "the folder"),
    ],
)
def test_a_page_is_titled_as_the_launcher_names_the_run(tmp_path: Path, command: str, name: str) -> None:
    assert Run(tmp_path / "the folder", {"command": command}, [], []).name == name
