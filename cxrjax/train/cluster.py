"""How several processes find one another: by a config's keys, by Slurm's environment, on TPU pods by jax itself."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from cxrjax.errors import UserError

# Of TPU pods: the port that Google's firewall opens between their hosts; jax's own, 8482, is closed on v6e.
TPU_PORT = "8476"
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
HEARTBEAT = 300  # seconds until jax itself gives up a process: after `train.watch` has


class Place(NamedTuple):
    """A process among several.

    Attributes:
      coordinator: host:port of process 0.
      processes: how many there are.
      number: of this one.
      devices: numbers of those accelerators of its machine that are its own; () for all that it sees.
    """

    coordinator: str
    processes: int
    number: int
    devices: tuple[int, ...] = ()


def of_config(mesh: Any) -> Place | None:
    """The place that the keys of `config.mesh` give; None where they give none.

    Raises:
      UserError: one of the keys is missing or out of range.
    """
    unset = {"coordinator": "", "num_processes": 0, "process_id": -1}
    missing = [key for key, value in unset.items() if mesh[key] == value]
    if len(missing) == len(unset):
        return None
    if missing:
        given = next(key for key in unset if key not in missing)
        raise UserError(
            f"mesh.{missing[0]} is not set, and mesh.{given} is: several processes need coordinator=HOST:PORT of "
            "process 0, num_processes, and process_id, 0 to num_processes - 1"
        )
    if not re.fullmatch(r".+:\d+", mesh.coordinator):
        raise UserError(f"mesh.coordinator is {mesh.coordinator!r}: expected HOST:PORT, where process 0 will listen")
    if mesh.process_id >= mesh.num_processes:
        raise UserError(f"mesh.process_id is {mesh.process_id}: expected 0 to {mesh.num_processes - 1}")
    return Place(mesh.coordinator, mesh.num_processes, mesh.process_id, tuple(mesh.local_devices))


def of_slurm(environment: Mapping[str, str]) -> Place | None:
    """The place of a task that `srun` started; None outside of one.

    Raises:
      UserError: the node's devices cannot be divided among its tasks.
    """
    if any(name not in environment for name in SLURM):
        return None
    job, nodes, count, index, local = (environment[name] for name in SLURM)
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", "1"))
    node = int(environment.get("SLURM_NODEID", "0"))
    on_node = int(environment.get("SLURM_GPUS_ON_NODE", "0") or 0)
    seen = environment.get("CUDA_VISIBLE_DEVICES")
    visible = on_node if seen is None else len([name for name in seen.split(",") if name])
    port = 61440 + int(job) % 4096  # of the ephemeral ones, and another for every job of a node
    devices = divided(visible, on_node, tasks_per_node(tasks)[node], int(local))
    return Place(f"{first_host(nodes)}:{port}", int(count), int(index), devices)


def divided(visible: int, on_node: int, tasks: int, local: int) -> tuple[int, ...]:
    """The devices of one of the tasks of a node: an equal share of them, in order.

    Args:
      visible: devices that the task sees.
      on_node: devices of the job on this node; a task that sees fewer was bound to its own by Slurm.
      tasks: of the job on this node.
      local: number of this one among them.

    Returns:
      Numbers of devices as the task sees them; () for all of them.

    Raises:
      UserError: they do not divide.
    """
    if not visible or visible < on_node or tasks == 1:
        return ()
    if visible % tasks:
        raise UserError(
            f"{visible} devices of this node cannot be divided among its {tasks} tasks: set --ntasks-per-node to a "
            "divisor, or mesh.local_devices in each"
        )
    share = visible // tasks
    return tuple(range(local * share, (local + 1) * share))


def tasks_per_node(text: str) -> list[int]:
    """Slurm's `2(x3),1` as [2, 2, 2, 1]."""
    out = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        out += [int(count)] * int(times.rstrip(")") or 1)
    return out


def first_host(nodes: str) -> str:
    """The first of Slurm's `gpu[07-09,12],login`: `gpu07`."""
    found = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)
    assert found
    return found[1] + (found[2] or "")


def check(mesh: Mapping[str, Any]) -> bool:
    """Whether `config.mesh` asks for several processes.

    Raises:
      UserError: they could not come together.
    """
    if not mesh:
        return False
    for key, least in (("num_processes", 0), ("join_timeout", 1), ("missing_timeout", 5), ("fsdp", 1)):
        if mesh[key] < least:
            raise UserError(f"mesh.{key} is {mesh[key]}: expected {least} or more")
    return of_config(mesh) is not None or bool(mesh["distributed"])


def join(mesh: Any) -> None:
    """Joins the other processes of the run, if there are any: before jax sees its devices.

    Raises:
      UserError: nothing says where they are, or the port is taken. Where they do not come within `mesh.join_timeout`,
        the process says so and exits with 2, since jax would abort it.
    """
    place = of_config(mesh)
    if place is None and not mesh.distributed:
        return
    import jax

    place = place or of_slurm(os.environ)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself, see `cxrjax.stop`
    os.environ.setdefault("JAX_COORDINATOR_PORT", TPU_PORT)
    if place and place.processes == 1:
        return
    if place and place.number == 0:
        _check_port(place.coordinator)
    timer = threading.Timer(mesh.join_timeout, _give_up, (place, mesh.join_timeout))
    timer.daemon = True
    timer.start()
    given: dict[str, Any] = {} if place is None else {
        "coordinator_address": place.coordinator, "num_processes": place.processes, "process_id": place.number,
        "local_device_ids": place.devices or None, "cluster_detection_method": "deactivate",
    }  # fmt: skip
    try:
        jax.distributed.initialize(
            **given, initialization_timeout=mesh.join_timeout + 60, heartbeat_timeout_seconds=HEARTBEAT
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"mesh.distributed: the other processes were not found ({' '.join(str(error).split())[:200]}); on a TPU "
            "pod or under srun nothing more is needed; else give mesh.coordinator, num_processes and process_id"
        ) from error
    finally:
        timer.cancel()


def _check_port(coordinator: str) -> None:
    port = int(coordinator.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"mesh.coordinator is {coordinator}, but port {port} of this machine cannot be listened at "
                f"({error.strerror}): another run may be there; give another port to every process"
            ) from error


def _give_up(place: Place | None, seconds: float) -> None:
    """A missing coordinator is a message: jax's own time-out is a native abort."""
    words = "the other processes did not come"
    if place:
        host, _, port = place.coordinator.rpartition(":")
        words = f"of {place.processes} processes not all came to {place.coordinator}"
        try:
            socket.create_connection((host, int(port)), 2).close()
        except OSError as error:
            words = f"process {place.number}: no process 0 answers at {place.coordinator} ({error})"
    print(f"error: {words} within {seconds} s; start all of them, with the same address", file=sys.stderr, flush=True)
    os._exit(2)
