"""The front door to films on demand: mistakes in a line before jax is imported, an empty folder to write in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import cxrjax

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def front(launcher: Callable[[str], ModuleType]) -> ModuleType:
    return launcher("synthesize")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--workdir"),
        (["--workdir=a", "--finding=Mass", "--out=o", "--num=x"], "invalid int"),
        (["--workdir=a", "--finding=Mass", "--out=o", "--nmu=3"], "unrecognized"),
        (["--workdir=/no/such/run", "--finding=Mass", "--out=o"], "holds no run"),
    ],
)
def test_a_mistake_is_one_line(
    front: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    flags: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert front.main(["synthesize.py", *flags]) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert words in got.err
    assert got.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_not_written_to(
    front: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "note.txt").touch()
    assert front.main(["synthesize.py", "--workdir=a", "--finding=Mass", f"--out={tmp_path}"]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_paths_in_the_home_folder(front: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = front.parse(["--workdir=~/run", "--finding=Mass", "--out=~/films"])
    assert (found.workdir, found.out) == (str(tmp_path / "run"), tmp_path / "films")
    (tmp_path / "films").write_text("a file")
    with pytest.raises(front.UsageError, match=r"--out=.* is there"):
        front.parse(["--workdir=~/run", "--finding=Mass", "--out=~/films"])


def test_films_and_a_contact_sheet_are_written(
    front: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def load(workdir: str) -> SimpleNamespace:
        def sample(finding: str, n: int, seed: int) -> np.ndarray:
            asked.append((workdir, finding, n, seed))
            return np.zeros((n, 8, 8), np.uint8)

        return SimpleNamespace(generator=lambda: SimpleNamespace(sample=sample))

    monkeypatch.setattr(cxrjax, "load", load)
    flags = ["--workdir=run", "--finding=Nodule/Mass", "--num=3", f"--out={tmp_path / 'films'}", "--seed=5", "--dicom"]
    assert front.main(["synthesize.py", *flags]) == 0
    assert asked == [("run", "Nodule/Mass", 3, 5)]  # a class of VinDr's
    assert len(list((tmp_path / "films").glob("Nodule_Mass-*.png"))) == 3
    assert len(list((tmp_path / "films" / "dicom").glob("Nodule_Mass-*.dcm"))) == 3
    assert (tmp_path / "films" / "contact_sheet.png").is_file()
    assert "synthetic" in capsys.readouterr().out
