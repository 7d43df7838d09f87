"""`local.sh`: the processes' commands, and pods of processors that train whole runs to the results of one process."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "launch" / "local.sh"


def local(*args, **options):
    env = {**os.environ, "PYTHON": sys.executable, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        ["bash", str(LOCAL), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**env, **options},
    )  # fmt: skip


def said_by(process, timeout):
    """What a pod said until its end; one that does not end is stopped, all of it."""
    try:
        return process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        process.terminate()  # local.sh hands it on
        raise


def test_every_process_has_the_command_with_its_own_number():
    process = local(2, 4, "--dry-run", "--config=a.py:smoke", "--config.study.modes=('a', 'b')", CXRJAX_PORT="7001")
    lines = [shlex.split(line) for line in process.communicate()[0].splitlines()]
    assert len(lines) == 2
    for i, line in enumerate(lines):
        assert line[2:4] == ["--config=a.py:smoke", "--config.study.modes=('a', 'b')"]
        assert line[4:] == [
            "--config.mesh.coordinator=127.0.0.1:7001", "--config.mesh.num_processes=2",
            f"--config.mesh.process_id={i}",
        ]  # fmt: skip


def test_a_missing_number_is_told():
    process = local("--config=a.py")
    assert "the first argument is the number of processes" in process.communicate()[0]
    assert process.returncode == 2


def test_a_mistake_is_told_by_each_and_ends_all(tmp_path):
    process = local(2, "--config=configs/cgan.py:smok", CXRJAX_LOGS=str(tmp_path))
    said = said_by(process, 120)
    assert process.returncode == 2
    assert "2 processes ended with 2 2" in said
    for log in (tmp_path / "0.log", tmp_path / "1.log"):
        assert "has no variant 'smok'" in log.read_text()


@pytest.mark.slow
def test_a_workdir_that_one_process_does_not_see_is_told_by_all_with_its_name(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    started = [
        subprocess.Popen(
            [
                sys.executable, str(ROOT / "launch" / "main.py"), f"--config={ROOT}/configs/cgan.py:smoke",
                f"--workdir={tmp_path / name}", f"--config.mesh.coordinator=127.0.0.1:{port}",
                "--config.mesh.num_processes=2", f"--config.mesh.process_id={i}",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
        )
        for i, name in enumerate(("shared", "own"))
    ]  # fmt: skip
    said = [said_by(process, 600) for process in started]
    assert [process.returncode for process in started] == [2, 2], said
    assert "is not seen by process 1 on" in said[0]
    assert "give a --workdir on storage that all processes share" in said[0]


# Whole runs.

SMALL = {
    "cgan": ("--config.study.seeds=1",),
    "ddpm_cam": ("--config.data.num.train=32", "--config.data.num.test=24"),
    "latent_ddpm_cam": ("--config.data.num.train=32", "--config.data.num.test=24"),
    "fcn_densenet": (),
    "pneumonia_study": (),
}


def arguments(config, folder, *more):
    return [
        f"--config={ROOT}/configs/{config}.py:smoke", f"--workdir={folder / 'run'}",
        f"--config.data.cache={folder.parent / 'films'}",
        f"--config.compile_cache={os.environ['JAX_COMPILATION_CACHE_DIR']}", *SMALL[config], *more,
    ]  # fmt: skip


def alone(config, folder, *more, devices=1):
    env = {
        **os.environ, "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "launch" / "main.py"), *arguments(config, folder, *more)]
    done = subprocess.run(command, check=True, env=env, capture_output=True, text=True)
    (folder / "said.txt").write_text(done.stdout)


def numbers(value, path=()):
    """The numbers of a JSON value by path; times and what a table shows of them left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if "seconds" not in key and key != "tables":
                yield from numbers(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from numbers(inner, (*path, i))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def assert_equal_runs(a, b):
    results = [dict(numbers(json.loads((folder / "run" / "results.json").read_text()))) for folder in (a, b)]
    assert results[0].keys() == results[1].keys()
    assert results[0]
    for path, value in results[0].items():
        assert results[1][path] == pytest.approx(value, rel=1e-4, abs=1e-5), path
    lines = [
        [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()] for folder in (a, b)
    ]
    for ours, theirs in zip(*lines, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert all((folder / "run" / "report.html").stat().st_size > 10_000 for folder in (a, b))


@pytest.mark.slow
@pytest.mark.parametrize("config", sorted(SMALL))
def test_a_pod_reaches_the_page_with_the_losses_and_results_of_one_process(config, tmp_path):
    alone(config, tmp_path / "one")
    process = local(2, 4, *arguments(config, tmp_path / "pod"), CXRJAX_LOGS=str(tmp_path / "logs"))
    said = said_by(process, 3000)
    assert process.returncode == 0, said
    assert (tmp_path / "logs" / "1.log").read_text().count("\n") < 60  # the first one alone says what goes on
    assert_equal_runs(tmp_path / "one", tmp_path / "pod")
    if config == "ddpm_cam":
        alone(config, tmp_path / "eight", "--config.mesh.fsdp=4", devices=8)
        assert_equal_runs(tmp_path / "one", tmp_path / "eight")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, 70)])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_signal_to_one_of_two_ends_both_and_another_number_goes_on(tmp_path, number, code, victim):
    """In the first phase; then one process of eight devices goes on where two of four were stopped."""
    more = ("--config.classifier.steps=300", "--config.mesh.missing_timeout=10")
    process = local(2, 4, *arguments("ddpm_cam", tmp_path / "pod", *more), CXRJAX_LOGS=str(tmp_path / "logs"))
    lines, until = tmp_path / "pod" / "run" / "metrics.jsonl", time.monotonic() + 1200
    while not (lines.exists() and '"step": 8' in lines.read_text()) and time.monotonic() < until:
        time.sleep(0.2)
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    pids = [
        int(row.split()[0]) for row in found.splitlines()
        if f"--config.mesh.process_id={victim}" in row and str(tmp_path) in row
    ]  # fmt: skip
    os.kill(min(pids), number)
    begun = time.monotonic()
    said = said_by(process, 300)
    assert time.monotonic() - begun < 60
    other = 1 - victim
    codes = said.rstrip().splitlines()[-1].split("ended with ")[1].split(";")[0].split()
    assert codes[other] == str(code), said
    assert "stack trace" not in (tmp_path / "logs" / f"{other}.log").read_text() or number == signal.SIGKILL
    alone("ddpm_cam", tmp_path / "pod", *more, devices=8)
    assert "classifier: resuming at step" in (tmp_path / "pod" / "said.txt").read_text()
