"""The front door end to end: exit codes, one line on stderr, no workdir, jax not imported for a mistake."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "launch" / "main.py"

CONFIG = '''"""One phase."""
from ml_collections import config_dict
VARIANTS = ("fast",)
CHOICES = {"fit.mode": (("soft", "hard"), "Section 3")}


def get_config(variant="default"):
    config = config_dict.ConfigDict({"seed": 0, "phases": ("fit",)})
    config.fit = config_dict.ConfigDict({"task": "classify", "steps": 20, "mode": "soft", "optim": {"name": "adam"}})
    return config
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launch(*args: str) -> subprocess.CompletedProcess[str]:
    # A jax that raises proves that the mistake is told without it.
    Path("decoy/jax").mkdir(parents=True)
    Path("decoy/jax/__init__.py").write_text("raise SystemExit('jax was imported')")
    path = os.pathsep.join(["decoy", str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(MAIN), *args],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config=smal.py"], "did you mean small.py?"),
        (["--config=small.py", "--config.fti.steps=3", "--workdir=out"], "did you mean --config.fit.steps?"),
        (["--config=small.py", "--config.fit.mode=sotf"], "did you mean soft?"),
        (["--config=small.py", "--config.fit.optim.name=adm"], "fit.optim.name is 'adm': expected one of adam, adamw"),
    ],
)
def test_mistake_from_a_shell(here: Path, args: list[str], words: str) -> None:
    done = launch(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert done.stdout == ""
    assert {path.name for path in here.iterdir()} - {"decoy", "__pycache__"} == {"small.py"}


def test_help_from_a_shell(here: Path) -> None:
    done = launch("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python launch/main.py")


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    return importlib.import_module("main")


def stub(monkeypatch: pytest.MonkeyPatch, function: object) -> None:
    """Puts a module `cxrjax.run` with this `run` in place of the real one."""
    import cxrjax

    module = types.ModuleType("cxrjax.run")
    module.run = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cxrjax.run", module)
    monkeypatch.setattr(cxrjax, "run", module, raising=False)


@pytest.mark.parametrize("code", [0, 75])
def test_run_is_called_with_what_was_checked(
    here: Path, main: types.ModuleType, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls = []

    def run(config, *, choices, workdir, command):
        calls.append((config, choices, workdir, command))
        return code

    stub(monkeypatch, run)
    argv = ["launch/main.py", "--config=small.py:fast", "--config.fit.steps=3", "--workdir=my out"]
    assert main.main(argv) == code
    ((config, choices, workdir, command),) = calls
    assert config.fit.steps == 3
    assert choices == {"fit.mode": (("soft", "hard"), "Section 3")}
    assert workdir == here / "my out"
    assert command == "python launch/main.py --config=small.py:fast --config.fit.steps=3 '--workdir=my out'"


def test_user_error_is_one_line_and_exit_2(
    here: Path, main: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cxrjax.errors import UserError

    def run(config, **kwargs):
        raise UserError("films/a.png is torn;\n  remove it")

    stub(monkeypatch, run)
    assert main.main(["launch/main.py", "--config=small.py"]) == 2
    assert capsys.readouterr().err == "error: films/a.png is torn; remove it\n"


def test_other_errors_keep_their_traceback(here: Path, main: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config, **kwargs):
        raise RuntimeError("a fault of ours")

    stub(monkeypatch, run)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main.main(["launch/main.py", "--config=small.py"])


@pytest.mark.parametrize("args", [["--config=smal.py"], ["--config=small.py", "--dry_run"]])
def test_run_is_not_reached(
    here: Path, main: types.ModuleType, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    stub(monkeypatch, lambda *a, **k: pytest.fail("run was called"))
    assert main.main(["launch/main.py", *args]) == (0 if "--dry_run" in args else 2)
    assert not (here / "runs").exists()


def test_missing_package_is_told(
    here: Path, main: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main.importlib.util, "find_spec", lambda name: None)
    assert main.main(["launch/main.py", "--config=small.py"]) == 2
    assert "cxrjax is not installed" in capsys.readouterr().err
