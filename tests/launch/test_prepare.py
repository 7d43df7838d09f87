"""The command that prepares films, or looks at them first: mistakes in a line, a page that holds all that was found."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
CONFIG = f"--config={LAUNCH.parent / 'configs' / 'kaggle4.py'}"


@pytest.fixture
def front(launcher: Callable[[str], ModuleType]) -> ModuleType:
    return launcher("prepare")


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """Flags of a table of twelve films."""
    rows = ["path,patient,label"]
    for i in range(12):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40), np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i},{'<Odd>' if i % 2 else 'Normal'}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    return [
        "--config.data.name=csv", f"--config.data.table={tmp_path / 'films.csv'}", "--config.data.classes=()",
        f"--config.data.cache={tmp_path / 'cache'}", "--config.data.size=32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--config is missing"),
        ([CONFIG, "--out=x"], "add --check"),
        ([CONFIG, "--chekc"], "unknown flag --chekc"),
        ([CONFIG, "--config.data.name=csv", "--check"], "--config.data.table=FILE.csv"),
        ([CONFIG, "--config.data.name=csv", "--config.data.table=no.csv"], "--config.data.table=no.csv does not exist"),
        ([CONFIG, "--config.data.name=xsv", "--check"], "did you mean 'csv'"),
    ],
)
def test_a_mistake_is_one_line(front, capsys, monkeypatch, tmp_path, flags, words) -> None:
    monkeypatch.chdir(tmp_path)
    assert front.main(["prepare.py", *flags]) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert words in got.err
    assert got.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_check_writes_its_page_and_its_list_and_prepares_nothing(front, capsys, tmp_path, table) -> None:
    out = tmp_path / "out"
    assert front.main(["prepare.py", CONFIG, *table, "--check", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "csv: 12 films, labels films.csv:" in said
    assert f"page: {out / 'report.html'}" in said
    page = (out / "report.html").read_text()
    assert "&lt;Odd&gt;" in page  # a class's name is text
    assert "<Odd>" not in page
    assert page.count("data:image/png;base64,") == 2
    assert not (tmp_path / "cache").exists()
    with (tmp_path / "films.csv").open("a") as file:
        file.write("\ngone.png,1,Normal")
    assert front.main(["prepare.py", CONFIG, *table, "--check", f"--out={out}"]) == 2
    assert "would stop a run: 1 missing: gone.png" in capsys.readouterr().out
    assert list(csv.reader((out / "films.csv").open()))[:2] == [
        ["kind", "stops a run", "film"],
        ["missing", "yes", "gone.png"],
    ]


def test_films_are_prepared_where_a_run_finds_them(front, capsys, tmp_path, table) -> None:
    assert front.main(["prepare.py", CONFIG, *table]) == 0
    assert "0 left out; fingerprint" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").glob("csv-32-*/prepared.json"))) == 1
