"""The front door to exports: mistakes in a line before jax is imported, a file and its card in a new folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import cxrjax
from cxrjax.infer import export

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def front(launcher: Callable[[str], ModuleType]) -> ModuleType:
    return launcher("export")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--workdir"),
        (["--workdir=a", "--to=torch", "--out=o"], "invalid choice: 'torch'"),
        (["--workdir=a", "--to=onnx", "--out=."], "not an empty folder"),
        (["--workdir=/no/such/run", "--to=onnx", "--out=o"], "holds no run"),
    ],
)
def test_a_mistake_is_one_line(
    front: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    flags: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    assert front.main(["export.py", *flags]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_forms_are_those_of_the_library(front: ModuleType) -> None:
    assert tuple(export.FORMS) == front.FORMS


def test_a_card_stands_beside_the_file(
    front: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {}}))
    run = SimpleNamespace(
        workdir=tmp_path, trained=lambda name: ("net", name), classifier=lambda name: f"network {name}",
        config={"net": SimpleNamespace(net=SimpleNamespace(name="densenet121"))},
    )  # fmt: skip
    monkeypatch.setattr(cxrjax, "load", lambda workdir: run)
    monkeypatch.setattr(export, "write", lambda network, net, to, folder: (folder.mkdir(), (folder / to, 1e-7))[1])
    monkeypatch.setattr(export, "words", lambda network, net, to: f"Use {network} of {net} as {to}.")
    out = tmp_path / "new"
    flags = [f"--workdir={tmp_path}", "--to=onnx", f"--out={out}", "--classifier=net_1"]
    assert front.main(["export.py", *flags]) == 0
    assert "probabilities within 1e-07" in capsys.readouterr().out
    assert "Use network net_1 of densenet121 as onnx." in (out / "README.md").read_text()
