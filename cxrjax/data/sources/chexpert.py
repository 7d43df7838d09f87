"""CheXpert (Irvin et al. 2019): the frontal films of the whole or small set, or of its labeled parts alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders
from cxrjax.data.labels import NORMAL
from cxrjax.data.patients import sex, word, years
from cxrjax.data.sources import cells, listed, tables
from cxrjax.data.sources.base import Record, Source, choice, existing
from cxrjax.errors import UserError

# The set's names, and the library's.
FINDINGS = {
    "Enlarged Cardiomediastinum": "Enlarged Cardiomediastinum",
    "Cardiomegaly": "Cardiomegaly",
    "Lung Opacity": "Lung Opacity",
    "Lung Lesion": "Lung Lesion",
    "Edema": "Edema",
    "Consolidation": "Consolidation",
    "Pneumonia": "Pneumonia",
    "Atelectasis": "Atelectasis",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Effusion",
    "Pleural Other": "Pleural Other",
    "Fracture": "Fracture",
    "Support Devices": "Support Devices",
}
COLUMNS = (*FINDINGS.values(), NORMAL)  # Normal is a column: a film of a device alone is No Finding
# Tables as they are called in the several editions, by part.
TABLES = {
    "train": ("train.csv",),
    "val": ("valid.csv", "val.csv", "val_labels.csv"),
    "test": ("test.csv", "test_labels.csv", "groundtruth.csv"),
}
POLICIES = {"mask": "U-ignore", "zero": "U-zero", "one": "U-one"}
SPLITS = ("official", "carve")
PLACE = re.compile(r"(?:^|/)((?:train|valid|val|test)/.*)")
PATIENT = re.compile(r"patient\d+")
WHAT = "the CheXpert folder with train.csv or valid.csv and the folders train/, valid/ in it"


def source(data: Any) -> Source:
    """The frontal films that `train.csv`, `valid.csv` and `test.csv` (or `test_labels.csv`) under `data.root` list.

    Any of these may be missing: the radiologists' validation or test part makes a set by itself. Paths are read from
    `train/`, `valid/` or `test/` on, whatever stands before. `data.uncertain` is the policy for -1: "mask" (U-ignore),
    "zero" (U-zero), "one" (U-one). A blank is absent where the film has any mention, and unknown otherwise. Pleural
    Effusion is Effusion; No Finding is Normal. `data.split` is "official", where the validation part is the test part
    if there is no other and val is carved from train; or "carve": all films by patient (`data.carve`).

    Raises:
      UserError: no table, or a cell that is no label.
    """
    root = existing(data.root, WHAT)
    split, uncertain = choice(data, "split", SPLITS), choice(data, "uncertain", tuple(POLICIES))
    found = {part: table for part, names in TABLES.items() if (table := next(iter(tables.find([root], names)), None))}
    if not found:
        raise UserError(f"no train.csv, valid.csv or test.csv in {str(root)!r}; expected {WHAT}")
    films, lateral, edition = [], 0, "CheXpert"
    for part, table in found.items():
        kept, rows = _rows(table)
        lateral += rows - len(kept)
        labels = _labels(table, kept, cells.UNCERTAIN[uncertain])
        given = {"official": "test" if part == "val" and "test" not in found else part, "carve": "train"}[split]
        for i, (key, row) in enumerate(kept.items()):
            edition = next((name for name in Path(row["Path"]).parts if name.startswith("CheXpert-")), edition)
            films.append(_record(root, key, row, given, labels[i]))
    return listed.source(
        "chexpert", data, films, COLUMNS, f"{edition}-{POLICIES[uncertain]}", classes=(*FINDINGS.values(),),
        warnings=[f"{lateral} lateral films were left out"] if lateral else [],
    )  # fmt: skip


def _rows(table: Path) -> tuple[dict[str, dict[str, str]], int]:
    """The frontal films by path, and how many are listed."""
    out: dict[str, dict[str, str]] = {}
    count = 0
    for row in tables.rows(table, ("Path", *FINDINGS, "No Finding")):
        count += 1
        path = folders.plain(row["Path"])
        match = PLACE.search(path)
        key = match[1] if match else path
        view = row.get("Frontal/Lateral", "") or os.path.basename(key)
        if "lateral" not in view.lower() and out.setdefault(key, row) != row:
            raise UserError(f"{table} lists {key} twice and differently; expected it once")
    return out, count


def _labels(table: Path, films: dict[str, dict[str, str]], uncertain: float) -> np.ndarray:
    """(n, 14) float32."""
    names = (*FINDINGS, "No Finding")
    said = {key: [row[name] for name in names] for key, row in films.items()}
    known = {cells.form(name): name for name in names}  # Normal is no more than a column here
    values = cells.of_columns(said, names, known, uncertain, str(table)).values
    blank = np.array([[not cell.strip() for cell in row] for row in said.values()], bool).reshape(values.shape)
    mentioned = ~blank.all(axis=1, keepdims=True)
    return np.where(blank & mentioned, np.float32(0), values)


def _record(root: Path, key: str, row: dict[str, str], part: str, labels: np.ndarray) -> Record:
    patient = PATIENT.search(key)
    try:
        age = years(row.get("Age", ""))
    except ValueError as error:
        raise UserError(f"the age of {key}: {error}") from None
    return Record(
        key, part, patient[0] if patient else "", labels, root / key, age=age, sex=sex(row.get("Sex", "")),
        view=word(row.get("AP/PA", "")).upper(),
    )  # fmt: skip
