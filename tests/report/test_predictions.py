"""Predictions as files: every film has its row, maps are at the film's own proportions, names stay text on the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cxrjax.infer.predict import Operating, Prediction
from cxrjax.report import predictions

POINT = Operating(2.0, (), 0.1, "chosen on 9 validation films")


def said(path: str = "in/<b>a.png", **changes) -> Prediction:
    film, heat = np.full((30, 20), 90, np.uint8), np.zeros((8, 8), np.float32)
    heat[:4] = 1
    one = Prediction(
        Path(path), "", np.array([0.25, 0.75]), np.array([0.4, 0.6]), ("Odd/1",), False, film, {"Odd/1": heat}
    )
    return one._replace(**changes)


def write(folder: Path, films: list[Prediction], point: Operating = POINT, **more) -> tuple[Path, int]:
    predictor = SimpleNamespace(name="judge", classes=("Normal", "Odd/1"), operating=point)
    return predictions.write(folder, predictor, iter(films), "runs/x", "predict.py --x", **more)


def test_every_film_has_a_row_in_table_and_json(tmp_path: Path) -> None:
    page, failed = write(tmp_path / "out", [said(by="window, inverted"), Prediction(Path("in/b.txt"), "no film")])
    assert failed == 1
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert rows[0]["Odd/1"] == "0.75"
    assert rows[0]["Odd/1 calibrated"] == "0.6"
    assert (rows[0]["called"], rows[0]["set aside"], rows[0]["gray by"]) == ("Odd/1", "no", "window, inverted")
    assert (rows[1]["film"], rows[1]["fault"], rows[1]["Normal"]) == ("in/b.txt", "no film", "")
    whole = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert whole["temperature"] == 2
    assert whole["films"][0]["probability"] == {"Normal": 0.25, "Odd/1": 0.75}
    assert whole["films"][1] == {"film": "in/b.txt", "fault": "no film"}
    text = page.read_text()
    assert "&lt;b&gt;a.png" in text
    assert "<b>a.png" not in text
    assert "no film" in text
    assert "gray by window, inverted" in text
    assert "Not for diagnosis" in text


def test_a_map_lies_over_the_film_at_its_own_proportions(tmp_path: Path) -> None:
    write(tmp_path, [said()])
    row = next(csv.DictReader((tmp_path / "predictions.csv").open()))
    picture = np.asarray(Image.open(tmp_path / row["maps"]), int)
    assert picture.shape == (30, 20, 3)
    np.testing.assert_array_equal(picture[-5:], 90)  # where the map is 0 the film is as it was
    assert np.ptp(picture[:5], axis=-1).min() > 20


def test_what_the_run_did_not_choose_has_no_column(tmp_path: Path) -> None:
    write(tmp_path, [said(calibrated=None, set_aside=None, heat={})], POINT._replace(temperature=None, aside=None))
    assert next(csv.reader((tmp_path / "predictions.csv").open())) == [
        "film", "fault", "Normal", "Odd/1", "called", "maps", "gray by",
    ]  # fmt: skip
    assert not (tmp_path / "maps").exists()


def test_a_mistake_at_the_first_film_leaves_nothing_behind(tmp_path: Path) -> None:
    def films():
        raise RuntimeError
        yield

    with pytest.raises(RuntimeError):
        write(tmp_path / "out", films())
    assert not (tmp_path / "out").exists()
