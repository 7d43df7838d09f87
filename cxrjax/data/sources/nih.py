"""NIH ChestX-ray14 (Wang et al. 2017): 112,120 films, 14 findings, and boxes for about 900 of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import splits, tables
from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.source import FILM_SUFFIXES, Box, Record, Source, choice, content, digest, existing, stamp
from cxrjax.data.sources import nih_lists
from cxrjax.errors import did_you_mean
from cxrjax.types import UserError

SPLITS = ("nih_official", "arnoweng", "s0_faithful", "carved", "none")
WHAT = "the ChestX-ray14 folder with images/ and Data_Entry_2017.csv in it"
V2017, V2020 = "nih-2017", "nih-2017-v2020"
NO_FINDING = "No Finding"
BOX_SIDE = 1024.0  # boxes are given in pixels of the films as NIH ships them
VAL_SHARE = 1 / 8
SELECTION = (
    "selection on test: val and test are the same films (the benchmark's val and test lists merged), "
    "so the figures are those of a network chosen by the films it is judged on"
)


def source(data: Any) -> Source:
    """The films under `data.root`, split by `data.split`.

    `data.root` holds an image folder, the labels and the split lists; these also in `lists/` or `labels/`. The image
    folder is `images/`, or `images_001/images` to `images_012/images`, or else the `images_*` (`images_256/`) of most
    films; `data.images` names another. Splits:
      nih_official: NIH's train_val and test lists; an eighth of the training patients becomes val.
      arnoweng: the benchmark lists (name and 14 labels a line); they carry the labels of 2017.
      s0_faithful: the same, with val and test merged and read under both names; results are "selection on test".
      carved: all films in the folder, val and test parts of `data.carve` drawn by patient: for a sample of the set.
      none: all films in the folder, as `train`, for folds by patient.
    The published lists are recognized by their counts, names and labels unless `data.strict_lists` (True) is off. With
    `data.present_only` (False) films that are not in the folder are left out, and a warning says how many.

    A patient is the first eight characters of a file name. Labels of `nih_official`, `carved` and `none` come from
    `Data_Entry_2017*.csv`, or `labels_14.csv` (a column for each finding; an empty cell is unknown), whose edition
    `data.label_version` may name. Boxes come from `BBox_List_2017*.csv` or `bbox_1024px.csv` where there is one.

    Raises:
      UserError: a file or a film is missing, a list was altered, or a label is unknown.
    """
    return read(existing(data.root, WHAT), data)


def read(root: Path, data: Any) -> Source:
    """`source` for the folder `root` instead of `data.root`."""
    split = choice(data, "split", SPLITS)
    strict = bool(data.get("strict_lists", True))
    folders = [folder for folder in (root, root / "lists", root / "labels") if folder.is_dir()]
    films = _films(root, str(data.get("images", "") or ""))
    if split in ("arnoweng", "s0_faithful"):
        names, given, listed = nih_lists.benchmark(folders, strict)
        assert listed is not None
        labels, version = listed, V2017
    else:
        if split in ("carved", "none"):
            names = sorted(films)
            given = ["train"] * len(names)
        else:
            names, given, _ = nih_lists.official(folders, strict)
        used = set(films) if bool(data.get("present_only", False)) else set(names)
        labels, version = _labels(folders, names, used, str(data.get("label_version", "") or ""))
    where = np.array(given, dtype=object)
    if split == "nih_official":
        where = _hold_out(names, where == "train_val", where, labels, {"val": VAL_SHARE}, int(data.seed))
    if split == "carved":
        where = _hold_out(names, where == "train", where, labels, dict(data.carve), int(data.seed))
    if split == "s0_faithful":
        where[where == "val"] = "test"

    warnings = [SELECTION] if split == "s0_faithful" else []
    here = np.array([name in films for name in names], bool)
    if not here.all():
        missing = len(here) - int(here.sum())
        if not data.get("present_only", False):
            first = names[int(np.argmin(here))]
            raise UserError(
                f"{first} is on the split lists and not in the image folder ({missing:,} of {len(names):,} films are "
                f"missing under {str(root)!r}); add them, or set data.present_only=True to use a sample of the set"
            )
        warnings.append(f"a sample of the set: {len(names) - missing:,} of the {len(names):,} films listed are here")
    if not here.any():
        raise UserError(f"none of the {len(names):,} films listed is in the image folder under {str(root)!r}")
    boxes = _boxes(folders)
    counts = {name: int((here & (where == name)).sum()) for name in splits.ORDER}
    if lost := [name for name, count in counts.items() if not count and (where == name).any()]:
        warnings.append(f"no film of {' and '.join(lost)} is here")
    counts = {name: count for name, count in counts.items() if count}
    chosen = sorted(np.flatnonzero(here), key=lambda i: (splits.ORDER.index(where[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in chosen:
            name = names[i]
            yield Record(name, str(where[i]), name[:8], labels[i], films[name][0], boxes=tuple(boxes.get(name, ())))

    kept = [names[i] for i in chosen]
    facts = content(kept, where[chosen].tolist(), labels[chosen], [boxes.get(name, ()) for name in kept])
    fingerprint = digest({"split": split, "labels": version, "facts": facts}, [(n, films[n][1]) for n in kept])
    aliases = {"val": "test"} if split == "s0_faithful" else {}
    return Source("nih", CHESTXRAY14, version, fingerprint, records, False, counts, tuple(warnings), aliases)


def _films(root: Path, folder: str) -> dict[str, tuple[Path, tuple[int, int]]]:
    """Path and stamp of every film by name."""
    if folder:
        groups = [[existing(str(root / folder), "the folder of films", "data.images")]]
    else:
        parts = sorted(p for p in root.glob("images_0[0-9][0-9]") if p.is_dir())
        others = [[p] for p in sorted(root.glob("images_*")) if p.is_dir() and p not in parts]
        groups = [[root / "images"], parts, *sorted(others, key=lambda group: -len(list(group[0].iterdir())))]
    for group in groups:
        found: dict[str, tuple[Path, tuple[int, int]]] = {}
        for place in (inner for outer in group for inner in (outer, outer / "images")):
            if not place.is_dir():
                continue
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.lower().endswith(FILM_SUFFIXES) and not entry.name.startswith("."):
                        found[entry.name] = (Path(entry.path), stamp(entry.stat()))
        if found:
            return found
    wanted = folder or "images/, images_001/images or images_256/"
    raise UserError(f"no film (.png, .jpg) in {wanted} under data.root {str(root)!r}; data.images names another folder")


def _labels(folders: list[Path], names: list[str], used: set[str], edition: str) -> tuple[np.ndarray, str]:
    """(n, 14) float32 in the order of `names`, and their edition; a film that is not `used` may have no row."""
    found = tables.find(folders, ["Data_Entry_2017*.csv", "labels_14.csv"])
    if not found:
        where = ", ".join(str(folder) for folder in folders)
        raise UserError(f"no label table Data_Entry_2017*.csv (or .gz) or labels_14.csv in {where}")
    path = found[0]
    if path.name.startswith("labels_14"):
        table = _from_columns(path)
        edition = edition or path.name.removesuffix(".gz")
    else:
        table = _from_findings(path)
        edition = V2020 if "v2020" in path.name.lower() else V2017
    unknown = [float("nan")] * len(CHESTXRAY14)
    for name in names:
        if name not in table and name in used:
            raise UserError(f"{path} has no row for the film {name}; expected one for each film used")
    return np.array([table.get(name, unknown) for name in names], np.float32), edition


def _from_findings(path: Path) -> dict[str, list[float]]:
    out = {}
    seen: dict[str, list[float]] = {}  # 112,120 films have a few hundred different cells
    for row in tables.rows(path, ("Image Index", "Finding Labels")):
        cell = row["Finding Labels"]
        if cell not in seen:
            found = cell.split("|")
            for name in found:
                if name not in CHESTXRAY14 and name != NO_FINDING:
                    _unknown(path, row["Image Index"], name)
            seen[cell] = [float(name in found) for name in CHESTXRAY14]
        out[row["Image Index"]] = seen[cell]
    return out


def _from_columns(path: Path) -> dict[str, list[float]]:
    values = {"": float("nan"), "nan": float("nan"), "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
    out = {}
    for row in tables.rows(path, ("Image Index", *CHESTXRAY14)):
        for name in CHESTXRAY14:
            if row[name].strip().lower() not in values:
                raise UserError(f"{path}: {row['Image Index']} has {row[name]!r} in {name}; expected 0, 1 or nothing")
        out[row["Image Index"]] = [values[row[name].strip().lower()] for name in CHESTXRAY14]
    return out


def _unknown(path: Path, film: str, name: str) -> None:
    known = [*CHESTXRAY14, NO_FINDING]
    hint = did_you_mean(name, known) or f"; known are {', '.join(known)}"
    raise UserError(f"{path}: {film} has the finding {name!r}, which is not one of ChestX-ray14{hint}")


def _hold_out(
    names: list[str], chosen: np.ndarray, given: np.ndarray, labels: np.ndarray, shares: dict[str, float], seed: int
) -> np.ndarray:
    """Parts of the chosen films by shares of their patients, not of the films; the rest of them becomes train."""
    pool = np.flatnonzero(chosen)
    patients = sorted({names[i][:8] for i in pool})
    row = {patient: i for i, patient in enumerate(patients)}
    of_patient = np.full((len(patients), labels.shape[1]), np.nan, np.float32)
    at = np.array([row[names[i][:8]] for i in pool])
    np.fmax.at(of_patient, at, labels[pool])
    side = splits.carve(patients, of_patient, shares, seed=seed)
    out = given.copy()
    out[pool] = side[at]
    return out


def _boxes(folders: list[Path]) -> dict[str, list[Box]]:
    """Boxes by film, in fractions of the side."""
    found = tables.find(folders, ["BBox_List_2017*.csv", "bbox_1024px.csv"])
    out: dict[str, list[Box]] = {}
    for row in tables.cells(found[0]) if found else ():
        try:
            film, finding = row[0], {"Infiltrate": "Infiltration"}.get(row[1], row[1])
            x, y, width, height = (float(value) for value in row[2:6])
        except (IndexError, ValueError):
            raise UserError(f"{found[0]}: {','.join(row)!r} is not film, finding, x, y, w, h") from None
        if finding not in CHESTXRAY14:
            _unknown(found[0], film, finding)
        corners = [min(max(value / BOX_SIDE, 0.0), 1.0) for value in (x, y, x + width, y + height)]
        out.setdefault(film, []).append((finding, corners[0], corners[1], corners[2], corners[3]))
    return out
