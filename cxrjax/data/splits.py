"""Patients stay on one side: the check that no patient is in two splits, and the carving that keeps it so."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cxrjax.errors import UserError

ORDER = ("train", "val", "test")
# How spreadsheets and statistics programs write that there is nothing.
NOTHING = {"", "na", "n/a", "nan", "<na>", "none", "null"}


def is_nothing(text: str) -> bool:
    """Whether a cell says that there is nothing."""
    return text.strip().lower() in NOTHING


def patient_id(text: str) -> str:
    """A patient as a table writes it, in one form: 12, 12.0 and 012 are one; "" is unknown."""
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if match := re.fullmatch(r"(\d+)(?:\.0*)?", name, re.ASCII):
        return match[1].lstrip("0") or "0"
    return "" if is_nothing(name) else name


def check_disjoint(patients: Mapping[str, Sequence[str] | set[str]]) -> None:
    """Raises if a patient is in two splits.

    Args:
      patients: patient ids by split; "" is unknown and ignored.

    Raises:
      UserError: naming the two splits, how many patients they share and the first five.
    """
    for (a, in_a), (b, in_b) in itertools.combinations(patients.items(), 2):
        shared = sorted((set(in_a) & set(in_b)) - {""})
        if shared:
            names = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
            raise UserError(
                f"{len(shared)} patient(s) are in both {a!r} and {b!r}: {names}; "
                "move each patient's films to one split, or carve the splits by patient (data.carve)"
            )


def carve(
    patients: Sequence[str], labels: np.ndarray, fractions: Mapping[str, float], *, seed: int, rest: str = "train"
) -> np.ndarray:
    """Deals patients into splits, so that each split has about the same labels.

    Patients are ordered by a seeded hash within groups of equal labels and equal numbers of films, and dealt one by one
    to the split that is furthest behind its share of films. The result depends on the seed and the names, not on the
    order of the rows.

    Args:
      patients: (n,) patient ids; each row with "" is a patient of its own.
      labels: (n, k) float; 1 present, 0 absent, NaN unknown.
      fractions: share of the films by new split, each in [0, 1), together below 1.
      seed: another seed, another carving.
      rest: the split that keeps all other patients.

    Returns:
      (n,) str, each film's split.

    Raises:
      UserError: fractions out of range.
    """
    shares = {name: float(share) for name, share in fractions.items() if share}
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise UserError(f"data.carve has {dict(fractions)}: expected shares in [0, 1) that together stay below 1")
    shares = {rest: 1 - sum(shares.values()), **shares}
    return _deal(patients, shares, seed, lambda rows: str(np.fmax.reduce(labels[rows], axis=0).tolist())).astype(str)


def folds(patients: Sequence[str], labels: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Deals patients into k folds of about equal size and labels, as `carve` does.

    With several labels a film, patients are grouped first by the rarest finding they have, so that a finding of few
    patients is spread over as many folds as it can be.

    Args:
      patients: (n,) patient ids; each row with "" is a patient of its own.
      labels: (n, c) float; 1 present, 0 absent, NaN unknown.
      k: number of folds, at least 2 and at most the number of patients.
      seed: another seed, another dealing.

    Returns:
      (n,) int64, each film's fold in 0 ... k-1; films of one patient share it.

    Raises:
      UserError: k out of range.
    """
    count = len(set(patients) - {""}) + sum(not patient for patient in patients)
    if not 2 <= k <= count:
        raise UserError(f"folds is {k}: expected 2 to {count}, the number of patients")
    by_rarity = np.argsort((labels == 1).sum(axis=0), kind="stable")  # (c,)

    def group(rows: list[int]) -> str:
        return f"{_rarest(labels[rows], by_rarity):04d} {np.fmax.reduce(labels[rows], axis=0).tolist()}"

    return _deal(patients, dict.fromkeys(range(k), 1 / k), seed, group, rarest_first=True).astype(np.int64)


def nested(patients: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """Orders patients, so that the first m are a training set of m patients, within that of more.

    Patients are grouped by the rarest finding that they have, as in `folds`. One of each group comes first, the rarest
    first, so that few patients still have every class; then all others, mixed so that any beginning has about the
    shares of the whole.

    Args:
      patients: (n,) patient ids; each row with "" is a patient of its own.
      labels: (n, c) float; 1 present, 0 absent, NaN unknown.
      seed: another seed, another order.

    Returns:
      (n,) int64, the place of each film's patient in the order, from 0. It depends on the seed and the names, not on
      the order of the rows.
    """
    rows = _rows(patients)
    by_rarity = np.argsort((labels == 1).sum(axis=0), kind="stable")  # (c,)
    groups: dict[int, list[str]] = defaultdict(list)
    for patient in sorted(rows, key=lambda name: _digest(seed, name)):
        groups[_rarest(labels[rows[patient]], by_rarity)].append(patient)
    places = [
        (i > 0, group if i == 0 else (i + 0.5) / len(members), group, patient)
        for group, members in groups.items()
        for i, patient in enumerate(members)
    ]
    out = np.empty(len(patients), np.int64)
    for place, (*_, patient) in enumerate(sorted(places)):
        out[rows[patient]] = place
    return out


def _rows(patients: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each patient; one with "" is a patient of its own."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, patient in enumerate(patients):
        rows[patient or f"\0{i}"].append(i)  # no real id holds a null character
    return rows


def _digest(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()


def _rarest(labels: np.ndarray, by_rarity: np.ndarray) -> int:
    """The rank of the rarest finding that a patient's rows (m, c) have; the number of findings where they have none."""
    has = np.fmax.reduce(labels, axis=0)  # (c,)
    return next((j for j, column in enumerate(by_rarity) if has[column] == 1), len(by_rarity))


def _deal(
    patients: Sequence[str],
    shares: Mapping[Any, float],
    seed: int,
    group: Callable[[list[int]], str],
    rarest_first: bool = False,
) -> np.ndarray:
    """(n,) object, a key of `shares` for each film; `group` names the labels of a patient's rows."""
    rows = _rows(patients)

    def order(patient: str) -> tuple[str, str, int, str]:
        name, own = group(rows[patient]), _digest(seed, patient)
        return name.split()[0] if rarest_first else "", _digest(seed, name), len(rows[patient]), own

    out = np.empty(len(patients), dtype=object)
    have = dict.fromkeys(shares, 0)
    seen = 0
    for patient in sorted(rows, key=order):
        # Chosen before this patient's own films are counted, or patients of many films would all go to the largest.
        split = max(shares, key=lambda name: shares[name] * seen - have[name])
        seen += len(rows[patient])
        have[split] += len(rows[patient])
        out[rows[patient]] = split
    return out


def joined(ids: Sequence[Sequence[str]]) -> list[str]:
    """One id a film from several, where two films are of one patient if any of their ids agree, or a chain of such.

    Args:
      ids: (n,) tuples of ids, "" where unknown.

    Returns:
      (n,) ids, each the first in the alphabet of those joined; "" where a film has none.
    """
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    known = [[name for name in row if name] for row in ids]
    for row in known:
        for name in row[1:]:
            a, b = sorted((top(row[0]), top(name)))
            parent[b] = a
    return [top(row[0]) if row else "" for row in known]
