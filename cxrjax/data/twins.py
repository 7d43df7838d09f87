"""Films that are in a data set twice: pixel for pixel, or rescaled, recompressed and found by a perceptual hash."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy import fft

from cxrjax.data.sources.base import Record

# A hash of 255 signs: the lowest 16 x 16 frequencies of the film at 32 x 32 but for its mean, against their median.
_SIDE, _FREQUENCIES = 32, 16
_DCT = fft.dct(np.eye(_SIDE), axis=0, norm="ortho")[:_FREQUENCIES].astype(np.float32)
# Signs that may differ. Of 450 films of three public sets, a copy rescaled to 256 pixels or of JPEG quality 30 differs
# in at most 14, one of other gamma or window in at most 24. Of 7,000 films, those of different patients differ in at
# least 34, but for two pairs at 20 and 28, which are one film each under two names, of another window and crop.
NEAR = 28
_BLOCK = 2048
SHOWN = 3


class Twin(NamedTuple):
    """A film and the one before it that shows the same."""

    film: Record
    first: Record
    near: bool = False

    @property
    def across(self) -> bool:
        """Whether the two are in different parts."""
        return self.film.split != self.first.split

    @property
    def strange(self) -> bool:
        """Whether the two are not known to be of one patient."""
        return self.film.patient != self.first.patient or not self.film.patient

    def __str__(self) -> str:
        return f"{self.film.split}/{self.film.key} and {self.first.split}/{self.first.key}"


class Films:
    """The films of a data set so far, by what they show."""

    def __init__(self) -> None:
        self._first: dict[bytes, Record] = {}
        self._records: list[Record] = []
        self._signs: list[np.ndarray] = []

    def add(self, record: Record, film: np.ndarray, near: bool) -> Twin | None:
        """Takes a film (s, s) uint8, or gives its twin; `near` keeps it for `near_twins` too."""
        first = self._first.setdefault(_digest(film), record)
        if first is not record:
            return Twin(record, first)
        if near:
            self._records.append(record)
            self._signs.append(np.packbits(signs(film)))
        return None

    def near_twins(self) -> list[Twin]:
        """Each film with the first whose hash differs in at most `NEAR` signs and that is of another patient."""
        packed = _stacked(self._signs)
        patients = [record.patient or f"film:{i}" for i, record in enumerate(self._records)]
        groups = np.unique(patients, return_inverse=True)[1]
        pairs = close_pairs(packed, groups, NEAR)
        return [Twin(self._records[j], self._records[i], near=True) for j, i in pairs.items()]


def _digest(film: np.ndarray) -> bytes:
    return hashlib.blake2b(film.tobytes(), digest_size=16).digest()


def _stacked(found: Sequence[np.ndarray]) -> np.ndarray:
    """(n, 32) uint8 of packed hashes, also where there are none."""
    return np.array(found, np.uint8).reshape(-1, _FREQUENCIES**2 // 8)


def signs(film: np.ndarray) -> np.ndarray:
    """(255,) bool, the perceptual hash of a film (s, s) uint8; brightness and contrast leave it as it is."""
    small = cv2.resize(film, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = (_DCT @ small @ _DCT.T).ravel()[1:]
    return low > np.median(low)


def close_pairs(packed: np.ndarray, groups: np.ndarray, most: int) -> dict[int, int]:
    """By row, the first row before it that differs in at most `most` bits and is of another group.

    Products of blocks of signs: n^2 / 2 of 256 numbers, minutes for 100,000 films on two cores, in 50 MB.

    Args:
      packed: (n, b) uint8, eight bits a number.
      groups: (n,) int.
      most: bits that may differ.
    """
    bits = 8 * packed.shape[1]
    found: dict[int, int] = {}
    for a in range(0, len(packed), _BLOCK):
        left = _block(packed, a)
        for b in range(a, len(packed), _BLOCK):
            close = left @ _block(packed, b).T >= bits - 2 * most
            for j in np.flatnonzero(close.any(axis=0)) + b:
                before = np.flatnonzero(close[:, j - b]) + a
                before = before[(before < j) & (groups[before] != groups[j])]
                if before.size:
                    found.setdefault(int(j), int(before[0]))
    return found


def _block(packed: np.ndarray, at: int) -> np.ndarray:
    """(m, bits) of the rows from `at` on, -1 or 1."""
    return np.unpackbits(packed[at : at + _BLOCK], axis=1).astype(np.float32) * 2 - 1


class Known:
    """Films of one set, which those of another are held against.

    Args:
      films: pairs of a record and its film (s, s) uint8; a film of one gray is no twin.
      near: whether near twins are looked for too, whatever the patients' names: two sets may give one to two people.
    """

    def __init__(self, films: Iterable[tuple[Record, np.ndarray]], near: bool):
        self._near = near
        self._first: dict[bytes, Record] = {}
        self._records: list[Record] = []
        found = []
        for record, film in films:
            if film.min() < film.max():
                self._first.setdefault(_digest(film), record)
                if near:
                    self._records.append(record)
                    found.append(np.packbits(signs(film)))
        self._signs = _stacked(found)

    def twins(self, films: Iterable[tuple[Record, np.ndarray]]) -> list[Twin]:
        """Each film of another set with the first of this one that shows the same."""
        same, others, found = [], [], []
        for record, film in films:
            if film.min() == film.max():
                continue
            if first := self._first.get(_digest(film)):
                same.append(Twin(record, first))
            elif self._near:
                others.append(record)
                found.append(np.packbits(signs(film)))
        return same + [Twin(others[j], self._records[i], near=True) for j, i in self._closest(_stacked(found)).items()]

    def _closest(self, packed: np.ndarray) -> dict[int, int]:
        """By row the first of this set that differs in at most `NEAR` signs."""
        found: dict[int, int] = {}
        for b in range(0, len(packed), _BLOCK):
            right = _block(packed, b)
            for a in range(0, len(self._signs), _BLOCK):
                close = right @ _block(self._signs, a).T >= 8 * packed.shape[1] - 2 * NEAR
                for j in np.flatnonzero(close.any(axis=1)):
                    found.setdefault(b + int(j), a + int(close[j].argmax()))
        return found


def write(path: Path, found: Sequence[Twin]) -> None:
    """Lists twins in a CSV, one pair a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "part", "film", "twin's part", "twin"])
        for twin in found:
            kind = "near" if twin.near else "same"
            writer.writerow([kind, twin.film.split, twin.film.key, twin.first.split, twin.first.key])


def some(found: Sequence[Twin]) -> str:
    """The first few pairs in words."""
    return "; ".join(map(str, found[:SHOWN])) + ("; ..." if len(found) > SHOWN else "")


def words(found: Sequence[Twin]) -> list[str]:
    """What a reader of results has to know of twins within a part and of near-twins anywhere."""
    out = []
    if within := [twin for twin in found if not twin.near and not twin.across]:
        strange = sum(twin.strange for twin in within)
        other = sum(not np.array_equal(twin.film.labels, twin.first.labels, equal_nan=True) for twin in within)
        faults = [
            f"{count} {what}"
            for count, what in (
                (strange, "are not known to be of their twin's patient, so folds may have it on both sides"),
                (other, "have other labels than their twin"),
            )
            if count
        ]
        out.append(
            f"{len(within)} films show the same as another of their part, pixel for pixel ({some(within)}"
            f"; all in twins.csv){': ' * bool(faults)}{', '.join(faults)}"
        )
    for across in (True, False):
        if near := [twin for twin in found if twin.near and twin.across == across]:
            where = "in another part" if across else "of their part that is not known to be of the same patient"
            out.append(
                f"{len(near)} films look like another {where}, by a perceptual hash, as rescaled or recompressed "
                f"copies do ({some(near)}): look at them (twins.csv)"
            )
    return out
