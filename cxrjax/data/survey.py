"""Films looked at before anything is made of them: what there is, what would stop a run, and what deserves a look."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.console import Console

from cxrjax import console
from cxrjax.data import decode, phantom, reading, splits, stream, twins
from cxrjax.data.labels import select
from cxrjax.data.sources import SOURCES
from cxrjax.data.sources.base import Record, Source
from cxrjax.errors import UserError, lookup

SHOWN = 24  # films of a class on its contact sheet
THUMBNAIL = 96  # their side
UNKNOWN, NONE, SEVERAL = "of unknown class", "of none of the classes", "of several of them"
# Correlation with the mean of some phantoms, at 32 x 32, below which a film is taken for a negative. Of 600 films of
# four public sets none is below, and the negatives of nine in ten are.
_INVERTED = -0.2
_SIDE = 32


class Sheet(NamedTuple):
    """Some films of a class: their names, and (n, s, s) uint8."""

    keys: tuple[str, ...]
    films: np.ndarray


class Survey(NamedTuple):
    """What was seen.

    Attributes:
      name: of the source.
      label_version: edition of its labels.
      classes: those that films are counted by.
      films: by part.
      counts: films by part and class, one of several in each; those of none, several or an unknown class beside.
      patients: known ones by part.
      nameless: films whose patient is unknown.
      faults: what would stop a run, by kind: film names or sentences.
      notes: what deserves a look, by kind.
      sizes: films by height and width of the file, the commonest first.
      bits: films by depth.
      shown: DICOM films by how they are shown.
      who: films by sex, view and site, and the quartiles of age.
      warnings: of the source.
      sheets: a contact sheet a class.
    """

    name: str
    label_version: str
    classes: tuple[str, ...]
    films: dict[str, int]
    counts: dict[str, dict[str, int]]
    patients: dict[str, int]
    nameless: int
    faults: dict[str, tuple[str, ...]]
    notes: dict[str, tuple[str, ...]]
    sizes: dict[str, int]
    bits: dict[str, int]
    shown: dict[str, int]
    who: dict[str, str]
    warnings: tuple[str, ...]
    sheets: dict[str, Sheet]

    @property
    def total(self) -> int:
        return sum(self.films.values())


def survey(data: Any) -> Survey:
    """Reads every film of a data set as `prepare` would, and writes nothing.

    Args:
      data: `config.data`; where `classes` is empty, they are the source's.

    Raises:
      UserError: the source cannot be read at all.
    """
    source = lookup(SOURCES, data.name, "data.name")(data)
    classes = tuple(data.classes) or source.classes or source.columns
    records = list(source.records())
    kinds = _kinds(records, source, classes)
    counts = {part: Counter[str]() for part in source.splits}
    for record, found in zip(records, kinds, strict=True):
        counts[record.split].update(found)
    order = (*classes, NONE, SEVERAL, UNKNOWN)
    seen = _Seen(int(data.get("bit_depth", 0)))
    with console.progress(Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading films", total=len(records), note="")
        items = bar.track(stream.decoded(records, int(data.size), seen.depth), task_id=task)
        for item, found in zip(items, kinds, strict=True):
            seen.take(item, found, near=not source.has_truth)
    same, near = seen.twins()
    across = [twin for twin in same if twin.across]
    faults = {kind: tuple(found) for kind, found in source.faults.items() if found}
    faults |= {f"{kind}": (words,) for kind, words in _told(records)}
    if len(seen.bad) > float(data.get("quarantine_limit", 0.01)) * len(records):
        faults["unreadable, more than data.quarantine_limit allows"] = tuple(map(str, seen.bad))
    if across and data.get("overlap", "stop") == "stop":
        faults["in two parts, pixel for pixel (data.overlap)"] = tuple(map(str, across))
    known = [record for record in records if record.patient]
    notes = {
        "unreadable": tuple(map(str, seen.bad)),
        "blank, one gray throughout": tuple(seen.blank),
        "the same as another, pixel for pixel": tuple(map(str, same)),
        "like another of another patient, by a perceptual hash": tuple(map(str, near)),
        "labeled otherwise than a film that looks the same": tuple(map(str, filter(_conflict, [*same, *near]))),
        "inverted, by guess": tuple(seen.inverted),
    }
    table = {
        part: {kind: count[kind] for kind in order if count[kind] or kind in classes} for part, count in counts.items()
    }
    return Survey(
        source.name, source.label_version, classes, source.splits, table,
        {part: len({record.patient for record in known if record.split == part}) for part in source.splits},
        len(records) - len(known), faults, {kind: found for kind, found in notes.items() if found},
        dict(seen.sizes.most_common()), dict(seen.bits.most_common()), dict(seen.shown), _who(records), source.warnings,
        {kind: seen.sheet(kind) for kind in order if seen.chosen[kind]},
    )  # fmt: skip


def looks_inverted(film: np.ndarray) -> bool:
    """Whether a film (h, w) uint8 is brighter where chest films are darker: a guess, by a mean of phantoms."""
    small = cv2.resize(film, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    small -= small.mean()
    return bool((small * _mean()).sum() < _INVERTED * float(np.linalg.norm(small)))


class _Seen:
    """What a pass over the films finds."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.bad: list[decode.CorruptFilm] = []
        self.blank: list[str] = []
        self.inverted: list[str] = []
        self.sizes, self.bits, self.shown = Counter[str](), Counter[str](), Counter[str]()
        self.chosen: dict[str, list[tuple[bytes, str, np.ndarray]]] = defaultdict(list)
        self._films, self._same = twins.Films(), list[twins.Twin]()

    def take(self, item: stream.Item, kinds: Sequence[str], near: bool) -> None:
        record, film = item.record._replace(film=Path(), twin=None, truth=None), item.film
        if isinstance(film, decode.CorruptFilm):
            self.bad.append(film)
            return
        if item.bits:
            height, width = item.shape
            self.sizes[f"{height} x {width}"] += 1
            self.bits[f"{item.bits} bits"] += 1
        self.shown.update([item.shown] if item.shown else [])
        if film.min() == film.max():
            self.blank.append(record.key)
        elif twin := self._films.add(record, film, near):
            self._same.append(twin)
        elif looks_inverted(film):
            self.inverted.append(record.key)
        # The films whose names' hashes are lowest: a choice that another order or more films hardly change.
        lot = hashlib.sha256(record.key.encode()).digest()
        for chosen in (self.chosen[kind] for kind in kinds if kind != SEVERAL):
            if len(chosen) < SHOWN or lot < chosen[-1][0]:
                chosen.append((lot, record.key, cv2.resize(film, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)))
                chosen.sort(key=lambda one: one[0])
                del chosen[SHOWN:]

    def twins(self) -> tuple[list[twins.Twin], list[twins.Twin]]:
        return self._same, self._films.near_twins()

    def sheet(self, kind: str) -> Sheet:
        return Sheet(tuple(one[1] for one in self.chosen[kind]), np.stack([one[2] for one in self.chosen[kind]]))


@cache
def _mean() -> np.ndarray:
    """(32, 32) the mean of some phantoms, of mean 0 and length 1."""
    films = [phantom.render(seed, 64, {}).image for seed in range(8)]
    mean = cv2.resize(np.mean(films, axis=0), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return (mean - mean.mean()) / np.linalg.norm(mean - mean.mean())


def _kinds(records: list[Record], source: Source, classes: tuple[str, ...]) -> list[list[str]]:
    """The classes of each film, and whether they are several; or that it has none, or an unknown one."""
    labels = select(np.array([record.labels for record in records], np.float32), source.columns, classes)
    out = []
    for row in labels:
        present = [name for name, value in zip(classes, row, strict=True) if value == 1]
        out.append([*present, *([SEVERAL] if present[1:] else [])] or [UNKNOWN if np.isnan(row).any() else NONE])
    return out


def _told(records: list[Record]) -> Iterator[tuple[str, str]]:
    """What the checks of `prepare` say of patients and boxes."""
    parts: dict[str, set[str]] = defaultdict(set)
    for record in records:
        parts[record.split].add(record.patient)
    for kind, check in (
        ("patients in two parts", lambda: splits.check_disjoint(parts)),
        ("boxes that enclose nothing", lambda: reading.check_boxes(records)),
    ):
        try:
            check()
        except UserError as error:
            yield kind, str(error)


def _conflict(twin: twins.Twin) -> bool:
    return not np.array_equal(twin.film.labels, twin.first.labels, equal_nan=True)


def _who(records: Iterable[Record]) -> dict[str, str]:
    """Films by sex, view and site, and ages, in words; nothing of what is not known of any."""
    records, out = list(records), {}
    ages = [record.age for record in records if np.isfinite(record.age)]
    if ages:
        low, middle, high = np.percentile(ages, (25, 50, 75))
        out["age"] = f"median {middle:g}, quartiles {low:g} and {high:g}, of {len(ages)} films"
    for name in ("sex", "view", "site"):
        count = Counter(getattr(record, name) for record in records)
        if set(count) != {""}:
            out[name] = ", ".join(f"{n} {value or 'unknown'}" for value, n in count.most_common(8))
    return out
