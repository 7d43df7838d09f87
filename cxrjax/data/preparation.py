"""From a source to a folder of records: once, checked, and all or nothing."""

from __future__ import annotations

import csv
import functools
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console

from cxrjax import console
from cxrjax.data import builder, decode, prepared, reading, shards, splits, twins
from cxrjax.data.intake import Intake, Options, wrong_count
from cxrjax.data.labels import NORMAL
from cxrjax.data.prepared import Prepared
from cxrjax.data.reading import Decoded, Plan
from cxrjax.data.sources import SOURCES, listed
from cxrjax.data.sources.base import Record, Source, choice
from cxrjax.errors import UserError, did_you_mean, lookup

log = logging.getLogger(__name__)

# Raise it when the same source would give other records, so that old folders are not taken for new ones.
FORMAT = 2
# Likewise for the constants of the phase features; `data.enh_options` enter by themselves.
ENH_FORMAT = "enh-v2"
OVERLAP = ("stop", "drop")
BLANK = ("keep", "quarantine")
OTHERS = ("keep", "drop")
SHOWN = 3


def prepare(data: Any, change: Callable[[Source], Source] = lambda source: source) -> Prepared:
    """Prepares a data set, or opens it if that is done.

    The films are decoded, checked, resized and written to `data.cache/name-size-fingerprint`. The folder is built under
    another name and moved in one step, so at any time it is whole or absent; a lock keeps two builders apart.

    A film that is in two parts, pixel for pixel, is an error where `data.overlap` is "stop"; "drop" leaves it out of
    val where test has it, and of train where val or test has it. Twins within a part, near-twins and films of one gray
    throughout are counted in warnings.

    Args:
      data: `config.data`: `name`, `cache`, `size`, `quarantine_limit` (0.01), `overlap` ("stop"), `others`
        ("keep"; "drop" leaves out films that have not exactly one of `classes`), `blank` ("keep";
        "quarantine" leaves out films of one gray), `bit_depth` (0; of all 16-bit files, 0 for the smallest of 8, 10,
        12, 14 and 16 bits that holds every one of them), `enh` (False; with it the films' phase features are stored
        too, computed with `enh_options`), and what the source reads.
      change: what is made of the source before any film of it is read.

    Raises:
      UserError: unknown name, bad source, more corrupt films than the limit, a patient or a film in two splits, a box
        that encloses nothing, no space.
    """
    return _complete(_plan(data, change), reading.fresh)


def prepare_shard(data: Any, shard: shards.Shard) -> shards.Done | None:
    """Decodes one shard of a data set, to be put together by `merge`; None where all films are prepared already.

    Raises:
      UserError: as `prepare`, but for what is told of all films alone.
    """
    plan = _plan(data)
    return None if plan.directory.is_dir() else shards.write(plan, shard)


def merge(data: Any, command: str = "launch/prepare.py") -> Prepared:
    """What `prepare` gives, to the byte, from shards; `command` is named where some are to be made.

    Raises:
      UserError: as `prepare`, or a shard is not done.
    """
    plan = _plan(data)
    if not plan.directory.is_dir():
        count = shards.whole(plan, command)
        found = _complete(plan, functools.partial(shards.read, count, command))
    else:
        found = _complete(plan, reading.fresh)
    shutil.rmtree(shards.root(plan), ignore_errors=True)
    return found


def begun(data: Any) -> list[int]:
    """The counts of shards that a data set has been dealt into so far."""
    return shards.begun(_plan(data))


def _plan(data: Any, change: Callable[[Source], Source] = lambda source: source) -> Plan:
    read = lookup(SOURCES, data.name, "data.name")
    if not 16 <= int(data.size) <= 4096:
        raise UserError(f"data.size is {data.size}: expected 16 to 4096 pixels")
    depth = int(data.get("bit_depth", 0))
    if depth and not 8 <= depth <= 16:
        raise UserError(f"data.bit_depth is {depth}: expected 8 to 16, or 0 for the depth that holds every 16-bit film")
    if data.get("enh_options", None) and not data.get("enh", False):
        raise UserError("data.enh_options are read where data.enh is True: set it, or leave the options out")
    options = Options(
        limit=float(data.get("quarantine_limit", 0.01)),
        enh=dict(data.get("enh_options", None) or {}) if data.get("enh", False) else None,
        overlap=choice(data, "overlap", OVERLAP),
        blank=choice(data, "blank", BLANK),
        bit_depth=depth,
    )
    source = change(read(data))
    if choice(data, "others", OTHERS) == "drop":
        source = listed.of_one_class(source, tuple(data.classes))
    return _planned(source, data.cache, int(data.size), options)


def with_classes(config: Any) -> Any:
    """A run's config whose `data.classes`, where it is empty, is what its films have.

    Raises:
      UserError: the source does not tell what is to be learned, or is bad; a table of one's own lacks a class.
    """
    classes = tuple(config.data.classes)
    if classes and config.data.name != "csv":  # what the others have is known to who wrote the config
        return config
    source = lookup(SOURCES, config.data.name, "data.name")(config.data)
    check_faults(source)
    for name in classes:
        if name not in (*source.columns, NORMAL):
            raise UserError(
                f"data.classes has {name!r}, of which {config.data.table} has no label"
                f"{did_you_mean(name, source.columns)}; it has {', '.join(source.columns)}: set data.classes to some "
                f'of these, with Normal if you like, or to "()" for {", ".join(source.classes)}'
            )
    if classes:
        return config
    if not source.classes:
        raise UserError(f"data.classes is empty: name what is learned, of Normal and {', '.join(source.columns)}")
    config = config.copy_and_resolve_references()
    config.data.classes = source.classes
    return config.lock()


def materialize(source: Source, cache: str | Path, *, size: int, **given: Any) -> Prepared:
    """`prepare` for a source in hand; `given` are `Options`, of which `limit` is the share that may be corrupt."""
    return _complete(_planned(source, cache, size, Options(**given)), reading.fresh)


def _planned(source: Source, cache: str | Path, size: int, options: Options) -> Plan:
    check_faults(source)
    choices = options._asdict() | {"limit": None, "enh": None}  # the one changes no film, the other is in `_storage`
    identity = _digest([*_storage(source, size, options), source.fingerprint, choices])
    directory = Path(os.path.expanduser(cache)) / f"{source.name}-{size}-{identity[:12]}"
    return Plan(source, size, options, directory)


def _complete(plan: Plan, read: Callable[[Plan, console.Bar], Decoded]) -> Prepared:
    """The films of a plan; where they are not there, they are written as `read` gives them."""
    directory, cache = plan.directory, plan.directory.parent
    if not directory.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(cache / f".{directory.name}.lock"):
                # Under the lock nobody else builds this folder, so what lies around was left by a killed process.
                for stale in cache.glob(f".partial-{directory.name}-*"):
                    shutil.rmtree(stale)
                if not directory.is_dir():
                    _build(plan, read)
        except OSError as error:
            raise UserError(
                f"cannot prepare films under data.cache {str(cache)!r}: {error}; they need about "
                f"{_bytes(plan.source, plan.size, plan.options.enh is not None) / 1e6:,.0f} MB there (nothing was "
                "left behind)"
            ) from error
    found = prepared.load(directory)
    films = sum(count for split, count in found.splits.items() if split not in found.aliases)
    _check_limit(found.quarantined, found.quarantined + films, plan.options.limit, directory)
    for warning in found.warnings:
        log.warning("%s: %s", directory.name, warning)
    return found


def check_faults(source: Source) -> None:
    """Raises UserError where a source has faults: each kind with its number and the first."""
    found = [f"{len(items)} {kind} ({'; '.join(items[:SHOWN])}{'; ...' * bool(items[SHOWN:])})"
             for kind, items in source.faults.items() if items]  # fmt: skip
    if found:
        raise UserError(
            f"the films of {source.name} cannot be used: {', '.join(found)}; mend the table; launch/prepare.py "
            "--check lists all"
        )


def _storage(source: Source, size: int, options: Options) -> list[Any]:
    """How films are stored, whatever they are."""
    enh = None if options.enh is None else [ENH_FORMAT, dict(options.enh)]
    return [FORMAT, source.name, size, source.columns, enh, dict(source.aliases)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()


def _bytes(source: Source, size: int, has_enh: bool) -> int:
    planes = (5 if source.has_truth else 1) + 3 * has_enh  # film, twin and three bytes of truth; three features
    return source.total * size * size * planes


def _build(plan: Plan, read: Callable[[Plan, console.Bar], Decoded]) -> None:
    source, size, options, directory = plan
    partial = Path(tempfile.mkdtemp(prefix=f".partial-{directory.name}-", dir=directory.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        with console.progress(Console(stderr=True), transient=True) as bar:
            items, depth, depths = read(plan, bar)
            intake = Intake(source, options)
            task_id = bar.add_task("preparing films", total=source.total, note="")
            groups = itertools.groupby(items, key=lambda item: item.record.split)
            advance = functools.partial(bar.advance, task_id)
            builder.write(
                partial,
                size=size,
                columns=len(source.columns),
                has_truth=source.has_truth,
                has_enh=options.enh is not None,
                examples={split: intake.examples(split, groups, advance) for split in plan.order},
            )
            if left := next(groups, None):
                raise wrong_count(left[0], 0, "more")
        rows = {split: intake.rows[split] for split in source.splits}
        splits.check_disjoint({split: {r.patient for r in found} for split, found in rows.items()})
        _write_quarantine(partial / "quarantine.csv", intake.bad)
        twin = intake.twins()
        twins.write(partial / "twins.csv", twin)
        listings = {kind: directory.with_name(f"{directory.name}.{kind}.csv") for kind in ("quarantine", "twins")}
        if len(intake.bad) > options.limit * source.total:
            shutil.copyfile(partial / "quarantine.csv", listings["quarantine"])
            _check_limit(len(intake.bad), source.total, options.limit, listings["quarantine"], str(intake.bad[0]))
        if options.overlap == "stop" and (across := [t for t in twin if t.across and not t.near]):
            shutil.copyfile(partial / "twins.csv", listings["twins"])
            raise UserError(
                f"{len(across)} films are in two parts, pixel for pixel: {twins.some(across)}; all are listed in "
                f"{listings['twins']}; take them out of one part, or data.overlap='drop' leaves them out of train "
                "(and those of test out of val)"
            )
        facts = Prepared(
            directory=directory,
            columns=source.columns,
            splits=_with_aliases({split: len(found) for split, found in rows.items()}, source.aliases),
            fingerprint=_digest(
                [
                    *_storage(source, size, options),
                    source.label_version,
                    depth,
                    source.fingerprint if source.has_truth else intake.digest(),
                ]
            ),
            label_version=source.label_version,
            size=size,
            has_truth=source.has_truth,
            quarantined=len(intake.bad),
            warnings=[*source.warnings, *intake.warnings(), *twins.words(twin), *_depth_words(depth, depths)],
            has_enh=options.enh is not None,
            aliases=dict(source.aliases),
            bit_depth=depth,
        )
        prepared.save(facts, rows, partial)
        _check_order(partial, rows)
        os.replace(partial, directory)
        for listing in listings.values():
            listing.unlink(missing_ok=True)  # of an earlier try; the folder has its own now
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _depth_words(depth: int, depths: Counter[int]) -> list[str]:
    own = {bits: count for bits, count in sorted(depths.items()) if bits}
    if len(own) < 2:
        return []
    counts = ", ".join(f"{bits} bits for {count}" for bits, count in own.items())
    return [
        f"16-bit films are read as of {depth} bits, which the brightest need; by its own brightest pixel each needs: "
        f"{counts} films. If they come from several detectors, brightness tells these apart (data.bit_depth)"
    ]


def _with_aliases(counts: dict[str, int], aliases: Mapping[str, str]) -> dict[str, int]:
    every = counts | {name: counts[split] for name, split in aliases.items()}
    return {name: every[name] for name in sorted(every, key=splits.ORDER.index)} if aliases else every


def _check_limit(count: int, total: int, limit: float, listing: Path, first: str = "") -> None:
    if count > limit * total:
        raise UserError(
            f"{count} of {total} films cannot be read, more than data.quarantine_limit {limit} allows"
            + (f"; the first is {first}" if first else "")
            + f"; all are listed in {listing if listing.suffix else listing / 'quarantine.csv'}"
        )


def _write_quarantine(path: Path, bad: list[decode.CorruptFilm]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "reason"])
        writer.writerows([fault.file, fault.reason] for fault in bad)


def _check_order(partial: Path, rows: dict[str, list[Record]]) -> None:
    """The index and the records are two files: they must agree."""
    for split, found in rows.items():
        stored = builder.read(partial, split)
        for i in {0, len(found) // 2, len(found) - 1}:
            if len(stored) != len(found) or stored[i]["key"].decode() != found[i].key:
                raise RuntimeError(f"records of {split!r} were not stored in order")
