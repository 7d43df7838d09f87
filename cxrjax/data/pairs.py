"""Pairs of films of one patient: an endless stream to train on, and every patient's once to evaluate.

Of real films, patients who have several; each phantom has a second film that is drawn for it, see `redrawn`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cxrjax.data import builder
from cxrjax.data.labels import FINDINGS
from cxrjax.data.prepared import Prepared
from cxrjax.data.redrawn import redrawn
from cxrjax.errors import UserError
from cxrjax.types import Batch


class Several(NamedTuple):
    """Patients with several films.

    Attributes:
      film: `number of a film -> (s, s) uint8`.
      groups: of each patient the numbers of the films, two or more.
      fingerprint: of where they come from.
    """

    film: Callable[[int], np.ndarray]
    groups: tuple[np.ndarray, ...]
    fingerprint: str

    def pair(self, group: int, first: int = 0, second: int = 1) -> np.ndarray:
        """Two films of a patient as channels, (s, s, 2) uint8."""
        one, other = (self.film(int(self.groups[group][i])) for i in (first, second))
        return np.stack([one, other], axis=-1)


def of(prepared: Prepared, split: str) -> Several:
    """The patients of a part who have several films; of phantoms all, each with one film drawn for it."""
    table = prepared.table(split)
    stored = builder.read_images(prepared.directory, prepared.stored(split))
    if not prepared.has_truth:
        _, patient = np.unique(table["patient"], return_inverse=True)
        order = np.argsort(patient, kind="stable")
        every = np.split(order, np.flatnonzero(np.diff(patient[order])) + 1)
        return Several(
            lambda i: np.asarray(stored[i]), tuple(films for films in every if len(films) > 1),
            f"{prepared.fingerprint}/{split}/several",
        )  # fmt: skip
    n = len(table["patient"])
    kept: dict[int, np.ndarray] = {}

    def film(i: int) -> np.ndarray:
        if i < n:
            return np.asarray(stored[i])
        if i not in kept:
            row, severity = table["labels"][i - n], float(table["severity"][i - n])
            findings = {
                name: severity for name, y in zip(prepared.columns, row, strict=True) if y == 1 and name in FINDINGS
            }
            kept[i] = redrawn(int(table["patient"][i - n].removeprefix("phantom")), prepared.size, findings)
        return kept[i]

    return Several(film, tuple(np.array([i, n + i]) for i in range(n)), f"{prepared.fingerprint}/{split}/redrawn")


def check(several: Several, batch: int, split: str) -> None:
    """Raises UserError where fewer patients of a part have several films than a batch has pairs."""
    if len(several.groups) < batch:
        raise UserError(
            f"{len(several.groups)} patients of the {split} part have several films; expected {batch}, one a pair of a "
            "batch: give films whose patients are known and come back, or a smaller batch"
        )


class Pairs:
    """An endless stream of pairs, image (b, s, s, 2) in [0, 1], each batch of other patients; one number says where.

    A pair is two of a patient's films, drawn anew each time; all patients are passed once before one comes again.
    """

    def __init__(self, several: Several, batch: int, seed: int, shard: tuple[int, int] = (0, 1)):
        self._several, self._batch, self._seed, self._next = several, batch, seed, 0
        share = batch // shard[1]
        self._mine = slice(shard[0] * share, (shard[0] + 1) * share)

    def __next__(self) -> Batch:
        groups = self._several.groups
        a_pass = len(groups) // self._batch  # batches in which every patient comes at most once
        number, place = divmod(self._next, a_pass)
        order = np.random.default_rng((self._seed, 0, number)).permutation(len(groups))
        chosen = order[place * self._batch : (place + 1) * self._batch]
        rng = np.random.default_rng((self._seed, 1, self._next))
        films = [rng.permutation(len(groups[group]))[:2] for group in chosen]
        self._next += 1
        mine = list(zip(chosen, films, strict=True))[self._mine]
        return _batch([self._several.pair(group, *two) for group, two in mine], [group for group, _ in mine])

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch, and of what."""
        return {"next": self._next, "data": self._several.fingerprint, "seed": self._seed}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on behind the batch at which `get_state` was called. Raises UserError where it was of other films."""
        if state["data"] != self._several.fingerprint or state["seed"] != self._seed:
            raise UserError(
                "the checkpoint was trained on pairs of other films, or another seed; start in a new workdir"
            )
        self._next = int(state["next"])

    def close(self) -> None:
        """Holds nothing open."""


def once(several: Several, batch: int, shard: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
    """The first two films of every patient, in order; the last batch is filled up with blank pairs of valid 0."""
    share = batch // shard[1]
    for start in range(0, len(several.groups), batch):
        numbers = np.arange(start, start + batch)[shard[0] * share : (shard[0] + 1) * share]
        real = [int(group) for group in numbers if group < len(several.groups)]
        films = [several.pair(group) for group in real]
        blank = np.zeros_like(several.pair(0))
        found = _batch([*films, *[blank] * (share - len(films))], [*real, *[-1] * (share - len(films))])
        yield dataclasses.replace(found, valid=(found.index >= 0).astype(np.float32))


def _batch(pairs: list[np.ndarray], numbers: list[int]) -> Batch:
    image = np.stack(pairs) * np.float32(1 / 255)
    n = len(pairs)
    return Batch(image, np.zeros((n, 0), np.float32), np.ones(n, np.float32), np.array(numbers, np.int32))
