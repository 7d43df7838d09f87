"""The page of a classification study: its tables first, each figure where its data is, and nothing of a treatment."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.report import faces, figures, write

DRAWN = ("seeds", "roc", "precision_recall", "confusion", "reliability", "maps", "failures", "enh")
DRAWN += ("grid", "grid_curves", "ntk", "losses")


@pytest.fixture(scope="module")
def study_page(study_dir: Path) -> str:
    return (study_dir / "report.html").read_text()


def _words(page: str) -> str:
    """What a reader sees: no styles, no pictures, no tags, no manifest."""
    page = re.sub(r"<(style|pre|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


def test_every_figure_is_a_file_and_is_on_the_page(study_page: str, study_dir: Path) -> None:
    assert sorted(path.stem for path in (study_dir / "figures").iterdir()) == sorted(DRAWN)
    assert set(re.findall(r'id="figure-(\w+)"', study_page)) == set(DRAWN)
    assert all(len(words) > 40 for words in re.findall(r'<img[^>]*alt="([^"]*)"', study_page))


def test_tables_come_first_with_intervals_strings_and_dashes(study_page: str) -> None:
    words = " ".join(_words(study_page).split())
    order = ["The best network reaches", "Systems beside the paper", "Paired differences to logreg32", "ROC curves"]
    places = [words.index(text) for text in order]
    assert places == sorted(places)
    assert "Key numbers" not in words
    first = study_page.split("Systems beside the paper</h2>")[1].split("</section>")[0]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", first.split("</thead>")[0])
    assert [html.unescape(head) for head in heads] == ["", "accuracy", "macro AUROC", "paper's accuracy", "measured on"]
    rows = [" ".join(_words(row).split()) for row in first.split("<tbody>")[1].split("</tr>")[:3]]
    assert rows[0] == "cnn5 0.900 [0.870, 0.930] 0.970 [0.960, 0.980] 0.9412 the test split"
    assert rows[1] == "fcn [5 folds] 0.800 [0.770, 0.830] — — —"
    assert rows[2] == "logreg32 0.750 — — the test split"


def test_nothing_undefined_is_printed_and_nothing_is_called_synthetic(study_page: str) -> None:
    words = _words(study_page)
    assert not re.search(r"\b(nan|None|null|inf)\b", words, flags=re.IGNORECASE)
    assert "synthetic" not in words.lower()
    assert "treatment" not in words.lower()
    assert "share it only as far as their license allows" in words
    assert "systems.cnn5.test.auroc.covid" in words
    assert "Warning" not in words


@pytest.mark.parametrize(
    ("missing", "absent"),
    [
        ("predictions", ("roc", "precision_recall", "confusion", "reliability")),
        ("maps.npz", ("maps",)),
        ("failures.npz", ("failures",)),
        ("enh.npz", ("enh",)),
        ("grid", ("grid", "grid_curves")),
        ("metrics.jsonl", ("losses",)),
        ("results.json", ("ntk", "seeds")),
    ],
)
def test_what_a_run_lacks_is_absent_and_the_rest_is_there(
    fakes: SimpleNamespace, tmp_path: Path, missing: str, absent: tuple[str, ...]
) -> None:
    workdir = fakes.study(tmp_path / "run", films=40, size=8)
    (workdir / missing).rename(tmp_path / "away")
    face, run = faces.read(workdir)
    plots = {**face.figures, **figures.OF_EVERY_RUN}
    assert [plots[name].draw(run) for name in absent] == [None] * len(absent)
    other = "grid_curves" if "grid_curves" not in absent else "ntk"
    assert plots[other].draw(run) is not None


def test_a_study_of_tables_alone_embeds_no_films_and_says_nothing_of_them(tmp_path: Path) -> None:
    table = {"title": "Only <this>", "note": "", "columns": ["a"], "rows": [{"name": "x", "cells": [0.5]}]}
    (tmp_path / "results.json").write_text(json.dumps({"tables": [table]}))
    (tmp_path / "manifest.json").write_text("{}")
    page = write(tmp_path).read_text()
    assert "Only &lt;this&gt;" in page
    assert "license" not in page
    assert "<img" not in page


def test_failures_of_a_run_without_maps_are_films_alone(fakes: SimpleNamespace, tmp_path: Path) -> None:
    workdir = fakes.study(tmp_path, films=12, size=8)
    with np.load(workdir / "failures.npz") as kept:
        arrays = dict(kept)
    face, run = faces.read(workdir)
    assert len(face.figures["failures"].draw(run).axes) == 2 * 8  # each film above its map
    del arrays["map"]
    np.savez(workdir / "failures.npz", **arrays)
    figure = face.figures["failures"].draw(faces.read(workdir)[1])
    assert [axes.get_title() for axes in figure.axes if axes.images] == [f"said {said}" for said in arrays["said"]]


def test_maps_and_channels_of_wrong_shape_are_told(fakes: SimpleNamespace, tmp_path: Path) -> None:
    workdir = fakes.study(tmp_path, films=12, size=8)
    zeros = np.zeros((2, 8, 8))
    np.savez(workdir / "enh.npz", image=zeros, enh=np.zeros((2, 8, 8, 2)), label=np.array(["a", "b"]))
    with pytest.raises(UserError, match=r"enh\.npz: enh has shape \(2, 8, 8, 2\)"):
        faces.read(workdir)
    np.savez(workdir / "maps.npz", image=zeros, map=zeros)
    with pytest.raises(UserError, match=r"maps\.npz: array\(s\) finding, key, score, truth missing"):
        faces.read(workdir)
