"""The Guangzhou pediatric set as Kaggle ships it (Kermany et al. 2018, "Chest X-Ray Images (Pneumonia)")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import splits
from cxrjax.data.source import Record, Source, digest, existing, films_in, stamp
from cxrjax.types import UserError

LABEL_VERSION = "kermany-2018-v2"
COLUMNS = ("Pneumonia", "Bacteria", "Virus")
PARTS = ("train", "val", "test")
CLASSES = ("NORMAL", "PNEUMONIA")
PNEUMONIA_NAME = re.compile(r"(person\d+)_(bacteria|virus)_", re.IGNORECASE)
NORMAL_NAME = re.compile(r"((?:NORMAL2-)?IM-\d+)-", re.IGNORECASE)


def source(data: Any) -> Source:
    """The tree `root/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`; `test` may be missing.

    The official `val` has 16 films, too few to choose by, so it is merged into `train` before new splits are carved
    by patient: `data.carve.val` always, `data.carve.test` only where the tree has no `test`. With `data.official_val`
    (False) it is kept as it is.

    A child is known by the file name: `person12_bacteria_3` is person12 whatever the germ, and `IM-0115-0001` is
    IM-0115. `NORMAL2-IM-0383` and `IM-0383` are two series and two children. Person numbers in Kaggle's `test` start
    from 1 again, so there they get a prefix.

    Raises:
      UserError: no such tree, or a class folder with no films.
    """
    root = existing(data.root, "the Kaggle folder chest_xray with train/NORMAL and train/PNEUMONIA in it")
    if not (root / "train").is_dir():
        inner = root / "chest_xray"
        hint = f"; did you mean {str(inner)!r}?" if (inner / "train").is_dir() else ""
        raise UserError(f"data.root {str(root)!r} has no folder train/ with NORMAL and PNEUMONIA in it{hint}")
    found = [film for part in PARTS if (root / part).is_dir() for film in _part(root, part)]
    parts = [part for part, _ in found]
    paths = [path for _, path in found]
    names = [path.relative_to(root).as_posix() for path in paths]
    patients = [_patient(part, path) for part, path in found]
    labels = np.stack([_labels(path) for path in paths])  # (n, 3)

    official_val = bool(data.get("official_val", False))
    given = np.array([part if part == "test" or official_val else "train" for part in parts], dtype=object)
    fractions = {name: float(data.carve[name]) for name in ("val", "test") if name not in given}
    pool = np.flatnonzero(given == "train")
    given[pool] = splits.carve([patients[i] for i in pool], labels[pool], fractions, seed=int(data.seed))
    order = sorted(range(len(paths)), key=lambda i: (splits.ORDER.index(given[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in order:
            yield Record(names[i], str(given[i]), patients[i], labels[i], paths[i])

    options = {"fractions": fractions, "seed": int(data.seed), "official_val": official_val, "labels": LABEL_VERSION}
    files = [(name, stamp(path.stat())) for name, path in zip(names, paths, strict=True)]
    counts = {name: int((given == name).sum()) for name in splits.ORDER if name in given}
    return Source("kermany", COLUMNS, LABEL_VERSION, digest(options, files), records, False, counts)


def _part(root: Path, part: str) -> list[tuple[str, Path]]:
    out = []
    for name in CLASSES:
        folder = root / part / name
        films = sorted(films_in(folder))
        if not films:
            raise UserError(
                f"{str(folder)!r} holds no .jpeg, .jpg or .png film; the Kaggle tree has some in every class"
            )
        out += [(part, path) for path in films]
    return out


def _patient(part: str, path: Path) -> str:
    if match := PNEUMONIA_NAME.match(path.name):
        person = match[1].lower()
        return f"test-{person}" if part == "test" else person
    match = NORMAL_NAME.match(path.name)
    return match[1].upper() if match else ""


def _labels(path: Path) -> np.ndarray:
    if path.parent.name == "NORMAL":
        return np.zeros(3, np.float32)
    match = PNEUMONIA_NAME.match(path.name)
    if match is None:  # a pneumonia of unknown germ
        return np.array([1, np.nan, np.nan], np.float32)
    bacteria = match[2].lower() == "bacteria"
    return np.array([1, bacteria, not bacteria], np.float32)
