"""Films that a table lists, as a source: missing ones told, missing parts carved, in order, with a fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.labels import NORMAL, select
from cxrjax.data.sources.base import Record, Source, content, digest
from cxrjax.errors import UserError


def source(
    name: str,
    data: Any,
    listed: Sequence[Record],
    columns: tuple[str, ...],
    version: str,
    *,
    carve: Sequence[str] = ("val", "test"),
    finish: Callable[[Record], Record] = lambda record: record,
    decides: Any = (),
    classes: tuple[str, ...] = (),
    warnings: Sequence[str] = (),
    faults: Mapping[str, tuple[str, ...]] | None = None,
) -> Source:
    """A source of films that a table lists.

    Films that are not there are a fault, or, with `data.present_only`, are left out and counted.

    Args:
      name: of the source.
      data: `config.data`.
      listed: a record a film, with the part that the table gives it.
      columns: names of the labels' columns.
      version: edition of the labels.
      carve: parts that are carved from train by patient (`data.carve`) where no film is of them.
      finish: completes a record when it is to be prepared, by what only its file tells.
      decides: what else decides the records, JSON-able.
      classes: see `Source`; by default Normal, which no column need be, and the columns.
      warnings: see `Source`.
      faults: see `Source`.

    Raises:
      UserError: no film is there.
    """
    lost = [record for record in listed if not Path(record.film).is_file()]  # type: ignore[arg-type]
    if len(lost) == len(listed):
        hint = folders.like_path(Path(lost[0].film)) if lost else ""  # type: ignore[arg-type]
        raise UserError(
            f"none of the {len(listed)} films listed is there{f', as {lost[0].film}' if lost else ''}"
            f"{hint or '; paths start from data.root, or from the table where that is empty'}"
        )
    said, told = list(warnings), []
    if lost and data.get("present_only", False):
        said.append(f"{len(lost)} of the {len(listed)} films listed are not there and were left out")
    elif lost:
        told = [record.key for record in lost]
        told[0] += folders.like_path(Path(lost[0].film))  # type: ignore[arg-type]
    absent = {record.key for record in lost}
    films = _parted([record for record in listed if record.key not in absent], data, carve)
    facts = [[r.key, r.split, r.patient, r.boxes, str(r.age), r.sex, r.view, r.site] for r in films]
    stamps = folders.stamps([r.key for r in films], [Path(r.film) for r in films])  # type: ignore[arg-type]
    fingerprint = digest(
        {"labels": version, "facts": content(facts, decides, np.stack([r.labels for r in films]))}, stamps
    )
    given = [record.split for record in films]
    return Source(
        name, columns, version, fingerprint, lambda: map(finish, films), False,
        {part: given.count(part) for part in splits.ORDER if part in given}, tuple(said),
        classes=classes or tuple(dict.fromkeys((NORMAL, *columns))), faults={"missing": tuple(told), **(faults or {})},
    )  # fmt: skip


def of_one_class(source: Source, classes: tuple[str, ...]) -> Source:
    """The films of a source that have one of the classes, and one alone, and of which that is known.

    Raises:
      UserError: no classes, or no film of a part has exactly one of them.
    """
    if not classes:
        raise UserError("data.others = 'drop' asks which films have one of data.classes, which is empty; name them")
    counts, films = dict.fromkeys(source.splits, 0), []
    for record in source.records():
        label = select(np.asarray(record.labels)[None], source.columns, classes)[0]
        if np.isfinite(label).all() and label.sum() == 1:
            counts[record.split] += 1
            films.append(record)
    if empty := [part for part, count in counts.items() if not count]:
        raise UserError(f"no film of {empty[0]} has one of {', '.join(classes)} and one alone (data.others = 'drop')")
    left = f"{source.total - len(films)} of {source.total} films have not exactly one of {', '.join(classes)}"
    return source._replace(
        fingerprint=digest({"of": source.fingerprint, "classes": classes}), records=lambda: iter(films), splits=counts,
        between=None,
        warnings=(*source.warnings, *([f"{left} and were left out"] if len(films) < source.total else [])),
    )  # fmt: skip


def _parted(films: list[Record], data: Any, carve: Sequence[str]) -> list[Record]:
    """The records in the order of parts and names, with the parts that are missing."""
    given = np.array([record.split for record in films], object)
    shares = {name: float(data.carve[name]) for name in carve if name not in given}
    pool = np.flatnonzero(given == "train")
    labels = np.stack([record.labels for record in films])  # (n, k)
    given[pool] = splits.carve([films[i].patient for i in pool], labels[pool], shares, seed=int(data.seed))
    out = [record._replace(split=str(part)) for record, part in zip(films, given, strict=True)]
    return sorted(out, key=lambda record: (splits.ORDER.index(record.split), record.key))
