"""What every data set offers the builder: a stream of records and a fingerprint of where they come from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from cxrjax.errors import UserError, did_you_mean

Box = tuple[str, float, float, float, float]


class Record(NamedTuple):
    """One film.

    Attributes:
      key: a name unique in the data set.
      split: "train", "val" or "test".
      patient: "" where unknown.
      labels: (k,) float32; 1 present, 0 absent, NaN unknown.
      film: a file, or an (h, w) uint8 array.
      severity: how marked the findings are, in (0, 1]; NaN where there are none or it is unknown.
      twin: (s, s) uint8, the same chest without findings, or None.
      truth: (s, s, 3) uint8 as `truth.pack` makes it, or None.
      boxes: (finding, x0, y0, x1, y1) of each box a radiologist drew, in fractions of the side.
      age: of the patient in years; NaN where unknown.
      sex: "M", "F" or as the set has it; "" where unknown.
      view: "PA", "AP", ...; "" where unknown.
      site: the hospital or the collection that it comes from; "" where unknown.
    """

    key: str
    split: str
    patient: str
    labels: np.ndarray
    film: Path | np.ndarray
    severity: float = math.nan
    twin: np.ndarray | None = None
    truth: np.ndarray | None = None
    boxes: tuple[Box, ...] = ()
    age: float = math.nan
    sex: str = ""
    view: str = ""
    site: str = ""


class Source(NamedTuple):
    """A data set before it is prepared.

    Attributes:
      name: its name in `SOURCES`.
      columns: names of the labels' columns.
      label_version: which edition of the labels this is.
      fingerprint: hex sha256 of all that decides the records.
      records: gives all records, split by split in the order of `splits`.
      has_truth: whether records carry `twin` and `truth`.
      splits: number of records by split.
      warnings: what a reader of results has to know about this source.
      aliases: splits that are the films of another one under a second name, e.g. {"val": "test"}.
      classes: what is learned where `data.classes` is empty; () where that has to be said.
      faults: what stops `prepare`, by kind: all of it, where a source does not stop at the first.
      between: gives the records from one position up to another, where `records` would have to draw those before.
    """

    name: str
    columns: tuple[str, ...]
    label_version: str
    fingerprint: str
    records: Callable[[], Iterator[Record]]
    has_truth: bool
    splits: dict[str, int]
    warnings: tuple[str, ...] = ()
    aliases: Mapping[str, str] = MappingProxyType({})
    classes: tuple[str, ...] = ()
    faults: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    between: Callable[[int, int | None], Iterator[Record]] | None = None

    @property
    def total(self) -> int:
        return sum(self.splits.values())


def digest(options: Mapping[str, Any], files: Sequence[tuple[str, tuple[int, int]]] = ()) -> str:
    """Hex sha256 over JSON-able options and the sorted (name, (bytes, time of change)) of files."""
    text = json.dumps([dict(options), sorted(files)], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()


def choice(data: Any, name: str, options: Sequence[str]) -> str:
    """`data.NAME`, which must be one of `options`; the first of them where it is empty or missing.

    Raises:
      UserError: another value.
    """
    value = str(data.get(name, "") or options[0])
    if value not in options:
        raise UserError(f"data.{name} is {value!r}: expected one of {', '.join(options)}{did_you_mean(value, options)}")
    return value


def content(*parts: Any) -> str:
    """Hex sha256 over arrays and JSON-able values, for what decides the records and is no file of its own."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part, sort_keys=True).encode())
        total.update(b"\0")
    return total.hexdigest()


def existing(root: str, what: str, key: str = "data.root") -> Path:
    """Returns `root`, the value of the config's `key`, as a path that exists.

    Raises:
      UserError: `root` is empty or missing; names the nearest folder that exists and what is in it.
    """
    if not root:
        raise UserError(f"{key} is empty: give the path of {what}")
    # os.path's own: for `~nobody`, and for a folder that may not be looked into, pathlib's raise.
    path = Path(os.path.expanduser(root))
    if os.path.exists(path):
        return path
    parent = next(p for p in path.absolute().parents if os.path.exists(p))
    try:
        inside = sorted(os.listdir(parent))[:8]
    except OSError:
        inside = []
    raise UserError(
        f"{key} {str(path)!r} does not exist (expected {what}); "
        f"the nearest folder that does is {str(parent)!r}, with {', '.join(inside) or 'nothing in it'}"
    )
