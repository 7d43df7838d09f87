"""What every data set offers the builder: a stream of records and a fingerprint of where they come from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxrjax.types import UserError


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
    """

    key: str
    split: str
    patient: str
    labels: np.ndarray
    film: Path | np.ndarray
    severity: float = math.nan
    twin: np.ndarray | None = None
    truth: np.ndarray | None = None


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
    """

    name: str
    columns: tuple[str, ...]
    label_version: str
    fingerprint: str
    records: Callable[[], Iterator[Record]]
    has_truth: bool
    splits: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.splits.values())


def digest(options: Mapping[str, Any], files: Sequence[tuple[str, int]] = ()) -> str:
    """Hex sha256 over JSON-able options and the sorted (name, bytes) of files."""
    text = json.dumps([dict(options), sorted(files)], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()


def existing(root: str, what: str) -> Path:
    """Returns `root` as a path that exists.

    Raises:
      UserError: `root` is empty or missing; names the nearest folder that exists and what is in it.
    """
    if not root:
        raise UserError(f"data.root is empty: give the path of {what}")
    path = Path(root).expanduser()
    if path.exists():
        return path
    parent = next(p for p in path.absolute().parents if p.exists())
    inside = sorted(p.name for p in parent.iterdir())[:8] if parent.is_dir() else []
    raise UserError(
        f"data.root {str(path)!r} does not exist (expected {what}); "
        f"the nearest folder that does is {str(parent)!r}, with {', '.join(inside) or 'nothing in it'}"
    )
