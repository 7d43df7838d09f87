"""The chest films of MedIAnomaly (Cai et al. 2024), RSNA and VinCXR: a folder of PNGs and `data.json`, which says which
film is of which part.

One-class splits: training films are normal ones alone, test films both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data.sources import listed
from cxrjax.data.sources.base import Record, Source, choice, existing
from cxrjax.errors import UserError

ABNORMAL = "Abnormal"  # lung opacity (RSNA), or any finding (VinCXR)
LISTS = "data.json"
FOLDERS = ("images", "train_png_512")  # as published, and as in the lists' first edition (Cai et al. 2022)
SPLITS = ("one_class", "with_unlabeled")
WHAT = "RSNA/ or VinCXR/ of MedIAnomaly, with images/ and data.json in it"
NO_PATIENTS = "these lists name no patients: a person may be in two parts"


def source(data: Any) -> Source:
    """The films that `data.root/data.json` lists, in `data.root/images/` (or `data.images`).

    The lists: `train.0` normal films, `test.0` and `test.1` normal and abnormal ones; and, in some editions,
    `train.unlabeled.0` and `.1`, whose labels a one-class method may not know. With `data.split` = "with_unlabeled"
    they train too, by these labels. The validation part is carved from train.

    Raises:
      UserError: no such files, lists of another form, or a film that is listed twice.
    """
    root = existing(data.root, WHAT)
    path = root / LISTS
    if not path.is_file():
        raise UserError(f"no {LISTS} in {str(root)!r}; expected {WHAT}")
    whole = choice(data, "split", SPLITS) == SPLITS[1]
    folder = _folder(root, str(data.get("images", "") or ""))
    films = [
        Record(name, part, "", np.array([sick], np.float32), folder / name)
        for part, sick, name in _listed(path, whole)
    ]  # fmt: skip
    if twice := [name for name, count in Counter(film.key for film in films).items() if count > 1]:
        raise UserError(f"{path} lists {len(twice)} films twice, the first {twice[0]}; each belongs to one part")
    return listed.source(
        "medianomaly", data, films, (ABNORMAL,), f"medianomaly-{root.name}-{SPLITS[whole]}", carve=("val",),
        warnings=(NO_PATIENTS,),
    )  # fmt: skip


def _folder(root: Path, given: str) -> Path:
    if given:
        return existing(given, "the folder of the films", "data.images")
    found = [root / name for name in FOLDERS if (root / name).is_dir()]
    if not found:
        raise UserError(f"no {FOLDERS[0]}/ in {str(root)!r}; give the folder of the films as data.images")
    return found[0]


def _listed(path: Path, unlabeled: bool) -> Iterator[tuple[str, float, str]]:
    """(part, 1 for abnormal, file name) of every film of the lists."""
    try:
        lists = json.loads(path.read_text())
        groups = [
            ("train", 0.0, lists["train"]["0"]),
            ("test", 0.0, lists["test"]["0"]),
            ("test", 1.0, lists["test"]["1"]),
        ]
        if unlabeled:
            groups += [("train", float(sick), lists["train"]["unlabeled"][str(sick)]) for sick in (0, 1)]
        out = [(part, sick, str(name)) for part, sick, names in groups for name in _names(names)]
    except (ValueError, KeyError, TypeError) as error:
        wanted = "train.0, test.0 and test.1" + ", train.unlabeled.0 and .1" * unlabeled
        raise UserError(
            f"{path} is no list of films ({type(error).__name__}: {error}); expected {wanted}, each with file names"
        ) from None
    yield from out


def _names(names: Any) -> list[str]:
    if not isinstance(names, list):
        raise TypeError(f"{type(names).__name__} where a list was expected")
    return names
