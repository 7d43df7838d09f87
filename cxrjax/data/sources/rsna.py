"""The RSNA pneumonia challenge (Shih et al. 2019): DICOM films of ChestX-ray14, with boxes of lung opacity."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import dicom
from cxrjax.data.limits import CorruptFilm
from cxrjax.data.sources import listed, tables
from cxrjax.data.sources.base import Box, Record, Source, existing
from cxrjax.errors import UserError, lookup

OTHER = "Other abnormality"
COLUMNS = ("Pneumonia", OTHER)
CLASSES = {"Normal": 0.0, "No Lung Opacity / Not Normal": 1.0, "Lung Opacity": 0.0}
SIDE = 1024.0  # of every film, in whose pixels boxes are given
WHAT = "the challenge's folder with stage_2_train_labels.csv and stage_2_train_images/ in it"
NO_PATIENTS = (
    "an id of this set is one film's: without pneumonia-challenge-dataset-mappings_2018.json, which names NIH's film, "
    "a person may be in two parts"
)


def source(data: Any) -> Source:
    """The labeled films of stage 2 under `data.root`, with their boxes.

    Reads `stage_2_train_labels.csv` (a box a row; Target 1 is pneumonia), `stage_2_train_images/ID.dcm`, and, where it
    is there, `stage_2_detailed_class_info.csv`, which tells normal films from those of another abnormality (unknown
    without it), and the challenge's mapping to ChestX-ray14, which tells the patients. All parts are carved by patient
    (`data.carve`). Age, sex and view come from the headers.

    Raises:
      UserError: no table, or a row that says two things.
    """
    root = existing(data.root, WHAT)
    found = tables.find([root], ["stage_2_train_labels.csv"])
    if not found:
        raise UserError(f"no stage_2_train_labels.csv in {str(root)!r}; expected {WHAT}")
    target, boxes = _boxes(found[0])
    details = next(iter(tables.find([root], ["stage_2_detailed_class_info.csv"])), None)
    other = _classes(details) if details else {}
    patients = _patients(root)
    films = []
    for key, sick in target.items():
        labels = np.array([sick, 0.0 if sick else other.get(key, np.nan)], np.float32)
        place = root / "stage_2_train_images" / f"{key}.dcm"
        films.append(Record(key, "train", patients.get(key, ""), labels, place, boxes=tuple(boxes[key])))
    version = "rsna-pneumonia-stage-2" + ("" if details else "-without-classes")
    return listed.source(
        "rsna", data, films, COLUMNS, version, finish=with_header, warnings=[] if patients else [NO_PATIENTS]
    )


def with_header(record: Record) -> Record:
    """A record with what its DICOM header tells of age, sex and view."""
    try:
        told = dicom.who(record.film, b"") if dicom.is_dicom(record.film) else None  # type: ignore[arg-type]
    except CorruptFilm:  # told where films are read
        told = None
    return record._replace(age=told.age, sex=told.sex, view=told.view) if told else record


def _boxes(table: Path) -> tuple[dict[str, float], dict[str, list[Box]]]:
    """Whether a film shows pneumonia, and its boxes, by film."""
    target: dict[str, float] = {}
    boxes: dict[str, list[Box]] = defaultdict(list)
    for row in tables.rows(table, ("patientId", "x", "y", "width", "height", "Target")):
        key, sick = row["patientId"].strip(), lookup({"0": 0.0, "1": 1.0}, row["Target"].strip(), f"{table}: Target")
        if target.setdefault(key, sick) != sick:
            raise UserError(f"{table} says both Target 0 and 1 of {key}")
        if sick:
            try:
                x, y, width, height = (float(row[name]) / SIDE for name in ("x", "y", "width", "height"))
            except ValueError:
                raise UserError(f"{table}: the box of {key} is no four numbers") from None
            boxes[key].append(("Pneumonia", x, y, min(x + width, 1.0), min(y + height, 1.0)))
    return target, boxes


def _classes(table: Path) -> dict[str, float]:
    rows = tables.rows(table, ("patientId", "class"))
    return tables.once(
        table, ((row["patientId"].strip(), lookup(CLASSES, row["class"].strip(), f"{table}: class")) for row in rows)
    )


def _patients(root: Path) -> dict[str, str]:
    """NIH's patient by film, where the mapping is there."""
    path = root / "pneumonia-challenge-dataset-mappings_2018.json"
    if not path.is_file():
        return {}
    try:
        return {entry["subset_img_id"]: f"nih{entry['img_id'][:8]}" for entry in json.loads(path.read_text())}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no list of img_id and subset_img_id ({type(error).__name__})") from None
