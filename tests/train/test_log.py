"""The log of a run whose disk is full: told once, and the run is neither blocked nor drowned in it."""

import json
import resource

import pytest

from cxrjax.errors import UserError
from cxrjax.train import log as logs


def test_lines_and_events_are_written_at_once(tmp_path):
    with logs.Log(tmp_path) as log:
        log.write("net", 3, {"loss": 0.5, "grad_norm": float("nan")})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
            "phase": "net", "step": 3, "loss": 0.5, "grad_norm": None,
        }  # fmt: skip
        (events,) = (tmp_path / "tensorboard").iterdir()
        assert b"net/loss" in events.read_bytes()
        assert b"net/grad_norm" not in events.read_bytes()


def test_a_full_disk_is_one_error_also_at_the_very_end(tmp_path, capfd):
    """A limit on file sizes stands in for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def train():
        with logs.Log(tmp_path) as log:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
            for step in range(1000):  # more than the queue of a writer's thread holds
                log.write("net", step, {"loss": 0.5})

    try:
        with pytest.raises(UserError, match=rf"{tmp_path / 'metrics.jsonl'}: the disk is full, .* goes on"):
            train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr().err == ""


def test_what_is_warned_of_is_kept(tmp_path, capsys):
    with logs.Log(tmp_path) as log:
        log.warn("a damaged step gave way")
    assert log.warnings == ["a damaged step gave way"]
    assert "warning: a damaged step gave way" in capsys.readouterr().out
