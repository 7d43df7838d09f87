"""A run: prepare the films, train the phases one after the other, do the study, write results and page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout
from jax.sharding import Mesh

from cxrjax import data, manifest, phases, report
from cxrjax.data import external
from cxrjax.errors import UserError, lookup
from cxrjax.infer.finished import member_names
from cxrjax.studies import STUDIES
from cxrjax.tasks import ddpm
from cxrjax.train import log as logs
from cxrjax.train import loop
from cxrjax.train import mesh as meshes

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: the same command goes on


def run(config: Any, *, choices: Mapping[str, tuple[tuple[Any, ...], str]], workdir: Path, command: str) -> int:
    """Runs a configuration in a workdir, from the start or from where it was stopped.

    Returns:
      0 when the run is finished (also when it was before), 75 when a signal stopped it after a save.

    Raises:
      UserError: what a person can mend.
    """
    workdir = Path(workdir)
    config.data.classes = data.classes_of(config.data)
    path = workdir / "manifest.json"
    if path.exists() and (old := json.loads(path.read_text())).get("finished"):
        asked = manifest.plain(config)
        manifest.check_same(old, {**old, "config": asked}, workdir)
        if manifest.external(asked) == manifest.external(old["config"]):
            print(f"{workdir} is finished: see {workdir / 'report.html'}; another --workdir starts anew")
            return 0
        _check_kept(config, workdir)
        print(f"{workdir} is finished, and data.external is another: its phases are kept, its study is done anew")
    study = lookup(STUDIES, config.study.name, "study.name")
    study.check(config)
    if config.data.external and study.external is None:
        sets = ", ".join(config.data.external)
        raise UserError(f"data.external names {sets}, and the study {config.study.name!r} reads none: take it out")
    external.check(config)
    pin_random_numbers()
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.expanduser(config.compile_cache)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if config.mesh.distributed:
        jax.distributed.initialize()
    mesh = meshes.make(config.mesh.devices)
    origins = phases.check(config, mesh)
    films = data.prepare(config.data)
    outside = external.prepare(config)
    phases.check_films(config, films, mesh.size)
    notes = study.check_films(config, films)
    if outside and study.external:
        notes += [f"{name}: {warning}" for name, others in outside.items() for warning in others.warnings]
        notes += study.external(config, outside) + external.apart(config, films, outside)
    workdir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workdir / f".lock{jax.process_index()}", timeout=0)
    try:
        with lock, logs.Log(workdir) as log:
            return _run(config, choices, workdir, command, mesh, films, outside, notes, origins, log)
    except Timeout:
        raise UserError(f"another run is at work in {workdir}; wait for it, or give another --workdir") from None
    except loop.Preempted as stop:
        print(stop)
        return EXIT_PREEMPTED


def pin_random_numbers() -> None:
    """Random numbers that follow from their keys alone, in any batch, under `vmap` and on any devices.

    Those of the implementation "rbg", which JAX_DEFAULT_PRNG_IMPL can make the default, do not.
    """
    jax.config.update("jax_default_prng_impl", manifest.PRNG)
    jax.config.update("jax_threefry_partitionable", True)


def _check_kept(config: Any, workdir: Path) -> None:
    """Raises UserError where a finished run's networks are gone, which would be trained anew."""
    for phase in config.phases:
        if not (config[phase].get("run", "") or config[phase].get("from_run", "") or config[phase].task == "grid"):
            for folder in (workdir / "checkpoints" / name for name in member_names(config, phase)):
                if not folder.is_dir():
                    raise UserError(f"{folder} is missing, whose network data.external is to be tried on: restore it")


def _phase_notes(config: Any) -> list[str]:
    diffusions = [name for name in config.phases if "simplex" in config[name]]
    return [note for name in diffusions for note in ddpm.notes(config[name], name)]


def _run(
    config: Any,
    choices: Mapping[str, tuple[tuple[Any, ...], str]],
    workdir: Path,
    command: str,
    mesh: Mesh,
    films: data.Prepared,
    outside: dict[str, data.Prepared],
    notes: list[str],
    origins: dict[str, Any],
    log: logs.Log,
) -> int:
    facts = {
        "name": config.data.name, "fingerprint": films.fingerprint, "label_version": films.label_version,
        "splits": films.splits, "columns": films.columns, "quarantined": films.quarantined,
        "bit_depth": films.bit_depth,
        "external": {
            name: {"fingerprint": others.fingerprint, "label_version": others.label_version,
                   "films": others.count(external.PART), "quarantined": others.quarantined}
            for name, others in outside.items()
        },
    }  # fmt: skip
    if STUDIES[config.study.name].by_boxes:
        facts["boxes"] = films.boxes_digest()
    drawn = []
    if films.has_truth:
        drawn = ["These films are drawn by a program: no patient, and no evidence of clinical performance."]
    record = manifest.make(config, choices, command, facts) | {
        "warnings": [*films.warnings, *notes, *_phase_notes(config), *drawn, *config.warnings],
        "weights": origins,
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

    study = STUDIES[config.study.name]
    context = phases.Context(config, films, workdir, mesh, jax.random.key(config.seed), log, {}, {}, outside)
    for name in config.phases:
        phases.run(context, name, study.after)
    results = study.run(context)
    if not primary:
        return 0
    manifest.write_json(workdir / "results.json", results)
    page = report.write(workdir)
    manifest.write_json(path, record | {"finished": True})
    log.console.print(*report.rich_tables(workdir), sep="\n")
    log.say(f"page: {page}")
    return 0
