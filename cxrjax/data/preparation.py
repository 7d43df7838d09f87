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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from rich.console import Console

from cxrjax import console
from cxrjax.data import builder, decode, prepared, splits, stream, twins
from cxrjax.data.intake import Intake, Options, wrong_count
from cxrjax.data.prepared import Prepared
from cxrjax.data.sources import SOURCES, listed
from cxrjax.data.sources.base import Record, Source, choice
from cxrjax.errors import UserError, lookup

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
    source = read(data)
    if choice(data, "others", OTHERS) == "drop":
        source = listed.of_one_class(source, tuple(data.classes))
    return materialize(change(source), data.cache, size=int(data.size), **options._asdict())


def materialize(source: Source, cache: str | Path, *, size: int, **given: Any) -> Prepared:
    """`prepare` for a source in hand; `given` are `Options`, of which `limit` is the share that may be corrupt."""
    check_faults(source)
    options = Options(**given)
    choices = options._asdict() | {"limit": None, "enh": None}  # the one changes no film, the other is in `_storage`
    identity = _digest([*_storage(source, size, options), source.fingerprint, choices])
    cache = Path(os.path.expanduser(cache))
    directory = cache / f"{source.name}-{size}-{identity[:12]}"
    if not directory.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(cache / f".{directory.name}.lock"):
                # Under the lock nobody else builds this folder, so what lies around was left by a killed process.
                for stale in cache.glob(f".partial-{directory.name}-*"):
                    shutil.rmtree(stale)
                if not directory.is_dir():
                    _build(source, directory, size, options)
        except OSError as error:
            raise UserError(
                f"cannot prepare films under data.cache {str(cache)!r}: {error}; they need about "
                f"{_bytes(source, size, options.enh is not None) / 1e6:,.0f} MB there (nothing was left behind)"
            ) from error
    found = prepared.load(directory)
    films = sum(count for split, count in found.splits.items() if split not in found.aliases)
    _check_limit(found.quarantined, found.quarantined + films, options.limit, directory)
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


def _build(source: Source, directory: Path, size: int, options: Options) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".partial-{directory.name}-", dir=directory.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        records: Iterable[Record] = source.records()
        order = list(source.splits)
        depth, depths = options.bit_depth, Counter[int]()
        with console.progress(Console(stderr=True), transient=True) as bar:
            if not source.has_truth:  # records of real films are only paths yet: much is told before any is decoded
                records = list(records)
                splits.check_disjoint(_patients((r.split, r.patient) for r in records))
                order.reverse()  # test first, so that it is the copy in train that can be left out
                records.sort(key=lambda record: order.index(record.split))
                check_boxes(records)
                if not depth:
                    task_id = bar.add_task("looking for 16-bit films", total=source.total, note="")
                    depths.update(bar.track(stream.own_depths(records), task_id=task_id))
                    depth = max(depths, default=0)
            intake = Intake(source, options)
            task_id = bar.add_task("preparing films", total=source.total, note="")
            items = stream.decoded(records, size, depth)
            groups = itertools.groupby(
                items if options.enh is None else stream.enhanced(items, options.enh),
                key=lambda item: item.record.split,
            )
            advance = functools.partial(bar.advance, task_id)
            builder.write(
                partial,
                size=size,
                columns=len(source.columns),
                has_truth=source.has_truth,
                has_enh=options.enh is not None,
                examples={split: intake.examples(split, groups, advance) for split in order},
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


def check_boxes(records: Iterable[Record]) -> None:
    bad = [
        (record.key, box) for record in records for box in record.boxes
        if not (np.isfinite(box[1:]).all() and box[1] < box[3] and box[2] < box[4])
    ]  # fmt: skip
    if bad:
        key, (finding, *corners) = bad[0]
        where = ", ".join(f"{value:g}" for value in corners)
        others = f" ({len(bad) - 1} more, of {', '.join(key for key, _ in bad[1:6])})" if bad[1:] else ""
        raise UserError(
            f"{key}: the box of {finding} has the corners {where} in fractions of the side, which enclose nothing or "
            f"are no numbers{others}; mend these lines in the table of boxes, or take them out"
        )


def _with_aliases(counts: dict[str, int], aliases: Mapping[str, str]) -> dict[str, int]:
    every = counts | {name: counts[split] for name, split in aliases.items()}
    return {name: every[name] for name in sorted(every, key=splits.ORDER.index)} if aliases else every


def _patients(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    out: dict[str, set[str]] = defaultdict(set)
    for split, patient in pairs:
        out[split].add(patient)
    return out


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
