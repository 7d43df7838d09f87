"""Films that are in a data set twice: pixel for pixel, or rescaled, recompressed and found by a perceptual hash."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
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
_WIDEST = 18  # bits of a band, each of whose codes has a bucket
_AT_ONCE = 1 << 19  # pairs in memory
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

    The bits are dealt into more than `most` / 2 bands, so that two such rows differ in one bit or none of some band
    (Norouzi et al. 2012, multi-index hashing). Only rows that do are compared: of chest films one pair in a hundred.

    Args:
      packed: (n, b) uint8, eight bits a number.
      groups: (n,) int or bool.
      most: bits that may differ.
    """
    n, bits = len(packed), 8 * packed.shape[1]
    count = max(most // 2 + 1, -(-bits // _WIDEST))
    words = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64).T.copy()  # (w, n)
    rows, first = np.arange(n), np.full(n, n)
    for k in range(min(count, bits)):
        # Every count-th bit: neighboring frequencies are alike in many films, and would fill few buckets.
        band = np.unpackbits(packed, axis=1)[:, k::count].astype(np.int64)
        code = band @ (1 << np.arange(band.shape[1]))  # (n,)
        order = np.argsort(code, kind="stable")
        start = np.append(0, np.bincount(code, minlength=1 << band.shape[1]).cumsum())
        for flip in (0, *(1 << np.arange(band.shape[1]))):
            own = rows[code & flip == 0]  # the rows with the bit are met as the others of these
            low, high = start[code[own] ^ flip], start[(code[own] ^ flip) + 1]
            for part in _parts(high - low):
                sizes = (high - low)[part]
                a = np.repeat(own[part], sizes)
                b = order[np.arange(len(a)) - np.repeat(sizes.cumsum() - sizes - low[part], sizes)]
                apart = np.zeros(len(a), np.uint16)
                for word in words:
                    apart += np.bitwise_count(word[a] ^ word[b])
                close = (apart <= most) & (groups[a] != groups[b])
                i, j = np.minimum(a[close], b[close]), np.maximum(a[close], b[close])
                np.minimum.at(first, j, i)
    return {int(j): int(first[j]) for j in np.flatnonzero(first < n)}


def _parts(sizes: np.ndarray) -> list[slice]:
    """Runs of rows whose sizes sum to `_AT_ONCE` or less, or a single row."""
    cuts, total = [0], sizes.cumsum()
    while cuts[-1] < len(sizes):
        done = total[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(max(int(np.searchsorted(total, done + _AT_ONCE, side="right")), cuts[-1] + 1))
    return [slice(a, b) for a, b in pairwise(cuts)]


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
        n = len(self._signs)
        pairs = close_pairs(np.concatenate([self._signs, packed]), np.arange(n + len(packed)) >= n, NEAR)
        return {j - n: i for j, i in pairs.items()}


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
