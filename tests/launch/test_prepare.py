"""The command that prepares films, or looks at them first: mistakes in a line, a page that holds all that was found."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
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
        ([CONFIG, "--check", "--out=gs://b/x"], "--out=gs://b/x is a URL; expected a local or mounted folder"),
        ([CONFIG, "--config.data.cache=gs://b/x"], "--config.data.cache=gs://b/x is a URL"),
        ([CONFIG, "--chekc"], "unknown flag --chekc"),
        ([CONFIG, "--shard=4/4"], "--shard=4/4: expected i/n with i from 0 to n - 1, so the last of 4 is --shard=3/4"),
        ([CONFIG, "--shard=second"], "--shard=second: expected i/n"),
        ([CONFIG, "--shard=0/0"], "--shard=0/0: expected i/n"),
        ([CONFIG, "--shard=0/2", "--merge"], "--shard and --merge: give one of them"),
        ([CONFIG, "--shards=2"], "--shards is a number above 0, and goes with --ray"),
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


def test_shards_as_commands_give_what_one_command_gives(front, capsys, tmp_path, table) -> None:
    def files() -> dict[str, bytes]:
        (folder,) = (tmp_path / "cache").glob("csv-32-*/")
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert front.main(["prepare.py", CONFIG, *table]) == 0
    one, said = files(), capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache")
    for i in (1, 0):
        assert front.main(["prepare.py", CONFIG, "--shard", f"{i}/3", *table]) == 0
        assert f"shard {i}/3: 4 films, 0 left out" in capsys.readouterr().out
    assert front.main(["prepare.py", CONFIG, "--merge", *table]) == 2
    told = capsys.readouterr().err
    assert "1 of 3 shards are not done: 2/3 (0 of 4 films)" in told
    more = re.search("; run python (.*), then python", told)
    assert more is not None
    assert front.main(shlex.split(more[1])) == 0
    capsys.readouterr()
    assert front.main(["prepare.py", CONFIG, "--merge", *table]) == 0
    assert capsys.readouterr().out == said
    assert files() == one


def test_ray_is_asked_for_and_missing(front, capsys, monkeypatch, table) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert front.main(["prepare.py", CONFIG, "--ray", *table]) == 2
    assert "pip install 'cxrjax[ray]'" in capsys.readouterr().err
