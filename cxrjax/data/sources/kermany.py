"""The Guangzhou pediatric set as Kaggle ships it (Kermany et al. 2018, "Chest X-Ray Images (Pneumonia)")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.sources.base import Record, Source, digest, existing
from cxrjax.errors import UserError

LABEL_VERSION = "kermany-2018-v2"
COLUMNS = ("Pneumonia", "Bacteria", "Virus")
CLASSES = {"NORMAL": "", "PNEUMONIA": "Pneumonia"}
PNEUMONIA_NAME = re.compile(r"(person\d+)_(bacteria|virus)_", re.IGNORECASE)
NORMAL_NAME = re.compile(r"((?:NORMAL2-)?IM-\d+)-", re.IGNORECASE)


def source(data: Any) -> Source:
    """The tree `root/{train,val,test}/{NORMAL,PNEUMONIA}/` of films; parts may be missing, `val` be called `valid`.

    The official `val` has 16 films, too few to choose by, so it is merged into `train` before new splits are carved
    by patient: `data.carve.val` always, `data.carve.test` only where the tree has no `test`. With `data.official_val`
    (False) it is kept as it is.

    A child is known by the file name: `person12_bacteria_3` is person12 whatever the germ, and `IM-0115-0001` is
    IM-0115. `NORMAL2-IM-0383` and `IM-0383` are two series and two children. Person numbers in Kaggle's `test` start
    from 1 again, so there they get a prefix.

    Raises:
      UserError: no such tree, a class folder with no films, or another one with some.
    """
    root = existing(data.root, "the Kaggle folder chest_xray with train/NORMAL and train/PNEUMONIA in it")
    found, warnings = folders.by_class(root, CLASSES, splits.ORDER)
    parts = [part for part, _, _ in found]
    if not {"train", "test"} & {*parts}:
        inner = root / "chest_xray"
        hint = f"; did you mean {str(inner)!r}?" if (inner / "train").is_dir() else ""
        raise UserError(f"data.root {str(root)!r} has no folder train/ with NORMAL and PNEUMONIA in it{hint}")
    paths = [path for _, _, path in found]
    names = [path.relative_to(root).as_posix() for path in paths]
    patients = [_patient(part, path) for part, _, path in found]
    labels = np.stack([_labels(finding, path) for _, finding, path in found])  # (n, 3)

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
    fingerprint = digest(options, folders.stamps(names, paths))
    counts = {name: int((given == name).sum()) for name in splits.ORDER if name in given}
    return Source("kermany", COLUMNS, LABEL_VERSION, fingerprint, records, False, counts, tuple(warnings))


def _patient(part: str, path: Path) -> str:
    if match := PNEUMONIA_NAME.match(path.name):
        person = match[1].lower()
        return f"test-{person}" if part == "test" else person
    match = NORMAL_NAME.match(path.name)
    return match[1].upper() if match else ""


def _labels(finding: str, path: Path) -> np.ndarray:
    if not finding:
        return np.zeros(3, np.float32)
    match = PNEUMONIA_NAME.match(path.name)
    if match is None:  # a pneumonia of unknown germ
        return np.array([1, np.nan, np.nan], np.float32)
    bacteria = match[2].lower() == "bacteria"
    return np.array([1, bacteria, not bacteria], np.float32)
