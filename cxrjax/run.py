"""A run: prepare the films, train the phases one after the other, do the study, write results and page."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cxrjax import console, data, files, manifest, phases, stop
from cxrjax.data import external
from cxrjax.errors import UserError, lookup
from cxrjax.infer.finished import member_names
from cxrjax.studies import STUDIES
from cxrjax.tasks import ddpm
from cxrjax.train import cluster, lock, processes
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes


def run(config: Any, *, choices: Mapping[str, tuple[tuple[Any, ...], str]], workdir: Path, command: str) -> int:
    """Runs a configuration in a workdir, from the start or from where it was stopped.

    One of several processes that cannot go on, or is stopped, ends here, and the others with it.

    Returns:
      0 when the run is finished (also when it was before), 75 when a signal stopped it after a save.

    Raises:
      UserError: what a person can mend.
    """
    workdir, config = Path(workdir).absolute(), data.with_classes(config)
    pin_random_numbers()
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.expanduser(config.compile_cache)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    cluster.join(config.mesh)
    if not processes.primary():
        console.be_quiet()
    if processes.first(lambda: _finished(workdir, config)):
        return 0
    study = lookup(STUDIES, config.study.name, "study.name")
    study.check(config)
    if config.data.external and study.external is None:
        sets = ", ".join(config.data.external)
        raise UserError(f"data.external names {sets}, and the study {config.study.name!r} reads none: take it out")
    external.check(config)
    try:
        with contextlib.ExitStack() as held:
            processes.together(lambda: held.enter_context(lock.hold(workdir)) if processes.primary() else None)
            with processes.one_end(workdir, config.mesh.missing_timeout):
                try:
                    return _whole(config, choices, workdir, command)
                except OSError as error:
                    raise files.told(error, Path(error.filename or workdir)) or error from error
    except stop.Preempted as halt:
        print(halt)
        return stop.EXIT


def _finished(workdir: Path, config: Any) -> bool:
    """Whether the run has ended, with its results, its page and its films from elsewhere; says where they are."""
    path, results, page = (workdir / name for name in ("manifest.json", "results.json", "report.html"))
    if not lock.finished(workdir):
        return False
    old, asked = files.read_json(path), manifest.plain(config)
    manifest.check_same(old, {**old, "config": asked}, workdir)
    try:
        files.read_json(results)
    except (FileNotFoundError, files.Damaged) as error:
        print(f"{error}: results and page are made again")
        return False
    if not page.exists():
        print(f"{page} is missing and made again")
        return False
    if manifest.external(asked) != manifest.external(old["config"]):
        _check_kept(config, workdir)
        print(f"{workdir} is finished, and its test is another: its phases are kept, its study is done anew")
        return False
    print(f"{workdir} is finished: see {page}; another --workdir starts anew")
    return True


def _whole(config: Any, choices: Mapping[str, tuple[tuple[Any, ...], str]], workdir: Path, command: str) -> int:
    begun = time.monotonic()
    mesh, study = meshes.make(config.mesh.devices, config.mesh.fsdp), STUDIES[config.study.name]
    origins = phases.check(config, mesh)
    films = processes.together(lambda: data.prepare(config.data))
    if len(set(processes.gather(films.fingerprint))) > 1:
        raise UserError(f"data.root: the films of process 0 are not those of all ({films.fingerprint[:12]} here)")
    outside = processes.together(lambda: external.prepare(config))
    bound = phases.check_films(config, films, mesh.size)
    notes = study.check_films(config, films)
    if outside and study.external:
        notes += [f"{name}: {warning}" for name, others in outside.items() for warning in others.warnings]
        notes += study.external(config, outside) + external.apart(config, films, outside)
    with logs.Log(workdir, begun) as log:
        key = jax.random.key(config.seed)
        context = phases.Context(config, films, bound, workdir, mesh, key, log, {}, {}, outside)
        return _run(context, choices, command, notes, origins)


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
    context: phases.Context,
    choices: Mapping[str, tuple[tuple[Any, ...], str]],
    command: str,
    notes: list[str],
    origins: dict[str, Any],
) -> int:
    config, workdir, log = context.config, context.workdir, context.log
    record = processes.first(lambda: _begin(context, choices, command, notes, origins))
    for warning in record["warnings"]:
        log.say(f"warning: {warning}")

    study = STUDIES[config.study.name]
    for name in config.phases:
        phases.run(context, name, study.after)
    log.goodput.begin()
    results = study.run(context)
    log.goodput.mark("rest")
    if processes.primary():
        from cxrjax import report  # matplotlib and jinja2, of a run that has come to its page

        results = {**results, "seconds": log.goodput.seconds()}
        log.goodput.keep()
        files.write_json(workdir / "results.json", results)
        record["warnings"] += log.warnings
        files.write_json(workdir / "manifest.json", record)
        page = report.write(workdir)
        files.write_json(workdir / "manifest.json", record | {"finished": True})
        log.console.print(*report.rich_tables(workdir), sep="\n")
        log.say(f"page: {page}")
    return 0


def _begin(
    context: phases.Context, choices: Mapping[str, tuple[tuple[Any, ...], str]], command: str, notes: list[str],
    origins: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Writes the manifest of a run that begins or goes on, and returns it."""
    config, films, workdir = context.config, context.films, context.workdir
    facts = {
        "name": config.data.name, "fingerprint": films.fingerprint, "label_version": films.label_version,
        "splits": films.splits, "columns": films.columns, "quarantined": films.quarantined,
        "bit_depth": films.bit_depth,
        "external": {
            name: {"fingerprint": others.fingerprint, "label_version": others.label_version,
                   "films": others.count(external.PART), "quarantined": others.quarantined}
            for name, others in context.external.items()
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
        old = files.read_json(
            path,
            "restore it from a copy; without it nothing tells whether a run goes on with the same films and keys",
        )
        manifest.check_same(old, record, workdir)
        again = {key: record[key] for key in ("started", "command", "commit", "versions", "devices")}
        for key in ("commit", "versions"):
            if old[key] != record[key]:
                record["warnings"].append(f"The run was begun under another {key.removesuffix('s')} and resumed.")
        record |= {key: old[key] for key in again} | {"resumed": [*old.get("resumed", []), again]}
    files.write_json(path, record)
    return files.plain(record)
