"""A parent stands behind one process of several: its end has a code and a line, whatever ended it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"


def started(body):
    code = "import os, signal, sys, time, guard\ncode = guard.stand_behind()\nif code is not None: sys.exit(code)\n"
    return subprocess.Popen(
        [sys.executable, "-c", code + body], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(LAUNCH)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("sys.exit(75)", 75, ""),
        ("os.abort()", 70, "error: this process was ended by SIGABRT (another process of the run is gone"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 70, "ended by SIGKILL (for want of memory?)"),
    ],
)
def test_the_childs_end_is_the_parents(body, code, words):
    process = started(body)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert words in err
    assert len(err.splitlines()) == bool(words)


def test_sigterm_goes_to_the_child():
    process = started(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


def test_a_child_whose_parent_is_killed_ends_too():
    process = started("print(os.getpid(), flush=True)\ntime.sleep(60)")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{child}/stat")
        if state.exists() and state.read_text().split(")")[-1].split()[0] == "Z":
            return  # ended, and nobody waits for it here
        time.sleep(0.1)
    pytest.fail("the child goes on alone")
