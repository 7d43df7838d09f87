"""Four classes from Kaggle: "Chest X-Ray (Pneumonia, Covid-19, Tuberculosis)", a mix of children's and adult films."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import splits, tables
from cxrjax.data.source import Record, Source, choice, content, digest, existing, films_in, stamp
from cxrjax.data.sources import kermany
from cxrjax.errors import did_you_mean
from cxrjax.types import UserError

LABEL_VERSION = "kaggle4-1"
COLUMNS = ("COVID-19", "Pneumonia", "Tuberculosis")
SPLITS = ("archive", "random_8_2")
PARTS = ("train", "val", "test")
# The archive's own spelling of the last folder is TURBERCULOSIS.
FOLDERS = {
    "COVID19": "COVID-19",
    "COVID-19": "COVID-19",
    "NORMAL": "",
    "PNEUMONIA": "Pneumonia",
    "TURBERCULOSIS": "Tuberculosis",
    "TUBERCULOSIS": "Tuberculosis",
}
TEST_SHARE = 0.2
CONFOUNDED = (
    "class is confounded with source: normal and pneumonia films are children's, COVID-19 and tuberculosis adults' "
    "from other collections, so the scores partly measure where a film comes from"
)
# How the public COVID-19 collection (Cohen et al. 2020) names the films of one patient: a stem and the day, the view or
# a letter. Joining too much costs nothing here; joining too little would leak.
SERIES = (
    re.compile(r"(.+?[-_]?\d+)[-_]day-?\d+.*", re.I),
    re.compile(r"(.+)-(?:admission|\d+-(?:hours?|days?|weeks?))", re.I),
    re.compile(r"(covid-19-caso-\d+)-.+", re.I),
    re.compile(r"(\d{5})_\d+_\d+.*"),
    re.compile(r"(.+?)[-_](?:PA|AP|APS|L|lateral|left|right)", re.I),
    re.compile(r"(.*\d)-?[a-h]", re.I),
    re.compile(r"(.+)-[a-h]", re.I),
)


def source(data: Any) -> Source:
    """The tree `root/{train,test[,val]}/{COVID19,NORMAL,PNEUMONIA,TURBERCULOSIS or TUBERCULOSIS}`.

    `data.split`: "archive" keeps the archive's test folder and carves `data.carve.val` of train and val together, by
    patient, into a new val; "random_8_2" pools everything and carves a fifth into test, then `data.carve.val` of the
    rest into val, by patient and class.

    Patients are known by `data.patients_csv`, a CSV with columns path (relative to the CSV) and patient; a
    `MANIFEST.csv` in the root or next to it is found by itself. They are also known by file names: children's as in
    `kermany`, joined with what the CSV says, and COVID-19 films of one stem where the CSV says nothing. Children's
    numbers are read with the germ across the archive's two sides: Kaggle's test has person1_virus, which is not the
    person1_bacteria of train. A patient on both sides of the archive is an error where `data.overlap` is "stop"; "drop"
    leaves such patients' training films out and says how many.

    Raises:
      UserError: no such tree, an unknown or missing class folder, a patient on both sides.
    """
    root = existing(data.root, "the Kaggle folder with train/COVID19, train/NORMAL, train/PNEUMONIA in it")
    split = choice(data, "split", SPLITS)
    found = [film for part in PARTS if (root / part).is_dir() for film in _part(root, part)]
    if missing := {"train", *(("test",) if split == "archive" else ())} - {part for part, _, _ in found}:
        raise UserError(
            f"data.root {str(root)!r} has no folder {' and '.join(sorted(missing))}/ with class folders in it"
        )
    paths = [path for _, _, path in found]
    names = [path.relative_to(root).as_posix() for path in paths]
    labels = np.array([[float(name == finding) for name in COLUMNS] for _, finding, _ in found], np.float32)  # (n, 3)
    given = np.array(["test" if split == "archive" and part == "test" else "train" for part, _, _ in found], object)
    patients = np.array(_patients(root, data, paths, given), object)

    warnings = [CONFOUNDED]
    if split == "archive":
        shared = _shared(patients, given, choice(data, "overlap", ("stop", "drop")))
        lost = (given == "train") & np.isin(patients, shared)
        if lost.any():
            warnings.append(
                f"{len(shared)} patients are on both sides of the archive: {lost.sum()} training films of theirs were "
                "left out (data.overlap)"
            )
            given[lost] = "lost"
    seed = int(data.seed)
    for share in ({"test": TEST_SHARE} if split == "random_8_2" else {}, {"val": float(data.carve.val)}):
        pool = np.flatnonzero(given == "train")
        given[pool] = splits.carve(patients[pool].tolist(), labels[pool], share, seed=seed)
    order = sorted(np.flatnonzero(given != "lost"), key=lambda i: (splits.ORDER.index(given[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in order:
            yield Record(names[i], str(given[i]), str(patients[i]), labels[i], paths[i])

    facts = content([[names[i], str(given[i]), str(patients[i])] for i in order])
    fingerprint = digest({"labels": LABEL_VERSION, "facts": facts}, [(names[i], stamp(paths[i].stat())) for i in order])
    counts = {name: int((given == name).sum()) for name in splits.ORDER if (given == name).any()}
    return Source("kaggle4", COLUMNS, LABEL_VERSION, fingerprint, records, False, counts, tuple(warnings))


def _part(root: Path, part: str) -> list[tuple[str, str, Path]]:
    """(part, column or "" for normal, film) of every film; the tiny val of the archive may lack a class."""
    out = []
    classes = set()
    for folder in sorted(p for p in (root / part).iterdir() if p.is_dir() and not p.name.startswith(".")):
        if folder.name.upper() not in FOLDERS:
            hint = did_you_mean(folder.name.upper(), FOLDERS)
            raise UserError(f"{str(folder)!r} is no class of this set: expected {', '.join(FOLDERS)}{hint}")
        finding = FOLDERS[folder.name.upper()]
        if films := sorted(films_in(folder)):
            classes.add(finding)
            out += [(part, finding, film) for film in films]
    if lost := {*COLUMNS, ""} - classes if part != "val" else set():
        names = [next(folder for folder, finding in FOLDERS.items() if finding == name) for name in sorted(lost)]
        raise UserError(f"{str(root / part)!r} holds no .jpeg, .jpg or .png film of class {', '.join(names)}")
    return out


def _patients(root: Path, data: Any, paths: list[Path], given: np.ndarray) -> list[str]:
    listed = _listed(root, str(data.get("patients_csv", "") or ""))
    children = {(m[1].lower(), m[2].lower()) for path, part in zip(paths, given, strict=True)
                if part == "train" and (m := kermany.PNEUMONIA_NAME.match(path.name))}  # fmt: skip
    named = []
    for path, part in zip(paths, given, strict=True):
        match = kermany.PNEUMONIA_NAME.match(path.name)
        if match and part == "test" and (match[1].lower(), match[2].lower()) not in children:
            named.append(f"test-{match[1].lower()}")
        elif match:
            named.append(match[1].lower())
        elif match := kermany.NORMAL_NAME.match(path.name):
            named.append(match[1].upper())
        else:
            guess = FOLDERS[path.parent.name.upper()] == "COVID-19" and path.resolve() not in listed
            named.append(_series(path) if guess else "")
    return splits.joined([(listed.get(path.resolve(), ""), who) for path, who in zip(paths, named, strict=True)])


def _series(path: Path) -> str:
    """The stem that a COVID-19 film shares with others of its patient, "" where the name tells nothing."""
    for pattern in SERIES:
        if match := pattern.fullmatch(path.stem.removeprefix("coh_")):
            return f"series {match[1].lower()}"
    return ""


def _listed(root: Path, given: str) -> dict[Path, str]:
    """Patients by film from a CSV, if there is one."""
    if given:
        path = existing(given, "a CSV with columns path and patient", "data.patients_csv")
    else:
        path = next((p for p in (root / "MANIFEST.csv", root.parent / "MANIFEST.csv") if p.is_file()), Path())
        if not path.is_file():
            return {}
    base = path.resolve().parent
    return {
        base / row["path"]: f"csv {row['patient']}" for row in tables.rows(path, ("path", "patient")) if row["patient"]
    }


def _shared(patients: np.ndarray, given: np.ndarray, overlap: str) -> list[str]:
    sides = {side: set(patients[given == side]) - {""} for side in ("train", "test")}
    if overlap == "stop":
        try:
            splits.check_disjoint(sides)
        except UserError as error:
            raise UserError(f"{error}; data.overlap='drop' leaves out their training films") from None
    return sorted(sides["train"] & sides["test"])
