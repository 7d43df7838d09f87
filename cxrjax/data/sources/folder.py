"""Any films, a folder a class: what somebody has who begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.sources import patients_csv
from cxrjax.data.sources.base import Record, Source, content, digest, existing
from cxrjax.errors import UserError

LABEL_VERSION = "folders-1"


def source(data: Any) -> Source:
    """The films of `root/CLASS/` and below, or of `root/{train,val,test}/CLASS/`; each folder's name is a class.

    A class is called as its folder, or as `data.classes` spells it where only case differs. Folders named as parts
    (`folders.PARTS`) keep their films; parts that there are none of are carved out of train by patient and class, with
    the shares of `data.carve`.

    Patients are known by `data.patients_csv`, as in `patients_csv.listed`; else each film is a patient of its own.

    Raises:
      UserError: no such folder, no film in a folder of its own, or as `patients_csv.listed`.
    """
    root = _root(data)
    names = _names(root, tuple(data.classes))
    if not names:
        raise UserError(
            f"data.root {str(root)!r} holds no folder with films ({', '.join(folders.SUFFIXES)}) in it: expected one "
            "folder a class, or train/ and test/ with one folder a class in each"
        )
    columns = tuple(sorted(names.values(), key=lambda name: (name.casefold(), name)))
    found, warnings = _found(root, names)
    paths = [path for _, _, path in found]
    keys = [path.relative_to(root).as_posix() for path in paths]
    patients, matched = patients_csv.listed(root, str(data.get("patients_csv", "") or ""), paths)
    labels = np.array([[float(column == name) for column in columns] for _, name, _ in found], np.float32)  # (n, k)
    given = np.array([part for part, _, _ in found], object)
    fractions = {part: float(data.carve[part]) for part in ("val", "test") if part not in given}
    pool = np.flatnonzero(given == "train")
    given[pool] = splits.carve([patients[i] for i in pool], labels[pool], fractions, seed=int(data.seed))
    order = sorted(range(len(found)), key=lambda i: (splits.ORDER.index(given[i]), keys[i]))

    def records() -> Iterator[Record]:
        for i in order:
            yield Record(keys[i], str(given[i]), patients[i], labels[i], paths[i])

    facts = content([[keys[i], str(given[i]), patients[i], labels[i].tolist()] for i in order], list(columns))
    fingerprint = digest({"labels": LABEL_VERSION, "facts": facts}, folders.stamps(keys, paths))
    counts = {part: int((given == part).sum()) for part in splits.ORDER if (given == part).any()}
    return Source("folder", columns, LABEL_VERSION, fingerprint, records, False, counts, (*warnings, *matched))


def classes(data: Any) -> tuple[str, ...]:
    """The classes that the folders name, in the order of the alphabet.

    Raises:
      UserError: no such folder, or fewer than two classes.
    """
    root = _root(data)
    found = tuple(sorted(_names(root, ()).values(), key=lambda name: (name.casefold(), name)))
    if len(found) < 2:
        raise UserError(
            f"data.root {str(root)!r} holds films in {len(found)} folders ({', '.join(found) or 'none'}): expected "
            "two or more: one folder a class, or train/ and test/ with one folder a class in each"
        )
    return found


def _root(data: Any) -> Path:
    return existing(data.root, "a folder with one folder of films a class in it")


def _parted(root: Path) -> list[Path]:
    """The folders named as parts, train first, if there are any; else the root itself."""
    parts = [folder for folder in folders.inside(root) if folder.name.lower() in folders.PARTS]
    return sorted(parts, key=lambda part: splits.ORDER.index(folders.PARTS[part.name.lower()])) or [root]


def _names(root: Path, classes: tuple[str, ...]) -> dict[str, str]:
    """What each folder with films is called, by its name in capitals: as in `classes`, or as it is."""
    spelled = {name.upper(): name for name in classes}
    out: dict[str, str] = {}
    for part in _parted(root):
        for folder in folders.inside(part):
            if any(folders.is_film(path) for path in folders.files(folder)):
                out.setdefault(folder.name.upper(), spelled.get(folder.name.upper(), folder.name))
    return out


def _found(root: Path, names: dict[str, str]) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """(part, class, film) of every film, and a warning of what is left out."""
    if _parted(root) != [root]:
        return folders.by_class(root, names, ())
    left: Counter[tuple[str, str]] = Counter()
    return [("train", name, path) for name, path in folders.of_classes(root, names, root, left)], folders.left_out(left)
