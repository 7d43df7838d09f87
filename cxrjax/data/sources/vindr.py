"""VinDr-CXR (Nguyen et al. 2022): films read by several radiologists, from PhysioNet or the VinBigData challenge."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxrjax.data import decode, splits
from cxrjax.data.labels import NORMAL
from cxrjax.data.limits import CorruptFilm
from cxrjax.data.sources import cells, listed, tables
from cxrjax.data.sources.base import Record, Source, choice, existing
from cxrjax.data.sources.rsna import with_header
from cxrjax.errors import UserError

SUFFIXES = (".dicom", ".dcm", ".png", ".jpg")
AGREE = ("majority", "any", "all")
CORNERS = ("x_min", "y_min", "x_max", "y_max")
# What the two editions call one thing, by its form, beside the library's own names.
NAMES = {"pleuraleffusion": "Effusion", "pulmonaryfibrosis": "Fibrosis", "otherdiseases": "Other disease"}
WHAT = "the VinDr-CXR folder with train/ and annotations/ (PhysioNet) or train/ and train.csv (VinBigData) in it"
Place = tuple[str, tuple[float, float, float, float]]


class Read(NamedTuple):
    """What the radiologists say of one part: findings by film and reader, and boxes by film in pixels."""

    readers: dict[str, dict[str, set[str]]]
    boxes: dict[str, list[Place]]
    names: set[str]


def source(data: Any) -> Source:
    """The labeled films under `data.root`, DICOM or PNG, with the boxes of every reader.

    PhysioNet: `{train,test}/ID.dicom`, `annotations/image_labels_{train,test}.csv` (a reader a row; of the test part
    the consensus) and `annotations/annotations_{train,test}.csv` (a box a row). VinBigData: `train/ID.dicom` and
    `train.csv` (a reader's box a row), whose test part has no labels. A finding is present where a majority of the
    film's readers say so; `data.agree` "any" or "all" asks for one or for all of them. The boxes are those of all
    readers, of findings that are present. They are in pixels of the original: for PNG of another size, `width` and
    `height` in the table, or `train_meta.csv` (image_id, dim0, dim1), tell it. The set names no patients. Missing parts
    are carved from train (`data.carve`).

    Raises:
      UserError: no table, or a box that is no numbers.
    """
    root = existing(data.root, WHAT)
    agree = choice(data, "agree", AGREE)
    parts = {part: found for part in ("train", "test") if (found := _read(root, part))}
    if "train" not in parts:
        raise UserError(f"no labels of train/ in {str(root)!r}; expected {WHAT}")
    names = set().union(*(found.names for found in parts.values())) - {NORMAL}
    columns = (*sorted(names), NORMAL)
    sizes = _sizes(root)
    films, boxes = [], {}
    for part, found in parts.items():
        for key, readers in found.readers.items():
            votes = np.array([[name in said for name in columns] for said in readers.values()]).sum(axis=0)  # (k,)
            least = {"any": 1, "all": len(readers), "majority": len(readers) // 2 + 1}[agree]
            present = votes >= least
            paths = [root / part / f"{key}{suffix}" for suffix in SUFFIXES]
            path = next((path for path in paths if path.is_file()), paths[0])
            films.append(Record(f"{part}/{key}", part, "", present.astype(np.float32), path))
            there = {name for name, yes in zip(columns, present, strict=True) if yes}
            boxes[f"{part}/{key}"] = [box for box in found.boxes.get(key, ()) if box[0] in there]
    told = {key: (found, sizes.get(key.partition("/")[2])) for key, found in boxes.items() if found}
    return listed.source(
        "vindr", data, films, columns, f"vindr-cxr-1.0.0-{agree}", finish=partial(_finished, told),
        decides=[agree, told], classes=columns[:-1],
    )  # fmt: skip


def _finished(boxes: Mapping[str, tuple[list[Place], tuple[float, float] | None]], record: Record) -> Record:
    """A record with what its header tells, and its boxes in fractions of the original's sides."""
    record = with_header(record)
    if record.key not in boxes:
        return record
    found, size = boxes[record.key]
    try:
        height, width = size or decode.shape(record.film)  # type: ignore[arg-type]
    except CorruptFilm:  # told where films are read
        return record
    sides = (width, height, width, height)
    out = []
    for name, corners in found:
        x0, y0, x1, y1 = (min(max(value / side, 0.0), 1.0) for value, side in zip(corners, sides, strict=True))
        out.append((name, x0, y0, x1, y1))
    return record._replace(boxes=tuple(out))


def _read(root: Path, part: str) -> Read | None:
    """What is said of a part; None where nothing is."""
    labels = next(iter(tables.find([root / "annotations", root], [f"image_labels_{part}.csv"])), None)
    place = next(iter(tables.find([root / "annotations", root], [f"annotations_{part}.csv", f"{part}.csv"])), None)
    if labels is None and (place is None or "class_name" not in tables.header(place)):
        return None
    out = Read(defaultdict(dict), defaultdict(list), set())
    if labels is not None:
        findings = [name for name in tables.header(labels) if name not in ("image_id", "rad_id", "rad_ID", "")]
        out.names.update(map(_name, findings))
        for row in tables.rows(labels, ("image_id", *findings)):
            said = {_name(name) for name in findings if row[name].strip() in ("1", "1.0")}
            out.readers[row["image_id"].strip()][_reader(row)] = said
    if place is not None:
        for row in tables.rows(place, ("image_id", "class_name")):
            key, name = row["image_id"].strip(), _name(row["class_name"])
            if labels is None:
                out.names.add(name)
                out.readers[key].setdefault(_reader(row), set()).add(name)
            if not splits.is_nothing(row.get("x_min", "")):
                try:
                    x0, y0, x1, y1 = (float(row[corner]) for corner in CORNERS)
                except (KeyError, ValueError):
                    raise UserError(f"{place}: a box of {key} is no four numbers in {', '.join(CORNERS)}") from None
                out.boxes[key].append((name, (x0, y0, x1, y1)))
    return out


def _reader(row: Mapping[str, str]) -> str:
    return (row.get("rad_id") or row.get("rad_ID") or "").strip()


def _name(name: str) -> str:
    plain = re.sub(r"\s+", " ", name.strip())
    return NAMES.get(cells.form(plain)) or cells.spellings(()).get(cells.form(plain), plain)


def _sizes(root: Path) -> dict[str, tuple[float, float]]:
    """(height, width) of the originals, where a table tells."""
    out = {}
    for table in tables.find([root], ["train_meta.csv", "test_meta.csv", "train.csv"]):
        ways = [pair for pair in (("dim0", "dim1"), ("height", "width")) if set(pair) <= set(tables.header(table))]
        for row in tables.rows(table, ("image_id", *ways[0])) if ways else ():
            out[row["image_id"].strip()] = (float(row[ways[0][0]]), float(row[ways[0][1]]))
    return out
