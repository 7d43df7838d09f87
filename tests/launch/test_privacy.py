"""No command writes or prints who is on its DICOM films: every file is searched, the cache and what is packed too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import planted
import pytest

from cxrjax.data import phantom

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
Launcher = Callable[[str], ModuleType]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of DICOM films, two a patient, of whom the table says nothing; with one that is cut short."""
    folder, rows = tmp_path / "films", ["path,label"]
    folder.mkdir()
    for i in range(72):
        sick = i % 2
        film = phantom.render(4000 + i, 32, {"Pneumonia": 0.8} if sick else {}).image
        planted.write(folder / f"{i}.dcm", film, patient=i // 2)
        rows.append(f"{i}.dcm,{('Normal', 'Pneumonia')[sick]}")
    (folder / "9.dcm").write_bytes((folder / "9.dcm").read_bytes()[:-700])
    (folder / "films.csv").write_text("\n".join(rows))
    return folder


def flags_of(films: Path, config: str) -> list[str]:
    data = {"name": "csv", "table": films / "films.csv", "cache": films.parent / "cache", "quarantine_limit": 0.1,
            "classes": "('Normal', 'Pneumonia')", "size": 32, "carve.val": 0.2, "carve.test": 0.3}  # fmt: skip
    return [f"--config={CONFIGS / config}", *(f"--config.data.{key}={value}" for key, value in data.items())]


def test_prepared_films_and_their_check_name_no_patient(
    launcher: Launcher, capfd: pytest.CaptureFixture[str], tmp_path: Path, films: Path
) -> None:
    front, flags = launcher("prepare"), flags_of(films, "kaggle4.py:smoke")
    assert planted.found([films])  # what is searched for is there to be found
    assert front.main(["prepare.py", *flags, "--check", f"--out={tmp_path / 'check'}"]) == 0
    assert front.main(["prepare.py", *flags]) == 0
    said = capfd.readouterr()
    assert "1 left out" in said.out
    known = sum(map(int, re.findall(r"films of (\d+) known patients", said.out)))
    assert known == len(list(films.glob("*.dcm"))) / 2  # told apart, by the films' headers alone
    assert len(list((tmp_path / "cache").rglob("*array_record*"))) > 1
    assert planted.found([tmp_path / "check", tmp_path / "cache"], said.out + said.err) == []
