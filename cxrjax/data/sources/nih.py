"""NIH ChestX-ray14 (Wang et al. 2017): 112,120 films, 14 findings, and boxes for about 900 of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.patients import sex as sex_of
from cxrjax.data.patients import word, years
from cxrjax.data.sources import nih_lists, tables
from cxrjax.data.sources.base import Box, Record, Source, choice, content, digest, existing
from cxrjax.errors import UserError, did_you_mean

SPLITS = ("nih_official", "arnoweng", "s0_faithful", "carved", "none")
WHAT = "the ChestX-ray14 folder with images/ and Data_Entry_2017.csv in it"
V2017, V2020 = "nih-2017", "nih-2017-v2020"
NO_FINDING = "No Finding"
BOX_SIDE = 1024.0  # boxes are given in pixels of the films as NIH ships them
VAL_SHARE = 1 / 8
TABLES = ["Data_Entry_2017*.csv", "labels_14.csv"]
PATIENT = "Patient ID"
# What the tables call age, sex and view.
WHO = (("Patient Age", "Age"), ("Patient Gender", "Patient Sex", "Sex"), ("View Position", "View"))
NAME = re.compile(r"(\d{8})_\d{3}\.")  # as NIH names a film: the patient, and which of the patient's films
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

    A patient is known by the column `Patient ID` of the label table, and where that is missing or empty by the first
    eight digits of a name of NIH's form (00000001_000.png); other names need the column. Labels of `nih_official`,
    `carved` and `none` come from `Data_Entry_2017*.csv`, or `labels_14.csv` (a column for each finding; an empty cell
    is unknown), whose edition `data.label_version` may name; age, sex and view too. Boxes come from
    `BBox_List_2017*.csv` or `bbox_1024px.csv` where there is one.

    Raises:
      UserError: a file or a film is missing or listed twice and differently, a list was altered, a label is unknown, or
        nothing tells the patients.
    """
    return read(existing(data.root, WHAT), data)


def read(root: Path, data: Any) -> Source:
    """`source` for the folder `root` instead of `data.root`."""
    split = choice(data, "split", SPLITS)
    strict = bool(data.get("strict_lists", True))
    places = [folder for folder in (root, root / "lists", root / "labels") if folder.is_dir()]
    films, warnings = _films(root, str(data.get("images", "") or ""))
    here_only = bool(data.get("present_only", False))
    if split in ("arnoweng", "s0_faithful"):
        names, given, listed = nih_lists.benchmark(places, strict)
        assert listed is not None
        labels, version = listed, V2017
    else:
        if split in ("carved", "none"):
            names = sorted(films)
            given = ["train"] * len(names)
        else:
            names, given, _ = nih_lists.official(places, strict)
        used = set(films) if here_only else set(names)
        labels, version = _labels(places, names, used, str(data.get("label_version", "") or ""))
    patients, who = _patients(places, names)
    where = np.array(given, dtype=object)
    if split == "nih_official":
        where = _hold_out(names, patients, where == "train_val", where, labels, {"val": VAL_SHARE}, int(data.seed))
    if split == "carved":
        where = _hold_out(names, patients, where == "train", where, labels, dict(data.carve), int(data.seed))
    if split == "s0_faithful":
        where[where == "val"] = "test"

    warnings += [SELECTION] if split == "s0_faithful" else []
    here = np.array([name in films for name in names], bool)
    if not here.all():
        missing = len(here) - int(here.sum())
        first = names[int(np.argmin(here))]
        hint = folders.like(first, films) if not here_only or not here.any() else ""
        if not here_only:
            raise UserError(
                f"{first} is on the split lists and not in the image folder ({missing:,} of {len(names):,} films are "
                f"missing under {str(root)!r})"
                f"{hint or '; add them, or set data.present_only=True to use a sample of the set'}"
            )
        if not here.any():
            raise UserError(
                f"none of the {len(names):,} films listed is in the image folder under {str(root)!r}, as {first}{hint}"
            )
        warnings.append(f"a sample of the set: {len(names) - missing:,} of the {len(names):,} films listed are here")
    if unlisted := len(films) - int(here.sum()):
        warnings.append(f"{unlisted:,} films of the image folder are on no split list and were left out")
    boxes = _boxes(places, films)
    counts = {name: int((here & (where == name)).sum()) for name in splits.ORDER}
    if lost := [name for name, count in counts.items() if not count and (where == name).any()]:
        warnings.append(f"no film of {' and '.join(lost)} is here")
    counts = {name: count for name, count in counts.items() if count}
    chosen = sorted(np.flatnonzero(here), key=lambda i: (splits.ORDER.index(where[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in chosen:
            name = names[i]
            age, sex, view = who[i]
            yield Record(
                name, str(where[i]), patients[i], labels[i], films[name], boxes=tuple(boxes.get(name, ())),
                age=float(age), sex=sex, view=view,
            )  # fmt: skip

    kept = [names[i] for i in chosen]
    whose = [patients[i] for i in chosen]
    facts = content(kept, whose, where[chosen].tolist(), labels[chosen], [boxes.get(name, ()) for name in kept],
                    [who[i] for i in chosen])  # fmt: skip
    stamps = folders.stamps(kept, [films[name] for name in kept])
    fingerprint = digest({"split": split, "labels": version, "facts": facts}, stamps)
    aliases = {"val": "test"} if split == "s0_faithful" else {}
    return Source("nih", CHESTXRAY14, version, fingerprint, records, False, counts, tuple(warnings), aliases)


def _films(root: Path, folder: str) -> tuple[dict[str, Path], list[str]]:
    """Every film by name, and a warning of files that are left out, if any are."""
    if folder:
        groups = [[existing(str(root / os.path.expanduser(folder)), "the folder of films", "data.images")]]
    else:
        parts = sorted(p for p in root.glob("images_0[0-9][0-9]") if p.is_dir())
        others = [[p] for p in sorted(root.glob("images_*")) if p.is_dir() and p not in parts]
        others.sort(key=lambda group: -len(os.listdir(group[0])))
        groups = [group for group in ([root / "images"], parts, *others) if group and group[0].is_dir()]
    films: dict[str, Path] = {}
    left: Counter[tuple[str, str]] = Counter()
    for group in groups:
        taken = bool(films)  # an earlier group has the films already, perhaps in another size
        for path in (path for place in group for path in folders.files(place)):
            if taken or not folders.is_film(path):
                left[path.suffix.lower(), os.path.relpath(path.parent, root)] += 1
            elif films.setdefault(path.name, path) != path:
                raise UserError(
                    f"{films[path.name]} and {path} have one name, by which the tables know a film; take one away"
                )
    if films:
        return films, folders.left_out(left)
    wanted = folder or "images/, images_001/images or images_256/"
    raise UserError(
        f"no film ({', '.join(folders.SUFFIXES)}) in {wanted} under data.root {str(root)!r}; data.images names another "
        "folder"
    )


def _labels(places: list[Path], names: list[str], used: set[str], edition: str) -> tuple[np.ndarray, str]:
    """(n, 14) float32 in the order of `names`, and their edition; a film that is not `used` may have no row."""
    found = tables.find(places, TABLES)
    if not found:
        where = ", ".join(str(folder) for folder in places)
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
            hint = folders.like(name, table)
            raise UserError(f"{path} has no row for the film {name}; expected one for each film used{hint}")
    return np.array([table.get(name, unknown) for name in names], np.float32), edition


def _from_findings(path: Path) -> dict[str, list[float]]:
    out = []
    seen: dict[str, list[float]] = {}  # 112,120 films have a few hundred different cells
    for row in tables.rows(path, ("Image Index", "Finding Labels")):
        cell = row["Finding Labels"].strip()
        if cell not in seen:
            found = cell.split("|")
            for name in found:
                if name not in CHESTXRAY14 and name != NO_FINDING:
                    _unknown(path, row["Image Index"], name)
            seen[cell] = [float(name in found) for name in CHESTXRAY14]
        out.append((row["Image Index"].strip(), seen[cell]))
    return tables.once(path, out)


def _from_columns(path: Path) -> dict[str, list[float]]:
    unknown = float("nan")  # one object, so that equal rows are equal
    values = {"": unknown, "nan": unknown, "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
    out = []
    for row in tables.rows(path, ("Image Index", *CHESTXRAY14)):
        for name in CHESTXRAY14:
            if row[name].strip().lower() not in values:
                raise UserError(f"{path}: {row['Image Index']} has {row[name]!r} in {name}; expected 0, 1 or nothing")
        out.append((row["Image Index"].strip(), [values[row[name].strip().lower()] for name in CHESTXRAY14]))
    return tables.once(path, out)


def _patients(places: list[Path], names: list[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Each film's patient, as eight digits where it is a number, "" where the column is there and says nothing; and
    age (as text, in years or nan), sex and view."""
    found = tables.find(places, TABLES)
    header = tables.header(found[0]) if found else []
    told = [next((name for name in ways if name in header), "") for ways in WHO]
    column: dict[str, tuple[str, tuple[str, str, str]]] = {}
    if found and (PATIENT in header or any(told)):
        rows = tables.rows(found[0], ("Image Index", *({PATIENT} & {*header}), *filter(None, told)))
        column = tables.once(found[0], ((row["Image Index"].strip(), _who(found[0], row, told)) for row in rows))
    out = []
    for name in names:
        match = NAME.match(name)
        if not match and (name not in column or PATIENT not in header):
            what = (
                f"the column {PATIENT!r} in {found[0]}" if found else f"a table {TABLES[0]} with a column {PATIENT!r}"
            )
            raise UserError(
                f"nothing tells the patient of {name}, which is not of NIH's form 00000001_000.png; add {what}, with "
                "an empty cell where the patient is unknown"
            )
        who = column.get(name, ("",))[0] or (splits.patient_id(match[1]) if match else "")
        out.append(who.zfill(8) if who.isdigit() else who)
    return out, [column[name][1] if name in column else ("nan", "", "") for name in names]


def _who(table: Path, row: Mapping[str, str], told: list[str]) -> tuple[str, tuple[str, str, str]]:
    """The patient; age, sex and view."""
    age, sex, view = (row.get(name, "") for name in told)
    try:
        return splits.patient_id(row.get(PATIENT, "")), (str(years(age)), sex_of(sex), word(view).upper())
    except ValueError as error:
        raise UserError(f"{table}: the age of {row['Image Index']}: {error}") from None


def _unknown(path: Path, film: str, name: str) -> None:
    known = [*CHESTXRAY14, NO_FINDING]
    hint = did_you_mean(name, known) or f"; known are {', '.join(known)}"
    raise UserError(f"{path}: {film} has the finding {name!r}, which is not one of ChestX-ray14{hint}")


def _hold_out(
    names: list[str],
    whose: list[str],
    chosen: np.ndarray,
    given: np.ndarray,
    labels: np.ndarray,
    shares: dict[str, float],
    seed: int,
) -> np.ndarray:
    """Parts of the chosen films by shares of their patients, not of the films; the rest of them becomes train."""
    pool = np.flatnonzero(chosen)
    own = [who or f"film:{name}" for who, name in zip(whose, names, strict=True)]
    patients = sorted({own[i] for i in pool})
    row = {patient: i for i, patient in enumerate(patients)}
    of_patient = np.full((len(patients), labels.shape[1]), np.nan, np.float32)
    at = np.array([row[own[i]] for i in pool])
    np.fmax.at(of_patient, at, labels[pool])
    side = splits.carve(patients, of_patient, shares, seed=seed)
    out = given.copy()
    out[pool] = side[at]
    return out


def _boxes(places: list[Path], films: Mapping[str, Path]) -> dict[str, list[Box]]:
    """Boxes by film, in fractions of the side."""
    found = tables.find(places, ["BBox_List_2017*.csv", "bbox_1024px.csv"])
    out: dict[str, list[Box]] = {}
    for row in tables.cells(found[0]) if found else ():
        try:
            film, finding = row[0].strip(), {"Infiltrate": "Infiltration"}.get(row[1], row[1])
            x, y, width, height = (float(value) for value in row[2:6])
        except (IndexError, ValueError):
            raise UserError(f"{found[0]}: {','.join(row)!r} is not film, finding, x, y, w, h") from None
        if finding not in CHESTXRAY14:
            _unknown(found[0], film, finding)
        corners = [min(max(value / BOX_SIDE, 0.0), 1.0) for value in (x, y, x + width, y + height)]
        out.setdefault(film, []).append((finding, corners[0], corners[1], corners[2], corners[3]))
    # Films may be a sample of those with boxes; one that is here under another form of its name is a mistake.
    form = folders.FORMS["suffix"]
    near = {form(name) for name in films}
    if lost := [film for film in out if film not in films and form(film) in near]:
        raise UserError(f"{found[0]}: {len(lost)} films with boxes are not here{folders.like(lost[0], films)}")
    return out
