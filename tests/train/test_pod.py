"""Two processes of two devices each: they talk, train to the numbers of one process, and split a state."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import pod as one_process  # noqa: E402

pytestmark = pytest.mark.slow  # three minutes on cores that other tests share


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pod")


@pytest.fixture(scope="module")
def alone(folder):
    with jax.threefry_partitionable(True):
        return one_process.train(folder / "alone", devices=1)


@pytest.fixture(scope="module")
def pod(folder, alone):  # after `alone`, which has prepared the films
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / "pod.py")]
    started = [
        subprocess.Popen(
            [*command, str(i), "2", str(port), "2", str(folder / "run")], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env={**os.environ, "XLA_FLAGS": ""},
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=1200)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"{i}.json").read_text()) for i in range(2)]


def test_processes_gather_agree_and_follow_the_first(pod):
    for index, found in enumerate(pod):
        assert [value["index"] for value in found["gathered"]] == [0, 1]
        assert len(found["gathered"][1]["long"]) == 500
        assert found["first"] == "process 0"
        assert found["agree"] == [True, False]
        assert found["told"] == ("no disk at 1" if index else "process 1: no disk at 1")
        assert found["decided"] == ("process 0: no disk at 0" if index else "no disk at 0")


def test_keys_and_local_arrays_come_to_the_devices_of_all(pod):
    expected = float(jax.random.uniform(jax.random.key(3))) + 3 + 6
    assert [found["draw"] for found in pod] == pytest.approx([expected] * 2, rel=1e-6)


def assert_same_losses(folder, other, count):
    """All lines of two logs, training's and evaluations'."""
    both = [
        [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()] for place in (folder, other)
    ]
    assert len(both[0]) == count
    for ours, theirs in zip(*both, strict=True):
        words = {key: value for key, value in theirs.items() if isinstance(value, str)}
        assert {key: ours.pop(key) for key in words} == words
        numbers = {key: value for key, value in theirs.items() if key not in words}
        assert ours == pytest.approx(numbers, rel=1e-5, abs=1e-6)


def test_two_processes_train_to_the_numbers_of_one(pod, alone, folder):
    assert_same_losses(folder / "run", folder / "alone", 6)
    for found in pod:
        for network in ("classify", "ddpm"):
            np.testing.assert_allclose(found["trained"][network], alone[network], rtol=1e-4)
        assert [e["loss"] for e in found["trained"]["evaluations"]] == pytest.approx(
            [e["loss"] for e in alone["evaluations"]], rel=1e-5
        )


def test_a_state_is_split_over_the_devices_of_both_processes(pod):
    for found in pod:
        whole, device = found["trained"]["ddpm bytes"].values()
        assert device < whole / 2
        whole, device = found["trained"]["classify bytes"].values()
        assert device == whole


def test_one_process_goes_on_where_two_have_stopped_with_the_same_films(pod, alone, folder):
    for name in ("run", "alone"):
        shutil.copytree(folder / name, folder / f"{name}-longer")
        with jax.threefry_partitionable(True):
            one_process.train(folder / f"{name}-longer", devices=1, steps=8)
    assert_same_losses(folder / "run-longer", folder / "alone-longer", 12)
