"""How processes find one another: keys, Slurm's environment, and a node's devices dealt to its tasks."""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import pytest
from ml_collections import ConfigDict

from cxrjax.defaults import keys
from cxrjax.errors import UserError
from cxrjax.train import cluster


def mesh(**changes):
    return ConfigDict({**keys.run().mesh.to_dict(), **changes})


@pytest.mark.parametrize(
    ("visible", "on_node", "tasks", "local", "expected"),
    [
        (4, 4, 1, 0, ()),  # one task takes all
        (4, 4, 4, 2, (2,)),
        (4, 4, 2, 1, (2, 3)),
        (8, 8, 2, 0, (0, 1, 2, 3)),
        (1, 4, 4, 2, ()),  # bound to its own by Slurm
        (2, 4, 2, 1, ()),
        (0, 0, 2, 1, ()),  # processors alone
    ],
)
def test_a_nodes_devices_are_divided_among_its_tasks(visible, on_node, tasks, local, expected):
    assert cluster.divided(visible, on_node, tasks, local) == expected


def test_every_device_has_one_task():
    for tasks in (1, 2, 4, 8):
        shares = [cluster.divided(8, 8, tasks, local) or tuple(range(8)) for local in range(tasks)]
        assert [device for share in shares for device in share] == list(range(8))
    with pytest.raises(UserError, match="4 devices of this node cannot be divided among its 3 tasks"):
        cluster.divided(4, 4, 3, 0)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node001", "node001"), ("a,b", "a"), ("node[001-015],x", "node001"), ("gpu[07,09-12]", "gpu07"), ("n-3", "n-3")],
)
def test_the_coordinator_is_the_first_host_of_the_step(nodes, first):
    assert cluster.first_host(nodes) == first


def test_tasks_of_each_node():
    assert cluster.tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    assert cluster.tasks_per_node("4") == [4]


STEP = {
    "SLURM_JOB_ID": "70001", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_NTASKS": "3", "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_GPUS_ON_NODE": "4",
}  # fmt: skip


def test_slurm_tells_a_task_its_place_and_its_devices():
    port = 61440 + 70001 % 4096
    assert cluster.of_slurm(STEP) == (f"gpu07:{port}", 3, 2, ())  # alone on the second node
    first = {**STEP, "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert cluster.of_slurm(first) == (f"gpu07:{port}", 3, 1, (2, 3))
    assert cluster.of_slurm({**first, "CUDA_VISIBLE_DEVICES": "1"}).devices == ()
    assert cluster.of_slurm({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}) is None  # sbatch without srun


def test_keys_give_a_place_or_say_what_is_missing():
    assert cluster.of_config(mesh()) is None
    place = cluster.of_config(mesh(coordinator="h:1", num_processes=2, process_id=1, local_devices=(3,)))
    assert place == ("h:1", 2, 1, (3,))
    with pytest.raises(UserError, match=r"mesh\.process_id is not set, and mesh\.coordinator is"):
        cluster.of_config(mesh(coordinator="h:1", num_processes=2))
    with pytest.raises(UserError, match="HOST:PORT"):
        cluster.of_config(mesh(coordinator="h", num_processes=2, process_id=0))
    with pytest.raises(UserError, match="expected 0 to 1"):
        cluster.of_config(mesh(coordinator="h:1", num_processes=2, process_id=2))


def test_a_coordinator_that_does_not_come_is_a_message():
    code = """
        from ml_collections import ConfigDict
        from cxrjax.defaults import keys
        from cxrjax.train import cluster
        mesh = keys.run().mesh
        mesh.update(dict(coordinator="127.0.0.1:9", num_processes=2, process_id=1, join_timeout=1))
        cluster.join(mesh)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "error: process 1: no process 0 answers at 127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert "stack trace" not in done.stderr


@pytest.fixture
def joined(monkeypatch):
    """What jax would have been asked for by `cluster.join`."""
    asked: dict = {}
    before = jax.config.jax_enable_preemption_service
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "1")  # so that it comes back, whatever the test leaves
    monkeypatch.delenv("JAX_COORDINATOR_PORT")
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: asked.update(given))
    yield asked
    jax.config.update("jax_enable_preemption_service", before)


def test_a_tpu_pod_meets_at_the_port_that_is_open_on_v6e_and_sigterm_stays_ours(joined, monkeypatch):
    monkeypatch.setattr(cluster, "of_slurm", lambda _: None)
    cluster.join(mesh(distributed=True, join_timeout=40))
    assert os.environ["JAX_COORDINATOR_PORT"] == "8476"
    assert not jax.config.jax_enable_preemption_service
    assert joined == {"initialization_timeout": 100, "heartbeat_timeout_seconds": cluster.HEARTBEAT}


def test_keys_are_what_jax_is_given(joined):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster.join(mesh(coordinator=f"h:{port}", num_processes=2, process_id=0, local_devices=(1, 2)))
    place = {"coordinator_address": f"h:{port}", "num_processes": 2, "process_id": 0, "local_device_ids": (1, 2)}
    assert joined.items() >= place.items()


def test_a_port_that_is_taken_is_told_before_the_others_wait(joined):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} .*another run may be there; give another port"):
            cluster.join(mesh(coordinator=f"h:{port}", num_processes=2, process_id=0))
    assert joined == {}
