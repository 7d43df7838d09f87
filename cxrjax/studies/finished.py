"""A phase of another, finished run: its config and its state, read from its workdir."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cxrjax.errors import did_you_mean
from cxrjax.tasks import TASKS
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch, State, UserError


class Finished(NamedTuple):
    """A run that has ended.

    Attributes:
      workdir: its folder.
      config: its config.
    """

    workdir: Path
    config: Any

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of its films."""
        return tuple(self.config.data.classes)


def blank(devices: int, size: int, classes: int, channels: int = 1) -> Batch:
    """Blank films of a run's shape, one a device."""
    return Batch(
        np.zeros((devices, size, size, channels), np.float32), np.zeros((devices, classes), np.float32),
        np.ones(devices, np.float32), np.zeros(devices, np.int32),
    )  # fmt: skip


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def open_run(workdir: Path | str) -> Finished:
    """Reads a finished run's manifest.

    Raises:
      UserError: there is no run, or it has not ended.
    """
    folder = Path(os.path.expanduser(workdir))
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no run: manifest.json is missing; give the --workdir of a finished run")
    record = json.loads(path.read_text())
    if not record.get("finished"):
        raise UserError(f"{folder} has not ended; run its command again: {record.get('command', '')}")
    return Finished(folder, ConfigDict(_tuples(record["config"])))


def phase_of(run: Finished, task: str, phase: str = "") -> str:
    """The phase of a run that has a task of this name: the one asked for, or the only one.

    Raises:
      UserError: there is none, or there are several and none is asked for.
    """
    names = [name for name in run.config.phases if run.config[name].task == task]
    if phase:
        if phase not in names:
            raise UserError(f"{run.workdir} has no phase {phase!r} of task {task!r}{did_you_mean(phase, names)}")
        return phase
    if len(names) != 1:
        raise UserError(
            f"{run.workdir} has {len(names)} phases of task {task!r} ({', '.join(names)}); name one of them"
        )
    return names[0]


def check_same(workdir: str, phase: str, config: Any) -> None:
    """Refuses a phase of a finished run that is not the one that this run's config asks for.

    Raises:
      UserError: the run has no such phase, or its films, classes, task or network differ; names what differs.
    """
    run = open_run(workdir)
    if phase not in run.config.phases:
        raise UserError(f"from_run = {workdir}: it has no phase {phase!r}{did_you_mean(phase, run.config.phases)}")
    ours, theirs = config[phase], run.config[phase]
    for name, a, b in (
        ("data.name", config.data.name, run.config.data.name),
        ("data.size", config.data.size, run.config.data.size),
        ("data.classes", tuple(config.data.classes), run.classes),
        ("task", ours.task, theirs.task),
        ("net", ours.net.to_dict(), theirs.net.to_dict()),
        *(
            (key, ours[key], theirs.get(key))
            for key in ("prediction", "schedule", "t_max", "noise", "time")
            if key in ours
        ),
    ):
        if a != b:
            raise UserError(f"from_run = {workdir}: {name} is {b!r} there and {a!r} here; the phase cannot be taken")


def state_of(run: Finished, phase: str, example: Batch, mesh: Mesh) -> State:
    """The state that a phase ended with, on every device.

    Args:
      run: the run.
      phase: a name as its checkpoints have it.
      example: blank films of that run's shape.
      mesh: every device.

    Raises:
      UserError: its checkpoints are missing, damaged, or of another configuration.
    """
    config = run.config[phase]
    folder = run.workdir / "checkpoints" / phase
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; the run's checkpoints are needed, not its report alone")
    abstract = jax.eval_shape(TASKS[config.task](config, run.classes).init, jax.random.key(0), example)
    shardings = meshes.state_shardings(mesh, abstract, ())
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
    best = tuple(config.metric) if config.select == "best" else None
    with Checkpoints(folder, best=best) as checkpoints:
        found = checkpoints.restore_best(target) if best else checkpoints.restore(target)
    if found is None:
        raise UserError(f"{folder} holds no checkpoint; restore the folder from a copy")
    return found.state
