"""A run: prepare the films, train the phases one after the other, do the study, write results and page."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from clu import parameter_overview
from filelock import FileLock, Timeout
from jax.sharding import Mesh

from cxrjax import data, manifest, report
from cxrjax.errors import lookup
from cxrjax.studies import STUDIES
from cxrjax.tasks import TASKS
from cxrjax.train import log as logs
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch, Key, State, UserError

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: the same command goes on


class Context(NamedTuple):
    """What every phase and study of a run shares."""

    config: Any
    films: data.Prepared
    workdir: Path
    mesh: Mesh
    key: Key
    log: logs.Log
    states: dict[str, State]


def name_key(key: Key, name: str) -> Key:
    """A key of its own for a name, stable over runs and Python's hash seed."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def only(films: data.Prepared, split: str, name: str) -> np.ndarray | None:
    """Indices of a split's films that carry one class; None, meaning all of them, for an empty name."""
    if not name:
        return None
    chosen = data.labels.select(films.table(split)["labels"], films.columns, (name,))[:, 0] == 1
    if not chosen.any():
        raise UserError(f"no film of the {split} part is labeled {name!r}, which this phase is to see only")
    return np.flatnonzero(chosen)


def bring(earlier: State, fresh: State) -> State:
    """A fresh state with an earlier phase's weights, statistics and averages; its optimizer starts anew."""
    return dataclasses.replace(fresh, params=earlier.params, stats=earlier.stats, ema=earlier.ema)


def example_batch(config: Any, devices: int) -> Batch:
    """Blank films of the run's shape, one a device."""
    size, classes = config.data.size, len(config.data.classes)
    return Batch(
        np.zeros((devices, size, size, 1), np.float32), np.zeros((devices, classes), np.float32),
        np.ones(devices, np.float32), np.zeros(devices, np.int32),
    )  # fmt: skip


def check_phases(config: Any, mesh: Mesh) -> None:
    """Refuses, before films are prepared and a workdir is made, phases that could not begin.

    Raises:
      UserError: names the phase and what is wrong with its task, network, optimizer, batch or shards.
    """
    for i, name in enumerate(config.phases):
        phase = config[name]
        try:
            task = lookup(TASKS, phase.task, "task")(phase, len(config.data.classes))
            state = jax.eval_shape(task.init, jax.random.key(0), example_batch(config, mesh.size))
            meshes.state_shardings(mesh, state, tuple(tuple(r) for r in config.mesh.shard))
            if phase.batch % mesh.size:
                raise UserError(f"batch is {phase.batch}: expected a multiple of the {mesh.size} devices")
            if phase.carry:
                lookup({earlier: earlier for earlier in config.phases[:i]}, phase.carry, "carry")
        except UserError as error:
            raise UserError(f"{name}: {error}") from error


def train_phase(context: Context, name: str) -> State:
    """Trains one phase of `config.phases` or brings back its finished state."""
    config, films, mesh = context.config[name], context.films, context.mesh
    classes = tuple(context.config.data.classes)
    task = TASKS[config.task](config, len(classes))
    seed = zlib.crc32(f"{context.config.seed}/{name}".encode()) & 0x7FFFFFFF
    shard = (jax.process_index(), jax.process_count())
    read = partial(data.batches, films, "train", classes=classes, batch_size=config.batch, seed=seed, shard=shard)
    stream = read(keep=only(films, "train", config.only), augment=tuple(config.augment))
    evals: Callable[[], Iterator[Batch]] | None = None
    if films.splits.get("val"):
        kept = only(films, "val", config.only)
        size = meshes.whole_batch(mesh, config.eval_batch)
        evals = partial(data.eval_batches, films, "val", classes=classes, batch_size=size, keep=kept, shard=shard)
    example = example_batch(context.config, mesh.size)
    key = name_key(context.key, name)
    abstract = jax.eval_shape(task.init, key, example)
    overviews = []
    for network, params in abstract.params.items():
        count = parameter_overview.count_parameters(params)
        work = f"{config.steps:,} steps of {config.batch} films"
        context.log.say(f"{name}: {config.net.name} ({network}), {count:,} parameters, {work}")
        overviews.append(parameter_overview.get_parameter_overview(params, include_stats=False))
    if jax.process_index() == 0:
        (context.workdir / f"parameters_{name}.txt").write_text("\n".join(overviews) + "\n")
    phase = loop.Phase(
        name, config.steps, config.log_every, config.eval_every, config.save_every, config.select, tuple(config.metric)
    )
    return loop.fit(
        task, phase, stream=stream, evals=evals, example=example, workdir=context.workdir, mesh=mesh, key=key,
        log=context.log, carry=partial(bring, context.states[config.carry]) if config.carry else None,
        shard_rules=tuple(tuple(r) for r in context.config.mesh.shard),
    )  # fmt: skip


def run(config: Any, *, choices: Mapping[str, tuple[tuple[Any, ...], str]], workdir: Path, command: str) -> int:
    """Runs a configuration in a workdir, from the start or from where it was stopped.

    Returns:
      0 when the run is finished (also when it was before), 75 when a signal stopped it after a save.

    Raises:
      UserError: what a person can mend.
    """
    workdir = Path(workdir)
    path = workdir / "manifest.json"
    if path.exists() and (old := json.loads(path.read_text())).get("finished"):
        manifest.check_same(old, {**old, "config": manifest.plain(config)}, workdir)
        print(f"{workdir} is finished: see {workdir / 'report.html'}; another --workdir starts anew")
        return 0
    lookup(STUDIES, config.study.name, "study.name").check(config)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path(config.compile_cache).expanduser())
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if config.mesh.distributed:
        jax.distributed.initialize()
    mesh = meshes.make(config.mesh.devices)
    check_phases(config, mesh)
    films = data.prepare(config.data)
    notes = STUDIES[config.study.name].check_films(config, films)
    workdir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workdir / f".lock{jax.process_index()}", timeout=0)
    try:
        with lock, logs.Log(workdir) as log:
            return _run(config, choices, workdir, command, mesh, films, notes, log)
    except Timeout:
        raise UserError(f"another run is at work in {workdir}; wait for it, or give another --workdir") from None
    except loop.Preempted as stop:
        print(stop)
        return EXIT_PREEMPTED


def _run(
    config: Any,
    choices: Mapping[str, tuple[tuple[Any, ...], str]],
    workdir: Path,
    command: str,
    mesh: Mesh,
    films: data.Prepared,
    notes: list[str],
    log: logs.Log,
) -> int:
    facts = {
        "name": config.data.name, "fingerprint": films.fingerprint, "label_version": films.label_version,
        "splits": films.splits, "columns": films.columns, "quarantined": films.quarantined,
    }  # fmt: skip
    drawn = []
    if films.has_truth:
        drawn = ["These films are drawn by a program: no patient, and no evidence of clinical performance."]
    record = manifest.make(config, choices, command, facts) | {
        "warnings": [*films.warnings, *notes, *drawn, *config.warnings]
    }
    path = workdir / "manifest.json"
    if path.exists():
        old = json.loads(path.read_text())
        manifest.check_same(old, record, workdir)
        again = {key: record[key] for key in ("started", "command", "commit", "versions", "devices")}
        for key in ("commit", "versions"):
            if old[key] != record[key]:
                record["warnings"].append(f"The run was begun under another {key.removesuffix('s')} and resumed.")
        record |= {key: old[key] for key in again} | {"resumed": [*old.get("resumed", []), again]}
    primary = jax.process_index() == 0
    if primary:
        manifest.write_json(path, record)
    for warning in record["warnings"]:
        log.say(f"warning: {warning}")

    context = Context(config, films, workdir, mesh, jax.random.key(config.seed), log, {})
    for name in config.phases:
        context.states[name] = train_phase(context, name)
    results = STUDIES[config.study.name].run(context)
    if not primary:
        return 0
    manifest.write_json(workdir / "results.json", results)
    page = report.write(workdir)
    manifest.write_json(path, record | {"finished": True})
    log.console.print(*report.tables(workdir), sep="\n")
    log.say(f"page: {page}")
    return 0
