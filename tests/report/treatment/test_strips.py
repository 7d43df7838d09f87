"""The strips of films: which are shown, how they differ, what is absent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from cxrjax.report.draw.overlay import LEVELS, difference_sheet
from cxrjax.report.faces import read
from cxrjax.report.treatment.strips import build, choose_films, export


def test_a_lambda_that_one_mode_lacks_is_marked_absent(fakes: SimpleNamespace, tmp_path: Path) -> None:
    workdir = fakes.run(tmp_path, n=4, size=16, lambdas=(100, 200))
    (workdir / "progress" / "uniform_0200.npz").unlink()
    live = build(read(workdir)[1]).live
    assert live["lambdas"] == [0, 100, 200]
    assert live["present"]["uniform"] == [True, True, False]
    assert live["present"]["time_gated"] == [True, True, True]
    assert all(p[2] is None for p in live["probability"]["uniform"]["independent"])
    assert all(p[2] is not None for p in live["probability"]["time_gated"]["independent"])


def test_difference_sheet_is_neutral_at_zero_and_signed() -> None:
    sheet = difference_sheet(np.array([[-1.0, -0.1, 0.0, 0.1, 1.0]]))
    index = np.asarray(sheet)[0]
    assert index[2] == LEVELS // 2
    assert index[0] == 0
    assert index[4] == LEVELS - 1
    np.testing.assert_array_equal(index + index[::-1], LEVELS - 1)
    red, _, blue = np.moveaxis(np.asarray(sheet.convert("RGB"), int), -1, 0)
    assert blue[0, 1] > red[0, 1]
    assert red[0, 3] > blue[0, 3]


def test_choice_of_films_spans_severity_and_keeps_controls(run_dir: Path) -> None:
    films = read(run_dir)[1].films
    chosen = choose_films(films, diseased=5, controls=2)
    sick = films.severity[chosen[:5]]
    assert films.disease[chosen].tolist() == [True] * 5 + [False] * 2
    assert (np.diff(sick) > 0).all()
    assert sick[0] == films.severity[films.disease].min()
    assert sick[-1] == films.severity[films.disease].max()


def test_exported_films_say_that_they_are_synthetic_and_how_they_were_made(
    fakes: SimpleNamespace, tmp_path: Path
) -> None:
    run = read(fakes.run(tmp_path / "run", n=4, size=16, lambdas=(100, 200)))[1]
    export(run, tmp_path / "films")
    paths = sorted((tmp_path / "films").glob("*.png"))
    assert len(paths) == 4 * 5 * 2
    for path in paths:
        text = Image.open(path).info
        assert text["Synthetic"] == "true"
        assert "not for diagnosis" in text["Notice"]
        assert path.name.endswith(f"_{text['Mode']}_{int(text['Lambda']):04d}.png")
