"""From a source to a folder of records: once, checked, and all or nothing."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from rich.console import Console

from cxrjax import console
from cxrjax.data import builder, decode, splits, stream
from cxrjax.data.prepared import Prepared
from cxrjax.data.sources import SOURCES
from cxrjax.data.sources.base import Record, Source
from cxrjax.types import UserError

log = logging.getLogger(__name__)

# Raise it when the same source would give other records, so that old folders are not taken for new ones.
FORMAT = 1
# Likewise for the constants of the phase features; `data.enh_options` enter by themselves.
ENH_FORMAT = "enh-v1"


def prepare(data: Any) -> Prepared:
    """Prepares a data set, or opens it if that is done.

    The films are decoded, checked, resized and written to `data.cache/name-size-fingerprint`. The folder is built under
    another name and moved in one step, so at any time it is whole or absent; a lock keeps two builders apart.

    Args:
      data: `config.data`: `name`, `cache`, `size`, `quarantine_limit` (0.01), `enh` (False; with it the films' phase
        features are stored too, computed with `enh_options`), and what the source reads.

    Raises:
      UserError: unknown name, bad source, more corrupt films than the limit, a patient in two splits, no space.
    """
    if data.name not in SOURCES:
        raise UserError(f"data.name is {data.name!r}: expected one of {', '.join(SOURCES)}")
    if not 16 <= int(data.size) <= 4096:
        raise UserError(f"data.size is {data.size}: expected 16 to 4096 pixels")
    source = SOURCES[data.name](data)
    if data.get("enh_options", None) and not data.get("enh", False):
        raise UserError("data.enh_options are read where data.enh is True: set it, or leave the options out")
    limit = float(data.get("quarantine_limit", 0.01))
    enh = dict(data.get("enh_options", None) or {}) if data.get("enh", False) else None
    return materialize(source, data.cache, size=int(data.size), limit=limit, enh=enh)


def materialize(
    source: Source, cache: str | Path, *, size: int, limit: float, enh: Mapping[str, Any] | None = None
) -> Prepared:
    """`prepare` for a source in hand; `limit` is the share of films that may be corrupt.

    The phase features are stored where `enh` is not None; it holds the options of `ops.enhance.enhance`.
    """
    parts = [FORMAT, source.name, size, source.columns, source.fingerprint]
    identity = json.dumps(parts if enh is None else [*parts, ENH_FORMAT, dict(enh)], sort_keys=True, default=list)
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    cache = Path(cache).expanduser()
    directory = cache / f"{source.name}-{size}-{fingerprint[:12]}"
    if not directory.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(cache / f".{directory.name}.lock"):
                # Under the lock nobody else builds this folder, so what lies around was left by a killed process.
                for stale in cache.glob(f".partial-{directory.name}-*"):
                    shutil.rmtree(stale)
                if not directory.is_dir():
                    _build(source, directory, fingerprint, size, limit, enh)
        except OSError as error:
            raise UserError(
                f"cannot prepare films under data.cache {str(cache)!r}: {error}; they need about "
                f"{_bytes(source, size, enh is not None) / 1e6:,.0f} MB there (nothing was left behind)"
            ) from error
    prepared = _open(directory)
    films = sum(count for split, count in prepared.splits.items() if split not in prepared.aliases)
    _check_limit(prepared.quarantined, prepared.quarantined + films, limit, directory)
    for warning in prepared.warnings:
        log.warning("%s: %s", directory.name, warning)
    return prepared


def _bytes(source: Source, size: int, has_enh: bool) -> int:
    planes = (5 if source.has_truth else 1) + 3 * has_enh  # film, twin and three bytes of truth; three features
    return source.total * size * size * planes


def _open(directory: Path) -> Prepared:
    try:
        facts = json.loads((directory / "prepared.json").read_text())
        return Prepared(**{**facts, "directory": directory, "columns": tuple(facts["columns"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{directory} is damaged ({error}); delete it and it is prepared again") from error


def _build(
    source: Source, directory: Path, fingerprint: str, size: int, limit: float, enh: Mapping[str, Any] | None
) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".partial-{directory.name}-", dir=directory.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        records: Iterable[Record] = source.records()
        if not source.has_truth:  # records of real films are only paths yet: a bad split is told before any is decoded
            records = list(records)
            splits.check_disjoint(_patients((r.split, r.patient) for r in records))
        rows: dict[str, list[Record]] = {split: [] for split in source.splits}
        bad: list[decode.CorruptFilm] = []
        with console.progress(Console(stderr=True), transient=True) as bar:
            task_id = bar.add_task("preparing films", total=source.total, note="")
            advance = functools.partial(bar.advance, task_id)
            items = stream.decoded(records, size)
            groups = itertools.groupby(
                items if enh is None else stream.enhanced(items, enh), key=lambda item: item.record.split
            )
            examples = {s: _examples(s, count, groups, rows[s], bad, advance) for s, count in source.splits.items()}
            builder.write(
                partial,
                size=size,
                columns=len(source.columns),
                has_truth=source.has_truth,
                has_enh=enh is not None,
                examples=examples,
            )
            if left := next(groups, None):
                raise _wrong_count(left[0], 0, "more")
        splits.check_disjoint({split: {r.patient for r in found} for split, found in rows.items()})
        _write_quarantine(partial / "quarantine.csv", bad)
        listing = directory.with_name(f"{directory.name}.quarantine.csv")
        if len(bad) > limit * source.total:
            shutil.copyfile(partial / "quarantine.csv", listing)
            _check_limit(len(bad), source.total, limit, listing, str(bad[0]))
        _write_index(partial / "index.npz", rows)
        _write_boxes(partial / "boxes.json", rows)
        facts = Prepared(
            directory=directory,
            columns=source.columns,
            splits=_with_aliases({split: len(found) for split, found in rows.items()}, source.aliases),
            fingerprint=fingerprint,
            label_version=source.label_version,
            size=size,
            has_truth=source.has_truth,
            quarantined=len(bad),
            warnings=[*source.warnings, *_warnings(source.columns, rows, bad)],
            has_enh=enh is not None,
            aliases=dict(source.aliases),
        )
        (partial / "prepared.json").write_text(json.dumps({**dataclasses.asdict(facts), "directory": ""}, indent=2))
        _check_order(partial, rows)
        os.replace(partial, directory)
        listing.unlink(missing_ok=True)  # of an earlier try; the folder has its own now
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _examples(
    split: str, count: int, groups: Iterator[tuple[str, Iterator[stream.Item]]], rows: list, bad: list,
    advance: Callable[[], None],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    found, group = next(groups, (split, iter(())))
    if found != split:
        raise ValueError(f"records come in the order of Source.splits: expected {split!r}, got {found!r}")
    before = len(bad)
    for record, film, enh in group:
        advance()
        if isinstance(film, decode.CorruptFilm):
            bad.append(film)
            continue
        example = {
            "image": film,
            "labels": np.asarray(record.labels, np.float32),
            "key": record.key,
            "patient": record.patient,
            "severity": np.float32(record.severity),
            "position": len(rows),
        }
        if record.truth is not None:
            example |= {"twin": record.twin, "truth": record.truth}
        if enh is not None:
            example["enh"] = enh
        rows.append(record._replace(film=Path(), twin=None, truth=None))  # the index needs no pixels
        yield example
    given = len(rows) + len(bad) - before
    if given != count:
        raise _wrong_count(split, count, str(given))
    if not rows:
        raise UserError(f"no film of split {split!r} can be read; the first fault is {bad[before]}")


def _wrong_count(split: str, promised: int, given: str) -> UserError:
    return UserError(
        f"the source announced {promised} films of split {split!r} and gave {given}; "
        "if its files changed while they were read, run again"
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


def _write_index(path: Path, rows: dict[str, list[Record]]) -> None:
    arrays = {}
    for split, found in rows.items():
        arrays[f"{split}.key"] = np.array([r.key for r in found])
        arrays[f"{split}.patient"] = np.array([r.patient or f"film:{r.key}" for r in found])
        arrays[f"{split}.labels"] = np.stack([np.asarray(r.labels, np.float32) for r in found])
        arrays[f"{split}.severity"] = np.array([r.severity for r in found], np.float32)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _write_boxes(path: Path, rows: dict[str, list[Record]]) -> None:
    found = {split: {i: r.boxes for i, r in enumerate(records) if r.boxes} for split, records in rows.items()}
    if any(found.values()):
        path.write_text(json.dumps(found))


def _check_order(partial: Path, rows: dict[str, list[Record]]) -> None:
    """The index and the records are two files: they must agree."""
    for split, found in rows.items():
        stored = builder.read(partial, split)
        for i in {0, len(found) // 2, len(found) - 1}:
            if len(stored) != len(found) or stored[i]["key"].decode() != found[i].key:
                raise RuntimeError(f"records of {split!r} were not stored in order")


def _warnings(columns: Sequence[str], rows: dict[str, list[Record]], bad: list) -> list[str]:
    out = []
    total = sum(len(found) for found in rows.values())
    unknown = sum(not r.patient for found in rows.values() for r in found)
    if unknown:
        out.append(
            f"{unknown} of {total} films have no patient id and count as patients of their own: "
            "that no patient is in two splits cannot be checked for them, and intervals may be too narrow"
        )
    known = np.any([np.isfinite(np.asarray(r.labels)) for found in rows.values() for r in found], axis=0)  # (k,)
    if lost := [name for name, ok in zip(columns, known, strict=True) if not ok]:
        out.append(f"no film has a known label for {', '.join(lost)}")
    if bad:
        out.append(f"{len(bad)} films could not be read and were left out (quarantine.csv)")
    return out
