"""Films on their way into the records: which are kept, which are left out, and what a reader has to know of either."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxrjax.data import decode, stream, twins
from cxrjax.data.labels import NORMAL
from cxrjax.data.sources.base import Record, Source
from cxrjax.errors import UserError


class Options(NamedTuple):
    """How films are taken: see `prepare`."""

    limit: float
    enh: Mapping[str, Any] | None = None
    overlap: str = "stop"
    blank: str = "keep"
    bit_depth: int = 0


class Intake:
    """Films on their way into the records: those that are kept, and what is to be said of the others."""

    def __init__(self, source: Source, options: Options):
        self.rows: dict[str, list[Record]] = {}
        self.bad: list[decode.CorruptFilm] = []
        self._source, self._options = source, options
        self._seen, self._twins, self._dropped = twins.Films(), list[twins.Twin](), Counter[str]()
        self._blank, self._shown = Counter[str](), Counter[str]()
        self._facts = hashlib.sha256()

    def examples(
        self, split: str, groups: Iterator[tuple[str, Iterator[stream.Item]]], advance: Callable[[], None]
    ) -> Iterator[dict[str, Any]]:
        """What is written of one split."""
        count, rows, before = self._source.splits[split], self.rows.setdefault(split, []), len(self.bad)
        found, group = next(groups, (split, iter(())))
        if found != split:
            raise ValueError(f"records come in the order of Source.splits: expected {split!r}, got {found!r}")
        given = 0
        for item in group:
            advance()
            given += 1
            record = item.record._replace(film=Path(), twin=None, truth=None)  # what is kept in memory has no pixels
            if self._keeps(record, item):
                yield _example(item, len(rows))
                rows.append(record)
        if given != count:
            raise wrong_count(split, count, str(given))
        if not rows:
            why = f"the first fault is {self.bad[before]}" if self.bad[before:] else "all are in another part too"
            raise UserError(f"no film of split {split!r} can be used; {why}")

    def _keeps(self, record: Record, item: stream.Item) -> bool:
        film = item.film
        if isinstance(film, decode.CorruptFilm):
            self.bad.append(film)
            return False
        if film.min() == film.max():  # and no twin of others like it
            if self._options.blank == "quarantine":
                self.bad.append(decode.CorruptFilm(record.key, f"blank: every pixel is {film.min()}"))
                return False
            self._blank[_classes(record, self._source.columns)] += 1
        elif twin := self._seen.add(record, film, near=not self._source.has_truth):
            self._twins.append(twin)
            if twin.across and self._options.overlap == "drop":
                self._dropped[record.split] += 1
                return False
        self._shown.update([item.shown] if item.shown else [])
        facts = [record.split, record.key, record.patient, record.severity, np.asarray(record.labels).tolist()]
        self._facts.update(json.dumps(facts).encode() + item.content)
        return True

    def twins(self) -> list[twins.Twin]:
        """All twins so far, and the near-twins."""
        return self._twins + self._seen.near_twins()

    def digest(self) -> str:
        """Of the records that were kept, without their boxes, and of the files that they were decoded from."""
        return self._facts.hexdigest()

    def warnings(self) -> list[str]:
        """What a reader of results has to know of these films."""
        out = []
        records = [record for found in self.rows.values() for record in found]
        if unknown := sum(not record.patient for record in records):
            out.append(
                f"{unknown} of {len(records)} films have no patient id and count as patients of their own: "
                "that no patient is in two splits cannot be checked for them, and intervals may be too narrow"
            )
        known = np.any([np.isfinite(np.asarray(record.labels)) for record in records], axis=0)  # (k,)
        if lost := [name for name, ok in zip(self._source.columns, known, strict=True) if not ok]:
            out.append(f"no film has a known label for {', '.join(lost)}")
        if self.bad:
            why = "could not be read" + " or are blank" * (self._options.blank == "quarantine")
            out.append(f"{len(self.bad)} films {why} and were left out (quarantine.csv)")
        if self._blank:
            by_class = ", ".join(f"{count} of {name}" for name, count in sorted(self._blank.items()))
            out.append(
                f"{self._blank.total()} films are blank, one gray throughout: {by_class}; "
                "data.blank='quarantine' leaves them out"
            )
        if self._shown:
            by = ", ".join(f"{count} by {name}" for name, count in sorted(self._shown.items()))
            out.append(f"stored values of DICOM films became gray: {by}")
        if self._dropped:
            counts = ", ".join(f"{count} of {split}" for split, count in self._dropped.items())
            out.append(f"films that another part has too were left out (data.overlap): {counts} (twins.csv)")
        return out


def _example(item: stream.Item, position: int) -> dict[str, Any]:
    record = item.record
    example: dict[str, Any] = {
        "image": item.film,
        "labels": np.asarray(record.labels, np.float32),
        "key": record.key,
        "patient": record.patient,
        "severity": np.float32(record.severity),
        "position": position,
    }
    if record.truth is not None:
        example |= {"twin": record.twin, "truth": record.truth}
    if item.enh is not None:
        example["enh"] = item.enh
    return example


def _classes(record: Record, columns: tuple[str, ...]) -> str:
    present = [name for name, value in zip(columns, record.labels, strict=True) if value == 1]
    return " and ".join(present) or (NORMAL if (np.asarray(record.labels) == 0).all() else "an unknown class")


def wrong_count(split: str, promised: int, given: str) -> UserError:
    return UserError(
        f"the source announced {promised} films of split {split!r} and gave {given}; "
        "if its files changed while they were read, run again"
    )
