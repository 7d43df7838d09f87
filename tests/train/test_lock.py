"""One run at a time in a workdir, told before anything is loaded; a mistake leaves no workdir behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxrjax.errors import UserError
from cxrjax.train import lock

ROOT = Path(__file__).parents[2]


def test_a_second_run_is_told_who_holds_the_workdir_without_jax(tmp_path):
    code = f"""
import sys
from pathlib import Path
from cxrjax.errors import UserError
from cxrjax.train import lock
try:
    with lock.hold(Path({str(tmp_path)!r})):
        pass
except UserError as error:
    print(error)
assert "jax" not in sys.modules and "numpy" not in sys.modules
"""
    with lock.hold(tmp_path):
        with lock.hold(tmp_path):  # the launcher has it, the run asks again
            pass
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).stdout  # fmt: skip
    assert f"another run is at work in {tmp_path} (process {os.getpid()} on " in said
    with lock.hold(tmp_path):
        pass


def test_a_workdir_that_was_made_for_a_mistake_goes_again(tmp_path):
    with pytest.raises(UserError), lock.hold(tmp_path / "runs" / "a"):
        raise UserError("no such network")
    assert not any(tmp_path.iterdir())

    def late():
        with lock.hold(tmp_path / "runs" / "a"):
            (tmp_path / "runs" / "a" / "manifest.json").write_text("{}")
            raise UserError("later")

    with pytest.raises(UserError, match="later"):
        late()
    assert (tmp_path / "runs" / "a" / "manifest.json").exists()


def test_a_workdir_that_was_there_stays(tmp_path):
    with pytest.raises(UserError), lock.hold(tmp_path):
        raise UserError("no such network")
    assert tmp_path.exists()


def test_a_workdir_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), lock.hold(tmp_path / "file" / "run"):
        pass


def test_finished_is_what_the_manifest_says(tmp_path):
    assert not lock.finished(tmp_path)
    for text, expected in (('{"finished": true}', True), ('{"finished": false}', False), ('{"fini', False)):
        (tmp_path / "manifest.json").write_text(text)
        assert lock.finished(tmp_path) == expected
