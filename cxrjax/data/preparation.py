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
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from rich.console import Console

from cxrjax import console
from cxrjax.data import builder, decode, splits
from cxrjax.data.source import Record, Source
from cxrjax.data.sources import SOURCES
from cxrjax.types import UserError

log = logging.getLogger(__name__)

# Raise it when the same source would give other records, so that old folders are not taken for new ones.
FORMAT = 1
DECODERS = 4


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set on disk, ready to be read.

    Attributes:
      directory: the folder.
      columns: names of the labels' columns.
      splits: number of films by split.
      fingerprint: hex sha256 of the source, its options, the size and the format.
      label_version: which edition of the labels this is.
      size: side of the films in pixels.
      has_truth: whether the films carry a healthy twin and masks.
      quarantined: films that could not be read; `quarantine.csv` in `directory` lists them.
      warnings: what a reader of results has to know.
    """

    directory: Path
    columns: tuple[str, ...]
    splits: dict[str, int]
    fingerprint: str
    label_version: str
    size: int
    has_truth: bool
    quarantined: int
    warnings: list[str]

    def table(self, split: str) -> dict[str, np.ndarray]:
        """Everything about a split but the images.

        Returns:
          `key` (n,) str, `patient` (n,) str (a film of unknown patient has a name of its own), `labels` (n, k) float32
          with 1 present, 0 absent, NaN unknown, and `severity` (n,) float32, NaN where unknown.

        Raises:
          UserError: no such split.
        """
        self.check_split(split)
        with np.load(self.directory / "index.npz") as index:
            return {name: index[f"{split}.{name}"] for name in ("key", "patient", "labels", "severity")}

    def check_split(self, split: str) -> None:
        """Raises UserError if there is no split of this name."""
        if split not in self.splits:
            raise UserError(f"{self.directory.name} has no split {split!r}; it has {', '.join(self.splits)}")


def prepare(data: Any) -> Prepared:
    """Prepares a data set, or opens it if that is done.

    The films are decoded, checked, resized and written to `data.cache/name-size-fingerprint`. The folder is built under
    another name and moved in one step, so at any time it is whole or absent; a lock keeps two builders apart.

    Args:
      data: `config.data`: `name`, `cache`, `size`, `quarantine_limit` (0.01) and what the source reads.

    Raises:
      UserError: unknown name, bad source, more corrupt films than the limit, a patient in two splits, no space.
    """
    if data.name not in SOURCES:
        raise UserError(f"data.name is {data.name!r}: expected one of {', '.join(SOURCES)}")
    if not 16 <= int(data.size) <= 4096:
        raise UserError(f"data.size is {data.size}: expected 16 to 4096 pixels")
    source = SOURCES[data.name](data)
    return materialize(source, data.cache, size=int(data.size), limit=float(data.get("quarantine_limit", 0.01)))


def materialize(source: Source, cache: str | Path, *, size: int, limit: float) -> Prepared:
    """`prepare` for a source in hand; `limit` is the share of films that may be corrupt."""
    identity = json.dumps([FORMAT, source.name, size, source.columns, source.fingerprint])
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
                    _build(source, directory, fingerprint, size, limit)
        except OSError as error:
            raise UserError(
                f"cannot prepare films under data.cache {str(cache)!r}: {error}; they need about "
                f"{_bytes(source, size) / 1e6:,.0f} MB there (nothing was left behind)"
            ) from error
    prepared = _open(directory)
    _check_limit(prepared.quarantined, prepared.quarantined + sum(prepared.splits.values()), limit, directory)
    for warning in prepared.warnings:
        log.warning("%s: %s", directory.name, warning)
    return prepared


def _bytes(source: Source, size: int) -> int:
    return source.total * size * size * (5 if source.has_truth else 1)  # film, twin and three bytes of truth


def _open(directory: Path) -> Prepared:
    try:
        facts = json.loads((directory / "prepared.json").read_text())
        return Prepared(**{**facts, "directory": directory, "columns": tuple(facts["columns"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{directory} is damaged ({error}); delete it and it is prepared again") from error


def _build(source: Source, directory: Path, fingerprint: str, size: int, limit: float) -> None:
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
            groups = itertools.groupby(_decoded(records, size), key=lambda item: item[0].split)
            examples = {split: _examples(split, groups, rows, bad, advance) for split in source.splits}
            builder.write(
                partial, size=size, columns=len(source.columns), has_truth=source.has_truth, examples=examples
            )
        splits.check_disjoint({split: {r.patient for r in found} for split, found in rows.items()})
        _write_quarantine(partial / "quarantine.csv", bad)
        listing = directory.with_name(f"{directory.name}.quarantine.csv")
        if len(bad) > limit * source.total:
            shutil.copyfile(partial / "quarantine.csv", listing)
            _check_limit(len(bad), source.total, limit, listing, str(bad[0]))
        _write_index(partial / "index.npz", rows)
        facts = Prepared(
            directory=directory,
            columns=source.columns,
            splits={split: len(found) for split, found in rows.items()},
            fingerprint=fingerprint,
            label_version=source.label_version,
            size=size,
            has_truth=source.has_truth,
            quarantined=len(bad),
            warnings=_warnings(rows, bad),
        )
        (partial / "prepared.json").write_text(json.dumps({**dataclasses.asdict(facts), "directory": ""}, indent=2))
        _check_order(partial, rows)
        os.replace(partial, directory)
        listing.unlink(missing_ok=True)  # of an earlier try; the folder has its own now
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _decoded(records: Iterable[Record], size: int) -> Iterator[tuple[Record, np.ndarray | decode.CorruptFilm]]:
    """Decodes in a few threads (Pillow releases the lock), in order, with a bounded number in flight."""

    def one(record: Record) -> np.ndarray | decode.CorruptFilm:
        try:
            if isinstance(record.film, np.ndarray):
                return decode.from_array(record.key, record.film, size)
            return decode.decode(record.film, size)
        except decode.CorruptFilm as fault:
            return fault

    waiting: deque[tuple[Record, Future]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for record in records:
            waiting.append((record, pool.submit(one, record)))
            if len(waiting) > 4 * DECODERS:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


def _examples(
    split: str, groups: Iterator[tuple[str, Iterator]], rows: dict[str, list], bad: list, advance: Any
) -> Iterator[dict[str, Any]]:
    found, group = next(groups, ("nothing", iter(())))
    if found != split:
        raise ValueError(f"records come in the order of Source.splits: expected {split!r}, got {found!r}")
    for record, film in group:
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
            "position": len(rows[split]),
        }
        if record.truth is not None:
            example |= {"twin": record.twin, "truth": record.truth}
        rows[split].append(record._replace(film=None, twin=None, truth=None))  # the index needs no pixels
        yield example
    if not rows[split]:
        raise UserError(f"no film of split {split!r} can be read; the first fault is {bad[0]}")


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


def _check_order(partial: Path, rows: dict[str, list[Record]]) -> None:
    """The index and the records are two files: they must agree."""
    for split, found in rows.items():
        stored = builder.read(partial, split)
        for i in {0, len(found) // 2, len(found) - 1}:
            if len(stored) != len(found) or stored[i]["key"].decode() != found[i].key:
                raise RuntimeError(f"records of {split!r} were not stored in order")


def _warnings(rows: dict[str, list[Record]], bad: list) -> list[str]:
    out = []
    total = sum(len(found) for found in rows.values())
    unknown = sum(not r.patient for found in rows.values() for r in found)
    if unknown:
        out.append(
            f"{unknown} of {total} films have no patient id and count as patients of their own: "
            "that no patient is in two splits cannot be checked for them, and intervals may be too narrow"
        )
    if bad:
        out.append(f"{len(bad)} films could not be read and were left out (quarantine.csv)")
    return out
