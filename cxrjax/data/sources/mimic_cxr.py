"""MIMIC-CXR-JPG 2.0 (Johnson et al. 2019): frontal films with labels mined from the reports."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.sources import tables
from cxrjax.data.sources.base import Record, Source, choice, content, digest, existing
from cxrjax.errors import UserError

# The seven findings that both label sets know; the other seven of ChestX-ray14 are unknown on these films.
MAPPED = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Pleural Effusion": "Effusion",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
UNCERTAIN = {"mask": np.nan, "zero": 0.0, "one": 1.0}
KEYS = ("subject_id", "study_id")
FRONTAL = ("AP", "PA")
SPLITS = ("official", "carve")
OFFICIAL = {"train": "train", "validate": "val", "test": "test"}
WHAT = "the MIMIC-CXR-JPG folder with files/ and mimic-cxr-2.0.0-metadata.csv.gz in it"


def source(data: Any) -> Source:
    """One frontal film a study from `data.root`, with the columns of ChestX-ray14.

    Reads `mimic-cxr-2.0.0-{metadata,split}.csv` and the labels of `data.labeler` ("chexpert" or "negbio"), each as
    .csv or .csv.gz, and `files/p10/p10000032/s50414267/DICOM.jpg`. Of each study one AP or PA film is chosen by
    `data.seed`; of the studies, in seeded order, the first `data.limit` (0 for all).

    Seven findings are mapped (Pleural Effusion is Effusion); the other seven columns are unknown. An uncertain mention
    is unknown, absent or present by `data.uncertain` ("mask", "zero", "one"). A blank is absent where the study has
    any mention or No Finding, and unknown otherwise. `data.split` is "official", or "carve" (`data.carve` by patient).

    Raises:
      UserError: a table, a column or a film is missing, or a label is no number of the label set.
    """
    split = choice(data, "split", SPLITS)
    carve = {name: float(data.carve[name]) for name in ("val", "test")} if split == "carve" else None
    return read(existing(data.root, WHAT), data, int(data.get("limit", 0) or 0), carve)


def read(root: Path, data: Any, limit: int, carve: Mapping[str, float] | None) -> Source:
    """`source` for the folder `root`: at most `limit` films (0 for all); official splits, or shares to carve."""
    labeler = choice(data, "labeler", ("chexpert", "negbio"))
    uncertain = choice(data, "uncertain", tuple(UNCERTAIN))
    if limit < 0:
        raise UserError(f"data.limit is {limit}: expected a number of films, or 0 for all")
    table = _labels(_table(root, labeler), UNCERTAIN[uncertain])
    films, views = _films(root, data, table, int(data.seed))
    chosen = films[: limit or None]
    names = [f"p{subject}/s{study}/{dicom}" for subject, study, dicom in chosen]
    paths = [_path(root, *film) for film in chosen]
    warnings = []
    if limit and len(chosen) < limit:
        warnings.append(f"data.limit asks for {limit:,} films and only {len(chosen):,} studies have one")
    if missing := [path for path in paths if not path.is_file()]:
        raise UserError(
            f"{missing[0]} does not exist ({len(missing):,} of {len(paths):,} films are missing)"
            + (folders.like_path(missing[0]) or "; add them, or set data.present_only=True to use a sample of the set")
        )
    if not chosen:
        raise UserError(f"no frontal film with labels is listed under {str(root)!r} and here")
    if data.get("present_only", False):
        warnings.append(f"a sample of the set: {len(films):,} studies have a frontal film here")
    patients = [f"mimic{subject}" for subject, _, _ in chosen]
    labels = np.stack([table[subject, study] for subject, study, _ in chosen])  # (n, 14)
    if carve is None:
        given = _official(root, chosen)
    else:
        given = splits.carve(patients, labels, carve, seed=int(data.seed)).astype(object)
    order = sorted(range(len(names)), key=lambda i: (splits.ORDER.index(given[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in order:
            yield Record(names[i], str(given[i]), patients[i], labels[i], paths[i], view=views[chosen[i][2]])

    facts = content([[names[i], str(given[i]), views[chosen[i][2]]] for i in order], labels[order])
    version = f"mimic-cxr-jpg-2.0.0-{labeler}-{uncertain}"
    stamps = folders.stamps([names[i] for i in order], [paths[i] for i in order])
    fingerprint = digest({"labels": version, "facts": facts}, stamps)
    counts = {name: int((given == name).sum()) for name in splits.ORDER if (given == name).any()}
    return Source("mimic_cxr", CHESTXRAY14, version, fingerprint, records, False, counts, tuple(warnings))


def _table(root: Path, kind: str) -> Path:
    found = tables.find([root], [f"mimic-cxr-2.0.0-{kind}.csv"])
    if not found:
        raise UserError(f"no mimic-cxr-2.0.0-{kind}.csv (or .gz) in {str(root)!r}; expected {WHAT}")
    return found[0]


def _path(root: Path, subject: str, study: str, dicom: str) -> Path:
    return root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg"


def _films(root: Path, data: Any, table: Mapping, seed: int) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """(subject, study, film): one labeled frontal film a study, studies in seeded order; and every film's view."""

    def draw(*names: str) -> str:
        return hashlib.sha256("/".join([str(seed), *names]).encode()).hexdigest()

    by_study: dict[tuple[str, str], list[str]] = defaultdict(list)
    present_only = bool(data.get("present_only", False))
    path = _table(root, "metadata")
    rows = tables.rows(path, ("dicom_id", "ViewPosition", *KEYS))
    listed = tables.once(
        path, ((row["dicom_id"].strip(), (_key(row), row["ViewPosition"].strip().upper())) for row in rows)
    )
    for dicom, (key, view) in listed.items():
        if view in FRONTAL and key in table and (not present_only or _path(root, *key, dicom).is_file()):
            by_study[key].append(dicom)
    chosen = [(*key, min(films, key=lambda film: draw(*key, film))) for key, films in by_study.items()]
    return sorted(chosen, key=lambda film: draw(film[0], film[1])), {film: view for film, (_, view) in listed.items()}


def _labels(path: Path, uncertain: float) -> dict[tuple[str, str], np.ndarray]:
    """(14,) float32 by study."""
    values = {"1": 1.0, "0": 0.0, "-1": uncertain}
    out: dict[tuple[str, str], np.ndarray] = {}
    for row in tables.rows(path, (*KEYS, "No Finding", *MAPPED)):
        cells = {name: text.strip().removesuffix(".0") for name, text in row.items() if name not in KEYS}
        blank = 0.0 if any(cells.values()) else np.nan  # No Finding counts as a mention
        labels = np.full(len(CHESTXRAY14), np.nan, np.float32)
        for theirs, ours in MAPPED.items():
            if cells[theirs] not in ("", *values):
                raise UserError(f"{path}: study {row['study_id']} has {row[theirs]!r} in {theirs}; expected 1, 0 or -1")
            labels[CHESTXRAY14.index(ours)] = values.get(cells[theirs], blank)
        if not np.array_equal(out.setdefault(_key(row), labels), labels, equal_nan=True):
            raise UserError(f"{path} lists study {row['study_id']} twice and differently; expected it once")
    return out


def _key(row: Mapping[str, str]) -> tuple[str, str]:
    return splits.patient_id(row["subject_id"]), splits.patient_id(row["study_id"])


def _official(root: Path, films: list[tuple[str, str, str]]) -> np.ndarray:
    path = _table(root, "split")
    rows = tables.rows(path, ("dicom_id", "split"))
    split = tables.once(path, ((row["dicom_id"].strip(), row["split"].strip()) for row in rows))
    for _, _, film in films:
        if split.get(film) not in OFFICIAL:
            raise UserError(f"{path}: film {film} is in split {split.get(film)!r}; expected {', '.join(OFFICIAL)}")
    return np.array([OFFICIAL[split[film]] for _, _, film in films], object)
