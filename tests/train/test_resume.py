"""A run that is really killed, or goes on on other devices, is the run that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import test_loop as net  # noqa: E402

STEPS, SAVE = 60, 3

# Says each batch that it takes; a step of these takes some milliseconds, so that kills fall into saves too.
VICTIM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from cxrjax import stop
stop.listen()
import test_loop as net

class Told(net.Stream):
    def __next__(self):
        print(self.position, flush=True)
        return super().__next__()

try:
    net.fit(Path(sys.argv[1]), Told(), steps={STEPS}, save_every={SAVE})
except stop.Preempted:
    sys.exit(stop.EXIT)
"""


def lines(folder):
    """The lines of the log, training's and evaluations'."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sorted(found, key=lambda line: (line["step"], "eval" in line))


def stopped(folder: Path, number: signal.Signals, after: int, delay: float) -> tuple[int, int]:
    """Starts the run and sends it a signal `delay` seconds after it has asked for batch `after`, or the first after it;
    gives its exit code and the batch that it began with."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    process = subprocess.Popen([sys.executable, "-c", VICTIM, str(folder)], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    begun = -1
    with process.stdout:
        for line in process.stdout:
            if line.strip().isdigit():
                begun = int(line) if begun < 0 else begun
                if int(line) >= after:
                    break
        time.sleep(delay)
        process.send_signal(number)
        for _ in process.stdout:
            pass
    return process.wait(timeout=300), begun


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals_at_random_moments_of_a_process_end_with_the_same_bits(tmp_path, number):
    """Also within 20 ms of an asynchronous save, which begins with every third batch."""
    rng = random.Random(number)
    moments = [
        (SAVE * 4 + 1, 0.0),
        (SAVE * 8, 0.02),
        (rng.randrange(30, 36), 0.0),
        (rng.randrange(40, 50), rng.random() / 50),
    ]
    (tmp_path / "killed").mkdir()
    for after, delay in moments:
        code, begun = stopped(tmp_path / "killed", number, after, delay)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
        assert begun < after  # it had not been there yet
    with jax.default_device(jax.devices()[0]):
        killed = net.fit(tmp_path / "killed", net.Stream(), steps=STEPS, save_every=SAVE)
        whole = net.fit(tmp_path / "whole", net.Stream(), steps=STEPS, save_every=SAVE)
    assert net.same(killed, whole)
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*orbax-checkpoint-tmp*"))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_other_devices_go_on_with_the_same_batches(tmp_path):
    seen = []

    class Seen(net.Stream):
        def __next__(self):
            batch = super().__next__()
            seen.append(batch.index.tolist())
            return batch

    for folder, devices in (("changed", 8), ("whole", 1)):
        with pytest.raises(KeyboardInterrupt):
            net.fit(tmp_path / folder, net.Stream(stop_at=7))
        net.fit(tmp_path / folder, Seen(), devices=devices)
    half = len(seen) // 2
    assert seen[:half] == seen[half:]
    for ours, theirs in zip(lines(tmp_path / "changed"), lines(tmp_path / "whole"), strict=True):
        words = {key: value for key, value in theirs.items() if isinstance(value, str)}
        assert {key: ours.pop(key) for key in words} == words
        numbers = {key: value for key, value in theirs.items() if key not in words}
        assert ours == pytest.approx(numbers, rel=1e-5, abs=1e-6)
