"""All films of a source on their way in: in the order in which they are written, checked by their tables, decoded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxrjax import console
from cxrjax.data import splits, stream
from cxrjax.data.intake import Options
from cxrjax.data.sources.base import Record, Source
from cxrjax.errors import UserError


class Plan(NamedTuple):
    """What is prepared, and where.

    Attributes:
      source: of the films.
      size: side of the stored films, pixels.
      options: how films are taken.
      directory: that of the finished films; its name tells source, size and all that decides the records.
    """

    source: Source
    size: int
    options: Options
    directory: Path

    @property
    def order(self) -> list[str]:
        """The parts, as they are written: of real films test first, so that of two copies train's can be left out."""
        parts = list(self.source.splits)
        return parts if self.source.has_truth else parts[::-1]


class Decoded(NamedTuple):
    """Films in the order of `Plan.order`, the depth that 16-bit ones are read as of, and how many need which."""

    items: Iterator[stream.Item]
    depth: int
    depths: Counter[int]


def records(plan: Plan, first: int = 0, last: int | None = None) -> Iterator[Record]:
    """The records from `first` up to `last`, not included, in the order of `Plan.order`.

    Raises:
      UserError: a patient in two parts, or a box that encloses nothing, among all records.
    """
    source = plan.source
    if source.has_truth:  # each is drawn when it is asked for
        return source.between(first, last) if source.between else islice(source.records(), first, last)
    every = list(source.records())  # of real films only paths yet: much is told before any is decoded
    patients: dict[str, set[str]] = defaultdict(set)
    for record in every:
        patients[record.split].add(record.patient)
    splits.check_disjoint(patients)
    check_boxes(every)
    every.sort(key=lambda record: plan.order.index(record.split))
    return iter(every[first:last])


def depths(plan: Plan, found: list[Record], bar: console.Bar) -> list[int]:
    """The depth that each film needs by itself, as `stream.own_depths`; none where the depth is given."""
    if plan.options.bit_depth or plan.source.has_truth:
        return []
    task = bar.add_task("looking for 16-bit films", total=len(found), note="")
    return list(bar.track(stream.own_depths(found), task_id=task))


def items(plan: Plan, found: Iterable[Record], depth: int) -> Iterator[stream.Item]:
    """Decodes films, and computes their phase features where these are asked for."""
    decoded = stream.decoded(found, plan.size, depth)
    return decoded if plan.options.enh is None else stream.enhanced(decoded, plan.options.enh)


def fresh(plan: Plan, bar: console.Bar) -> Decoded:
    """All films, decoded as they are asked for."""
    found: Iterable[Record] = records(plan)
    own: list[int] = []
    if not plan.source.has_truth:
        found = list(found)
        own = depths(plan, found, bar)
    depth = plan.options.bit_depth or max(own, default=0)
    return Decoded(items(plan, found, depth), depth, Counter(own))


def check_boxes(found: Iterable[Record]) -> None:
    """Raises UserError where a box has no corners or encloses nothing."""
    bad = [
        (record.key, box) for record in found for box in record.boxes
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
