"""Films of one's own under treatment, as files: each says that it is synthetic, and the page moves."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax.infer.progress import Progress
from cxrjax.report.draw.png import NOTICE
from cxrjax.report.treatment import own


def film(name: str) -> Progress:
    rng = np.random.default_rng(0)
    small, large = rng.random((16, 16), np.float32), rng.random((40, 30), np.float32)
    return Progress(
        Path(name), "", small, np.eye(16, dtype=np.float32), np.stack([small, 1 - small]), large,
        np.stack([large, 1 - large]), {"independent": np.array([0.1, 0.5, 0.9])},
    )  # fmt: skip


@pytest.fixture(scope="module", params=["gif", "webp"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "out"
    films = [film("in/<i>a.dcm"), Progress(Path("in/b.txt"), "no film")]
    page, failed = own.write(folder, "time_gated", (100, 200), iter(films), "runs/x", "progress.py", request.param)
    assert (page, failed) == (folder / "report.html", 1)
    return folder


def test_every_picture_says_that_it_is_synthetic(written: Path) -> None:
    pictures = [path for path in written.rglob("*") if path.suffix in (".png", ".gif", ".webp")]
    assert len(pictures) == 2 + 2 + 1 + 1 + 1
    for path in pictures:
        with Image.open(path) as picture:
            marks = [picture.info.get("Notice"), picture.info.get("comment", b"").decode(), picture.getexif().get(270)]
            assert NOTICE in marks, path


def test_treated_films_are_of_the_films_own_size_and_differences_signed(written: Path) -> None:
    name = next((written / "films").iterdir()).name.rsplit("-", 1)[0]
    treated = np.asarray(Image.open(written / "films" / f"{name}-0200.png"))
    np.testing.assert_array_equal(treated, np.round((1 - film("x").original) * 255))
    for folder in ("differences", "films"):
        assert Image.open(written / folder / f"{name}-0100.png").size == (30, 40)
    assert len(set(np.asarray(Image.open(written / "differences" / f"{name}-0100.png")).ravel())) == 1  # no change
    with Image.open(next((written / "animations").iterdir())) as animation:
        assert animation.n_frames == 3


def test_every_film_and_lambda_has_a_row(written: Path) -> None:
    rows = list(csv.DictReader((written / "progress.csv").open()))
    assert [(row["lambda"], row["normal, independent"]) for row in rows] == [
        ("0", "0.1"), ("100", "0.5"), ("200", "0.9"), ("", ""),
    ]  # fmt: skip
    assert (written / rows[2]["treated"]).is_file()
    assert rows[3]["fault"] == "no film"


def test_the_page_has_what_its_slider_moves(written: Path) -> None:
    page = (written / "report.html").read_text()
    live = json.loads(re.search(r'id="live">(.*?)</script>', page, re.DOTALL)[1])
    assert live["lambdas"] == [0, 100, 200]
    assert live["probability"] == {"time_gated": {"independent": [[0.1, 0.5, 0.9]]}}
    assert live["rates"] == {}
    assert 'id="lambda" min="0" max="2"' in page
    assert "&lt;i&gt;a.dcm" in page
    assert "<i>a.dcm" not in page
    assert "not a prognosis" in page
    assert not re.search(r">Disease|severity", page)
