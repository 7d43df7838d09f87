"""Signals are heard within seconds: at once where nothing is to be saved, by the training loop where something is."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from cxrjax import stop

ROOT = Path(__file__).parents[1]


def started(code):
    head = "import sys, time\nfrom cxrjax import stop\nstop.listen()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process, number, more=()):
    begun = time.monotonic()
    process.send_signal(number)
    for other in more:
        time.sleep(0.5)
        process.send_signal(other)
    out, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - begun, out + err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_where_nothing_is_to_be_saved_the_process_ends_at_once(number):
    """Also in native code, which runs no handler of Python's: here a sort of half a minute and more."""
    code, seconds, said = ended(
        started("import numpy as np\nx = np.random.rand(3 * 10**8)\nprint('ready', flush=True)\nx.sort()"), number
    )
    assert code == 75
    assert seconds < 5
    assert "nothing is lost, the same command goes on" in said
    assert "Traceback" not in said


SAVING = """
    with stop.saving():
        print("ready", flush=True)
        while not stop.asked():
            time.sleep(0.1)
        print("saved", flush=True)
        time.sleep({rest})
    print("never", flush=True)
"""


def test_where_something_is_to_be_saved_its_owner_is_asked():
    code, _, said = ended(started(SAVING.format(rest=0)), signal.SIGTERM)
    assert code == 75  # the block ended by itself, and the signal is not forgotten
    assert "saving after this step" in said
    assert "saved" in said
    assert "never" not in said


def test_ctrl_c_twice_stops_at_once():
    code, seconds, said = ended(started(SAVING.format(rest=60)), signal.SIGINT, [signal.SIGINT])
    assert code == 75
    assert seconds < 10
    assert "Ctrl-C again: the same command goes on from the last checkpoint" in said


def test_sigterm_twice_is_one_request():
    """Slurm signals a step's processes, and the parent that stands behind one signals it too."""
    code, seconds, said = ended(started(SAVING.format(rest=3)), signal.SIGTERM, [signal.SIGTERM])
    assert code == 75
    assert seconds > 2
    assert said.count("saving after this step") == 1


def test_a_librarys_caller_keeps_its_own_handlers():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    asked = []

    def work():
        with stop.saving():
            asked.append(stop.asked())
            os.kill(os.getpid(), signal.SIGTERM)
            asked.append(stop.asked())

    with pytest.raises(stop.Preempted):
        work()
    assert asked == [False, True]
    with stop.saving():
        assert not stop.asked()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_saving_in_another_thread_leaves_the_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with stop.saving():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
