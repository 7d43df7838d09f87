"""The launch files of clusters: what they would run is a command line of main.py, and they go on where they should.

Slurm and Google Cloud are played by programs of their names, which write down how they were called.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
RUN = ("--config=configs/ddpm_cam.py:smoke", "--config.study.modes=('soft', 'hard')")
TPU = {
    "ZONE": "us-east5-b", "TYPE": "v6e-16", "VERSION": "v2-alpha-tpuv6e", "IMAGE": "here/cxrjax", "SHARE": "10.0.0.2:/x"
}  # fmt: skip


@pytest.fixture
def parse(monkeypatch):
    """The page that main.py shows for an argument list; raises where one of its flags is not known."""
    monkeypatch.syspath_prepend(str(LAUNCH))
    monkeypatch.chdir(ROOT)
    import cli

    return lambda arguments: cli.parse([*arguments, "--dry_run"])


@pytest.fixture
def call(tmp_path):
    """Runs a launch file where programs of the given names and bodies stand first; gives the code and their calls."""

    def run(file, *args, programs=None, stdin=None, **env):
        calls = tmp_path / "calls"
        calls.write_text("")
        for name, body in (programs or {}).items():
            path = tmp_path / name
            path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>{calls}\n{body}\n')
            path.chmod(0o755)
        done = subprocess.run(
            ["bash", str(LAUNCH / file), *args], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
            input=stdin,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CXRJAX_WAIT": "0", **env},
        )  # fmt: skip
        return done, calls.read_text().splitlines()

    return run


def of_main(words):
    """The arguments behind `launch/main.py` in a command."""
    return words[words.index("launch/main.py") + 1 :]


@pytest.mark.parametrize("file", ["local.sh", "slurm.sbatch", "tpu_vm.sh"])
def test_the_shell_reads_it(file):
    subprocess.run(["bash", "-n", str(LAUNCH / file)], check=True)


def test_every_task_of_slurm_runs_main_py_with_flags_that_it_knows(call, parse):
    done, _ = call("slurm.sbatch", "--dry-run", *RUN)
    words = shlex.split(done.stdout)
    assert words[0] == "srun"
    assert tuple(of_main(words)[:2]) == RUN
    assert "mesh.distributed" in parse(of_main(words))


def test_slurm_is_told_to_warn_and_to_queue_again():
    options = re.findall(r"^#SBATCH (--\S+)$", (LAUNCH / "slurm.sbatch").read_text(), re.MULTILINE)
    assert {"--requeue", "--signal=TERM@120", "--open-mode=append"} <= set(options)


@pytest.mark.parametrize(
    ("code", "before", "again"),
    [(75, "50", True), (70, "0", True), (70, "20", False), (2, "0", False), (0, "0", False)],
)
def test_a_job_that_can_go_on_is_queued_again(call, code, before, again):
    programs = {"srun": f"exit {code}", "scontrol": ""}
    done, calls = call("slurm.sbatch", *RUN, programs=programs, SLURM_JOB_ID="17", SLURM_RESTART_COUNT=before)
    assert done.returncode == code
    assert calls[1:] == (["scontrol requeue 17"] if again else [])


def test_all_workers_of_a_slice_run_main_py_with_flags_that_it_knows(call, parse):
    done, _ = call("tpu_vm.sh", "mine", "--dry-run", *RUN, **TPU)
    create, describe, run, delete = done.stdout.splitlines()
    assert create == (
        "gcloud compute tpus queued-resources create mine --node-id=mine --zone=us-east5-b --accelerator-type=v6e-16 "
        "--runtime-version=v2-alpha-tpuv6e --spot"
    )
    assert "queued-resources describe mine" in describe
    assert "queued-resources delete mine" in delete
    words = shlex.split(run)
    assert words[:7] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "mine", "--zone=us-east5-b"]
    assert words[7:9] == ["--worker=all", "--command"]
    container = shlex.split(words[9].split(";")[-1])
    arguments = container[container.index(TPU["IMAGE"]) + 1 :]
    assert tuple(arguments[:2]) == RUN
    assert "mesh.distributed" in parse(arguments)


def cloud(folder, states, ends):
    """A gcloud whose nth description and nth run give the nth of these; the last ones stay."""

    def nth(kind, answers, say):
        lines = " ".join(f"{i}) {say} {answer} ;;" for i, answer in enumerate(answers[:-1], 1))
        return f"case $(grep -c {kind} {folder}/calls) in {lines} *) {say} {answers[-1]} ;; esac"

    return {
        "gcloud": f'case "$*" in *describe*) {nth("describe", states, "echo")} ;; '
        f"*ssh*) {nth('ssh', ends, 'exit')} ;; esac"
    }


def kinds(calls):
    return [next(k for k in ("create", "describe", "delete", "ssh") if f" {k} " in call) for call in calls]


def test_a_slice_that_was_taken_away_is_asked_for_again_and_the_run_goes_on(call, tmp_path):
    states = ["''", "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDING", "SUSPENDED", "''", "ACTIVE"]
    done, calls = call("tpu_vm.sh", "mine", *RUN, programs=cloud(tmp_path, states, [255, 0]), **TPU)
    assert done.returncode == 0
    assert kinds(calls) == [
        "describe", "create", "describe", "describe", "ssh",
        "describe", "describe", "delete", "describe", "create", "describe", "ssh",
    ]  # fmt: skip
    assert "to give the slice back: gcloud compute tpus queued-resources delete mine" in done.stderr


@pytest.mark.parametrize(("ends", "code"), [([2], 2), ([75, 70, 0], 0), ([1], 1)])
def test_what_a_person_must_mend_ends_the_script_and_the_rest_goes_on(call, tmp_path, ends, code):
    done, calls = call("tpu_vm.sh", "mine", *RUN, programs=cloud(tmp_path, ["ACTIVE"], ends), **TPU)
    assert done.returncode == code
    assert kinds(calls) == ["describe", "ssh"] * len(ends)


def test_a_request_that_failed_is_told(call, tmp_path):
    done, calls = call("tpu_vm.sh", "mine", *RUN, programs=cloud(tmp_path, ["FAILED"], [0]), **TPU)
    assert done.returncode == 1
    assert "the request has failed" in done.stderr
    assert kinds(calls) == ["describe"]


def test_what_is_missing_is_told_before_anything_is_asked_for(call):
    done, _ = call("tpu_vm.sh", "--config=a.py", **TPU)
    assert (done.returncode, "the first argument is a name" in done.stderr) == (2, True)
    done, _ = call("tpu_vm.sh", "mine", *RUN, **{**TPU, "SHARE": ""})
    assert (done.returncode, "SHARE is not set" in done.stderr) == (2, True)


@pytest.fixture(scope="module")
def jobset():
    return yaml.safe_load((LAUNCH / "jobset.yaml").read_text())


def test_every_pod_of_the_jobset_runs_main_py_with_flags_that_it_knows(jobset, parse):
    (hosts,) = jobset["spec"]["replicatedJobs"]
    job = hosts["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    arguments = [word.replace("$(PROCESS)", "3") for word in container["args"]]
    assert [entry["name"] for entry in container["env"]] == ["PROCESS"]
    assert "mesh.coordinator" in parse(arguments)
    flags = dict(word.split("=", 1) for word in arguments)
    name = jobset["metadata"]["name"]
    host, port = flags["--config.mesh.coordinator"].split(":")
    assert host == f"{name}-{hosts['name']}-0-0.{name}"
    assert int(port) == container["ports"][0]["containerPort"]
    count = int(flags["--config.mesh.num_processes"])
    chips = math.prod(map(int, job["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    assert (
        job["parallelism"] == job["completions"] == count == chips // container["resources"]["limits"]["google.com/tpu"]
    )
    (mount,) = container["volumeMounts"]
    assert flags["--workdir"].startswith(mount["mountPath"] + "/")


def test_a_mistake_ends_the_jobset_and_anything_else_restarts_all(jobset):
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [1, 2]
    assert rule["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["backoffLimit"] == 0  # one process that ends is the end of all, which the set begins again
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert policy["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]


def films(launcher, words):
    """What prepare.py makes of a command line: its own flags."""
    assert words[:2] == ["python", "launch/prepare.py"]
    return launcher("prepare").parse([*words[2:], "--config.data.root=.", "--dry_run"])[0]


def test_pods_prepare_a_shard_each_and_one_merges_when_all_are_done(launcher, monkeypatch):
    monkeypatch.chdir(ROOT)
    shards, merge = yaml.safe_load((LAUNCH / "prepare.yaml").read_text())["spec"]["replicatedJobs"]
    assert merge["dependsOn"] == [{"name": shards["name"], "status": "Complete"}]
    job = shards["template"]["spec"]
    assert job["completionMode"] == "Indexed"  # which sets JOB_COMPLETION_INDEX
    found = []
    for part, index in ((shards, 3), (merge, 0)):
        (container,) = part["template"]["spec"]["template"]["spec"]["containers"]
        (env,) = container["env"]
        assert container["command"] == ["sh", "-c"]
        told = subprocess.run(
            ["sh", "-c", container["args"][0].replace("exec", "echo")], capture_output=True, text=True, check=True,
            env={"JOB_COMPLETION_INDEX": str(index), env["name"]: env["value"], "PATH": os.environ["PATH"]},
        )  # fmt: skip
        found.append(films(launcher, told.stdout.split()))
    assert found[0].shard == (3, job["completions"])
    assert job["parallelism"] == job["completions"]
    assert found[1].merge


def test_an_array_of_slurm_prepares_a_shard_a_task_as_the_page_says(launcher, monkeypatch, call):
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```bash\n(films=.*?)```", (LAUNCH / "README.md").read_text(), re.DOTALL)
    task = 'for word in "$@"; do case $word in --wrap=*) eval "${word#--wrap=}";; esac; done'
    done, calls = call(
        "/dev/stdin", programs={"sbatch": task, "python": ""}, stdin=block, SLURM_ARRAY_TASK_ID="7",
        SLURM_ARRAY_TASK_COUNT="16",
    )  # fmt: skip
    assert done.returncode == 0
    assert calls[0].startswith("sbatch --wait")
    assert "--array=0-15" in calls[0]
    assert films(launcher, calls[1].split()).shard == (7, 16)
    assert films(launcher, calls[2].split()).merge


def test_the_container_is_made_of_what_is_here():
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith(("#", " "))]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for kind, words in steps:
        if kind == "COPY":
            assert all((ROOT / source).exists() for source in words.split()[:-1]), words
    (extras,) = [words.removeprefix("EXTRAS=") for kind, words in steps if kind == "ARG"]
    told = {name for line in lines for found in re.findall(r"EXTRAS=([\w,]+\w)", line) for name in found.split(",")}
    assert {*extras.split(","), *told} <= set(project["optional-dependencies"])
    (version,) = re.findall(r"^FROM python:3\.(\d+)", "\n".join(lines), re.MULTILINE)
    assert int(version) >= int(project["requires-python"].removeprefix(">=3."))
    assert steps[-1] == ["ENTRYPOINT", '["python", "launch/main.py"]']
