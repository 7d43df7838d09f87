"""A run: prepare the films, train the phases one after the other, do the study, write results and page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from cxrjax import console, data, files, manifest, phases, report, stop
from cxrjax.errors import UserError, lookup
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
    workdir = Path(workdir).absolute()
    pin_random_numbers()
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.expanduser(config.compile_cache)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    cluster.join(config.mesh)
    if not processes.primary():
        console.be_quiet()
    if processes.first(lambda: _finished(workdir, config)):
        return 0
    lookup(STUDIES, config.study.name, "study.name").check(config)
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
    """Whether the run has ended, with its results and its page; says where they are."""
    path, results, page = (workdir / name for name in ("manifest.json", "results.json", "report.html"))
    if not lock.finished(workdir):
        return False
    old = files.read_json(path)
    manifest.check_same(old, {**old, "config": manifest.plain(config)}, workdir)
    try:
        files.read_json(results)
    except (FileNotFoundError, files.Damaged) as error:
        print(f"{error}: results and page are made again")
        return False
    if not page.exists():
        print(f"{page} is missing and made again")
        return False
    print(f"{workdir} is finished: see {page}; another --workdir starts anew")
    return True


def _whole(config: Any, choices: Mapping[str, tuple[tuple[Any, ...], str]], workdir: Path, command: str) -> int:
    mesh = meshes.make(config.mesh.devices, config.mesh.fsdp)
    phases.check(config, mesh)
    films = processes.together(lambda: data.prepare(config.data))
    if len(set(processes.gather(films.fingerprint))) > 1:
        raise UserError(f"data.root: the films of process 0 are not those of all ({films.fingerprint[:12]} here)")
    phases.check_films(config, films, mesh.size)
    notes = STUDIES[config.study.name].check_films(config, films)
    with logs.Log(workdir) as log:
        return _run(config, choices, workdir, command, mesh, films, notes, log)


def pin_random_numbers() -> None:
    """Random numbers that follow from their keys alone, in any batch, under `vmap` and on any devices.

    Those of the implementation "rbg", which JAX_DEFAULT_PRNG_IMPL can make the default, do not.
    """
    jax.config.update("jax_default_prng_impl", manifest.PRNG)
    jax.config.update("jax_threefry_partitionable", True)


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
    notes: list[str],
    log: logs.Log,
) -> int:
    record = processes.first(lambda: _begin(config, choices, workdir, command, films, notes))
    for warning in record["warnings"]:
        log.say(f"warning: {warning}")

    study = STUDIES[config.study.name]
    context = phases.Context(config, films, workdir, mesh, jax.random.key(config.seed), log, {}, {})
    for name in config.phases:
        phases.run(context, name, study.after)
    results = study.run(context)
    if processes.primary():
        files.write_json(workdir / "results.json", results)
        record["warnings"] += log.warnings
        files.write_json(workdir / "manifest.json", record)
        page = report.write(workdir)
        files.write_json(workdir / "manifest.json", record | {"finished": True})
        log.console.print(*report.rich_tables(workdir), sep="\n")
        log.say(f"page: {page}")
    return 0


def _begin(
    config: Any, choices: Mapping[str, tuple[tuple[Any, ...], str]], workdir: Path, command: str,
    films: data.Prepared, notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Writes the manifest of a run that begins or goes on, and returns it."""
    facts = {
        "name": config.data.name, "fingerprint": films.fingerprint, "label_version": films.label_version,
        "splits": films.splits, "columns": films.columns, "quarantined": films.quarantined,
        "bit_depth": films.bit_depth,
    }  # fmt: skip
    if STUDIES[config.study.name].by_boxes:
        facts["boxes"] = films.boxes_digest()
    drawn = []
    if films.has_truth:
        drawn = ["These films are drawn by a program: no patient, and no evidence of clinical performance."]
    record = manifest.make(config, choices, command, facts) | {
        "warnings": [*films.warnings, *notes, *_phase_notes(config), *drawn, *config.warnings],
        "weights": phases.origins(config),
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
