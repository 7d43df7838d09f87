"""The split lists of ChestX-ray14: found, counted, and compared with the ones everybody uses."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.sources import tables
from cxrjax.errors import UserError

# The lists of github.com/arnoweng/CheXNet, which most reports on these 14 findings use: sha256 of the sorted names, a
# newline after each, and the number of films with each finding in the order of CHESTXRAY14.
BENCHMARK_COUNTS = {"train": 78_468, "val": 11_219, "test": 22_433}
BENCHMARK_SHA256 = {
    "train": "2c164674c3c52ea0ef1a0161f44ed9f0b673b08a02fa4f68b06f75e91297dcdd",
    "val": "8afe946ed597d80246872d21e4d556539326e9b78d51d9e06815c82dea463f12",
    "test": "bbe3774c320aeb699e89ffd8a7d9f4ce7d230b1c16f4c4b7e9a2862383b17ec2",
}
BENCHMARK_POSITIVES = {
    "train": (7996, 1950, 9261, 13914, 3988, 4375, 978, 3705, 3263, 1690, 1799, 1158, 2279, 144),
    "val": (1119, 240, 1292, 2018, 625, 613, 133, 504, 447, 200, 208, 166, 372, 41),
    "test": (2420, 582, 2754, 3938, 1133, 1335, 242, 1089, 957, 413, 509, 362, 734, 42),
}
# The lists that NIH ships with the films (Wang et al. 2017).
OFFICIAL_COUNTS = {"train_val": 86_524, "test": 25_596}


class Lists(NamedTuple):
    """Films by list.

    Attributes:
      names: (n,) file names.
      given: (n,) the list each is on.
      labels: (n, 14) float32, or None where the lists carry no labels.
    """

    names: list[str]
    given: list[str]
    labels: np.ndarray | None


def benchmark(folders: list[Path], strict: bool) -> Lists:
    """The train, val and test lists whose lines are a file name and 14 zeros or ones.

    Raises:
      UserError: a list is missing, a line is not of this form, a film is on a list twice or on two; where `strict`, a
        list is not the published one.
    """
    names: list[str] = []
    given: list[str] = []
    values: list[np.ndarray] = []
    for part, count in BENCHMARK_COUNTS.items():
        path, records = _list(folders, [f"benchmark_{part}_list.txt", f"{part}_list.txt"], 15)
        found, digits = [], []
        for record in records:
            name, _, flags = record.partition(" ")
            digits.append(flags.replace(" ", ""))
            found.append(name)
            if len(digits[-1]) != len(CHESTXRAY14) or digits[-1].strip("01"):
                raise UserError(f"{path}: {record!r} is not a file name and 14 times 0 or 1")
        labels = np.frombuffer("".join(digits).encode(), np.uint8).reshape(-1, len(CHESTXRAY14)) - ord("0")  # (n, 14)
        if strict:
            _check_count(path, len(found), count)
            digest = hashlib.sha256("".join(f"{name}\n" for name in sorted(found)).encode()).hexdigest()
            positives = tuple(labels.sum(axis=0, dtype=int).tolist())
            for what, here, there in [
                ("names", digest, BENCHMARK_SHA256[part]),
                ("labels", positives, BENCHMARK_POSITIVES[part]),
            ]:
                if here != there:
                    raise UserError(_altered(path, f"its {what} are not those of the published list"))
        names += found
        given += [part] * len(found)
        values.append(labels)
    _check_unique(names)
    return Lists(names, given, np.concatenate(values).astype(np.float32))


def official(folders: list[Path], strict: bool) -> Lists:
    """The train_val and test lists of file names that NIH ships.

    Raises:
      UserError: as `benchmark`.
    """
    names: list[str] = []
    given: list[str] = []
    for part, count in OFFICIAL_COUNTS.items():
        path, found = _list(folders, [f"official_{part}_list.txt", f"{part}_list.txt"], 1)
        if strict:
            _check_count(path, len(found), count)
        names += found
        given += [part] * len(found)
    _check_unique(names)
    return Lists(names, given, None)


def _list(folders: list[Path], patterns: list[str], width: int) -> tuple[Path, list[str]]:
    # Both collections have a test_list.txt; only the benchmark's lines carry labels.
    for path in tables.find(folders, patterns):
        records = tables.lines(path)
        if records and len(records[0].split()) == width:
            return path, records
    form = "a file name and 14 times 0 or 1" if width == 15 else "a file name"
    where = ", ".join(str(folder) for folder in folders)
    raise UserError(
        f"no split list {' or '.join(patterns)} (or .gz) with {form} a line in {where}; put it there, "
        "or set data.split to another of arnoweng, nih_official, s0_faithful, none"
    )


def _altered(path: Path, what: str) -> str:
    return (
        f"{path} was altered: {what}, so results would not compare with those of others; "
        "get the list again, or set data.strict_lists=False to use it all the same"
    )


def _check_count(path: Path, found: int, count: int) -> None:
    if found != count:
        raise UserError(_altered(path, f"it has {found:,} films and the published list {count:,}"))


def _check_unique(names: list[str]) -> None:
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UserError(f"{twice} is on the split lists twice; a film belongs to one list, once")
