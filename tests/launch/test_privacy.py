"""No command writes or prints who is on its DICOM films: every file is searched, the cache and what is packed too.

`test_predict.py` does the same with `predict.py` and `progress.py`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import planted
import pytest

from cxrjax.data import phantom
from cxrjax.report.draw.png import data_uri, encode_png

ROOT = Path(__file__).resolve().parents[2]
Launcher = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DICOM films, two a patient, of whom the table says nothing; with one that is cut short."""
    folder, rows = tmp_path_factory.mktemp("films"), ["path,label"]
    for i in range(96):
        sick = i % 2
        film = phantom.render(4000 + i, 32, {"Pneumonia": 0.8} if sick else {}).image
        planted.write(folder / f"{i}.dcm", film, patient=i // 2)
        rows.append(f"{i}.dcm,{('Normal', 'Pneumonia')[sick]}")
    (folder / "9.dcm").write_bytes((folder / "9.dcm").read_bytes()[:-700])
    (folder / "films.csv").write_text("\n".join(rows))
    return folder


def flags_of(films: Path, cache: Path, config: str, *classes: str) -> list[str]:
    data = {"name": "csv", "table": films / "films.csv", "cache": cache, "quarantine_limit": 0.1,
            "classes": str(classes), "size": 32, "carve.val": 0.2, "carve.test": 0.3}  # fmt: skip
    return [f"--config={ROOT / 'configs' / config}", *(f"--config.data.{key}={value}" for key, value in data.items())]


def test_what_is_packed_is_searched_too(tmp_path: Path) -> None:
    picture = encode_png(np.zeros((2, 2), np.uint8), synthetic=False, Who=planted.PATIENT["PatientName"])
    (tmp_path / "page.html").write_text(f'<img src="{data_uri(picture)}">')
    np.savez_compressed(tmp_path / "arrays.npz", patient=np.bytes_(planted.PATIENT["PatientID"]))
    (tmp_path / "nobody.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8), synthetic=True))
    assert sorted(Path(line.split(": ")[0]).name for line in planted.found([tmp_path])) == ["arrays.npz", "page.html"]


def test_prepared_films_and_their_check_name_no_patient(
    launcher: Launcher, capfd: pytest.CaptureFixture[str], tmp_path: Path, films: Path
) -> None:
    front = launcher("prepare")
    flags = flags_of(films, tmp_path / "cache", "kaggle4.py:smoke", "Normal", "Pneumonia")
    assert planted.found([films])  # what is searched for is there to be found
    assert front.main(["prepare.py", *flags, "--check", f"--out={tmp_path / 'check'}"]) == 0
    assert front.main(["prepare.py", *flags]) == 0
    said = capfd.readouterr()
    assert "1 left out" in said.out
    known = sum(map(int, re.findall(r"films of (\d+) known patients", said.out)))
    assert known == len(list(films.glob("*.dcm"))) / 2  # told apart, by the films' headers alone
    assert len(list((tmp_path / "cache").rglob("*array_record*"))) > 1
    assert planted.found([tmp_path / "check", tmp_path / "cache"], said.out + said.err) == []


class Desk:
    """A shell in an empty folder that is home and place for temporary files too, so that all that is written is here.

    Attributes:
      folder: the folder.
      said: all that was printed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, ""

    def run(self, command: str, *flags: str) -> None:
        """A command that has to end with 0."""
        places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(self.folder / "home"))
        Path(places["HOME"]).mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, str(ROOT / "launch" / f"{command}.py"), *flags], cwd=self.folder, text=True, check=False,
            env={**os.environ, **places}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        self.said += done.stdout

    def found(self) -> list[str]:
        """Where something of the patient stands by now."""
        return planted.found([self.folder], self.said)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, films: Path) -> Desk:
    """With a finished run `treats`, of two classifiers and a diffusion, on the films of patients."""
    out = Desk(tmp_path_factory.mktemp("desk"))
    study = {"modes": "('uniform', 'time_gated')", "lambdas": "(200,)", "solvers.evaluations": "()"}
    out.run(
        "main", *flags_of(films, out.folder / "cache", "ddpm_cam.py:smoke", "Normal", "Pneumonia"), "--workdir=treats",
        "--config.mesh.devices=1", *(f"--config.study.{key}={value}" for key, value in study.items()),
    )  # fmt: skip
    return out


@pytest.mark.slow
def test_a_run_up_to_its_page_names_no_patient(desk: Desk) -> None:
    assert (desk.folder / "treats" / "report.html").is_file()
    assert (desk.folder / "treats" / "checklist.html").is_file()
    assert "1 films could not be read" in desk.said
    assert desk.found() == []


@pytest.mark.slow
@pytest.mark.parametrize(("form", "package"), [("stablehlo", ""), ("safetensors", ""), ("onnx", "jax2onnx")])
def test_an_exported_network_and_its_card_name_no_patient(desk: Desk, form: str, package: str) -> None:
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    desk.run("export", "--workdir=treats", "--classifier=judge", f"--to={form}", f"--out={form}")
    assert {path.name for path in (desk.folder / form).iterdir()} == {f"model.{form}", "README.md"}
    assert desk.found() == []


@pytest.mark.slow
def test_films_for_anothers_code_name_no_patient(desk: Desk) -> None:
    desk.run("export_films", "--workdir=treats", "--out=handed")
    assert list((desk.folder / "handed" / "films").glob("*.png"))
    assert desk.found() == []


@pytest.mark.slow
def test_films_that_a_generator_of_patients_films_makes_name_no_patient(tmp_path: Path, films: Path) -> None:
    desk = Desk(tmp_path)
    flags = flags_of(films, tmp_path / "cache", "cdcgan.py:smoke", "Pneumonia")
    small = ("--config.features.net.name=resnet_tiny", "--config.study.arms=()", "--config.mesh.devices=1")
    desk.run("main", *flags, "--workdir=generates", *small)
    desk.run("synthesize", "--workdir=generates", "--finding=Pneumonia", "--num=3", "--out=made", "--dicom")
    assert len(list((desk.folder / "made").rglob("*.dcm"))) == 3
    assert desk.found() == []
