"""Patients stay on one side: the check that no patient is in two splits, and the carving that keeps it so."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cxrjax.types import UserError

ORDER = ("train", "val", "test")


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
    rows: dict[str, list[int]] = defaultdict(list)
    for i, patient in enumerate(patients):
        rows[patient or f"\0{i}"].append(i)  # no real id holds a null character

    def digest(text: str) -> str:
        return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()

    def order(patient: str) -> tuple[str, int, str]:
        group = np.fmax.reduce(labels[rows[patient]], axis=0)  # (k,)
        return digest(str(group.tolist())), len(rows[patient]), digest(patient)

    out = np.full(len(patients), rest, dtype=object)
    have = dict.fromkeys(shares, 0)
    seen = 0
    for patient in sorted(rows, key=order):
        # Chosen before this patient's own films are counted, or patients of many films would all go to the largest.
        split = max(shares, key=lambda name: shares[name] * seen - have[name])
        seen += len(rows[patient])
        have[split] += len(rows[patient])
        out[rows[patient]] = split
    return out.astype(str)
