"""The commands for one's own films: mistakes in a line, code 3 where some film failed, and no patient in any output."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import planted
import pytest
from PIL import Image

import cxrjax
from cxrjax.infer.finished import Run
from cxrjax.infer.predict import Operating, Prediction

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def front(launcher: Callable[[str], ModuleType]) -> SimpleNamespace:
    return SimpleNamespace(predict=launcher("predict"), progress=launcher("progress"))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A PNG, a text file, a torn DICOM file and a whole one, the last two of a patient."""
    folder = tmp_path / "films"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)).save(folder / "a.png")
    (folder / "b.txt").write_text("no film")
    planted.write(folder / "d.dcm", np.arange(32 * 24).astype(np.uint8).reshape(32, 24))
    whole = (folder / "d.dcm").read_bytes()
    (folder / "c.dcm").write_bytes(whole[: len(whole) - 700])
    return folder


@pytest.mark.parametrize("command", ["predict", "progress"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--workdir, --input, --out"),
        (["--workdir=a", "--input=b", "--out=c", "--keep-patient"], "add --dicom"),
        (["--workdir=a", "--input=no/such", "--out=c"], "no/such names no file"),
        (["--workdir=a", f"--input={LAUNCH}", "--out=c"], "a holds no run"),
        (["--workdir=a", "--input=b", f"--out={LAUNCH}"], "not an empty folder"),
    ],
)
def test_a_mistake_is_one_line(
    front: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    command: str, flags: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert getattr(front, command).main([command, *flags]) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert words in got.err
    assert got.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_noise_levels_are_numbers(front: SimpleNamespace) -> None:
    flags = ["--workdir=a", "--input=b", "--out=no/such"]
    assert front.progress.parse([*flags, "--lambdas=300,100,100"]).lambdas == [100, 300]
    assert front.progress.parse(flags).lambdas == []
    with pytest.raises(front.progress.UsageError, match="--lambdas=1,x: expected whole numbers"):
        front.progress.parse([*flags, "--lambdas=1,x"])


@pytest.mark.parametrize(("fault", "code"), [("", 0), ("no film", 3)])
def test_the_exit_code_tells_whether_some_film_failed(
    front: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    films: Path, fault: str, code: int,
) -> None:  # fmt: skip
    asked = []

    def said(paths, maps):
        asked.append(maps)
        for path in paths:
            broken = fault and path.suffix == ".txt"
            yield (
                Prediction(path, fault)
                if broken
                else Prediction(path, "", np.array([0.2, 0.8]))._replace(shown=np.zeros((8, 8), np.uint8))
            )

    predictor = SimpleNamespace(films=said, classes=("a", "b"), name="x", operating=Operating(None, (), None, ""))
    monkeypatch.setattr(cxrjax, "load", lambda workdir: SimpleNamespace(predictor=lambda name: predictor))
    flags = ["--workdir=run", f"--input={films}", f"--out={tmp_path / 'out'}"]
    assert front.predict.main(["predict.py", *flags, "--maps=a,b"]) == code
    assert asked == [["a", "b"]]
    assert len(list(csv.reader((tmp_path / "out" / "predictions.csv").open()))) == 5
    assert f"{4 - bool(code)} of 4 films answered, not for diagnosis" in capsys.readouterr().out


@pytest.mark.slow
def test_no_patient_is_in_any_file_or_word_of_any_command_and_broken_films_stop_nothing(
    front: SimpleNamespace, capfd: pytest.CaptureFixture[str], tmp_path: Path, films: Path, tiny_run: Run
) -> None:
    run, flags = f"--workdir={tiny_run.workdir}", [f"--input={films}", "--dicom"]
    modules: dict[str, tuple[ModuleType, list[str]]] = {
        "predict": (front.predict, ["--classifier=judge"]),
        "progress": (front.progress, ["--lambdas=100", "--animation=webp"]),
    }
    for name, (module, more) in modules.items():
        assert module.main([name, run, *flags, f"--out={tmp_path / name}", *more]) == 3
    said = capfd.readouterr()
    rows = list(csv.DictReader((tmp_path / "predict" / "predictions.csv").open()))
    assert [Path(row["film"]).name for row in rows if row["fault"]] == ["b.txt", "c.dcm"]
    assert len(list((tmp_path / "predict").rglob("segmentation.dcm"))) == 2
    assert len(list((tmp_path / "progress").rglob("0100.dcm"))) == 2
    written = [p for name in modules for p in (tmp_path / name).rglob("*") if p.is_file()]
    assert len(written) > 15
    assert planted.found([tmp_path / name for name in modules], said.out + said.err) == []
    kept = ["--keep-patient", f"--out={tmp_path / 'kept'}", "--classifier=judge"]
    assert front.predict.main(["predict", run, *flags, *kept]) == 3
    (segments,) = (tmp_path / "kept" / "dicom").glob("*-d/*.dcm")
    assert any("Doe^Jane" in place for place in planted.found([segments.parent]))
