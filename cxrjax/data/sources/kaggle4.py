"""Four classes from Kaggle: "Chest X-Ray (Pneumonia, Covid-19, Tuberculosis)", a mix of children's and adult films."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.sources import kermany, patients_csv
from cxrjax.data.sources.base import Record, Source, choice, content, digest, existing
from cxrjax.errors import UserError

LABEL_VERSION = "kaggle4-1"
COLUMNS = ("COVID-19", "Pneumonia", "Tuberculosis")
SPLITS = ("archive", "random_8_2")
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
    """The tree `root/{train,test[,val]}/{COVID19,NORMAL,PNEUMONIA,TURBERCULOSIS or TUBERCULOSIS}/` of films.

    `data.split`: "archive" keeps the archive's test folder and carves `data.carve.val` of train and val together, by
    patient, into a new val; "random_8_2" pools everything, where either folder may be missing, and carves a fifth into
    test, then `data.carve.val` of the rest into val, by patient and class.

    Patients are known by `data.patients_csv`, a CSV with columns path (relative to the CSV, the root or the folder
    above it) and patient; a `MANIFEST.csv` in the root or next to it is found by itself. A path may differ from the
    film's in `\\`, case, suffix or Unicode form. They are also known by file names: children's as in
    `kermany`, joined with what the CSV says, and COVID-19 films of one stem where the CSV says nothing. Children's
    numbers are read with the germ across the archive's two sides: Kaggle's test has person1_virus, which is not the
    person1_bacteria of train. A patient on both sides of the archive is an error where `data.overlap` is "stop"; "drop"
    leaves such patients' training films out and says how many.

    Raises:
      UserError: no such tree, an unknown or missing class folder, a patient on both sides, a CSV given or in the root
        of which most rows are of no film, or that says two things of one.
    """
    root = existing(data.root, "the Kaggle folder with train/COVID19, train/NORMAL, train/PNEUMONIA in it")
    split = choice(data, "split", SPLITS)
    found, left = folders.by_class(root, FOLDERS, ("train", "test"))  # the archive's tiny val may lack a class
    parts = {part for part, _, _ in found}
    if missing := {"train", "test"} - parts if split == "archive" or not parts else set():
        raise UserError(
            f"data.root {str(root)!r} has no folder {' and '.join(sorted(missing))}/ with class folders in it"
        )
    paths = [path for _, _, path in found]
    names = [path.relative_to(root).as_posix() for path in paths]
    labels = np.array([[float(name == finding) for name in COLUMNS] for _, finding, _ in found], np.float32)  # (n, 3)
    given = np.array(["test" if split == "archive" and part == "test" else "train" for part, _, _ in found], object)
    listed, matched = patients_csv.listed(root, str(data.get("patients_csv", "") or ""), paths)
    patients = np.array(_patients(found, given, listed), object)

    warnings = [CONFOUNDED, *left, *matched]
    if split == "archive":
        shared = _shared(patients, given, choice(data, "overlap", ("stop", "drop")))
        lost = (given == "train") & np.isin(patients, shared)
        if lost.any():
            warnings.append(
                f"{len(shared)} patients are on both sides of the archive: {lost.sum()} training films of theirs were "
                "left out (data.overlap)"
            )
            given[lost] = "lost"
            taught = {finding for (_, finding, _), part in zip(found, given, strict=True) if part == "train"}
            if gone := [name or "Normal" for name in ("", *COLUMNS) if name not in taught]:
                raise UserError(
                    f"{len(shared)} patients are on both sides of the archive ({', '.join(shared[:5])}), and without "
                    f"their films no training film of {' and '.join(gone)} is left; mend the patients, or set "
                    "data.split='random_8_2'"
                )
    seed = int(data.seed)
    for share in ({"test": TEST_SHARE} if split == "random_8_2" else {}, {"val": float(data.carve.val)}):
        pool = np.flatnonzero(given == "train")
        given[pool] = splits.carve(patients[pool].tolist(), labels[pool], share, seed=seed)
    order = sorted(np.flatnonzero(given != "lost"), key=lambda i: (splits.ORDER.index(given[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in order:
            yield Record(names[i], str(given[i]), str(patients[i]), labels[i], paths[i])

    facts = content([[names[i], str(given[i]), str(patients[i])] for i in order])
    stamps = folders.stamps([names[i] for i in order], [paths[i] for i in order])
    fingerprint = digest({"labels": LABEL_VERSION, "facts": facts}, stamps)
    counts = {name: int((given == name).sum()) for name in splits.ORDER if (given == name).any()}
    return Source("kaggle4", COLUMNS, LABEL_VERSION, fingerprint, records, False, counts, tuple(warnings))


def _patients(found: list[tuple[str, str, Path]], given: np.ndarray, listed: list[str]) -> list[str]:
    children = {(m[1].lower(), m[2].lower()) for (_, _, path), part in zip(found, given, strict=True)
                if part == "train" and (m := kermany.PNEUMONIA_NAME.match(path.name))}  # fmt: skip
    named = []
    for (_, finding, path), part, known in zip(found, given, listed, strict=True):
        match = kermany.PNEUMONIA_NAME.match(path.name)
        if match and part == "test" and (match[1].lower(), match[2].lower()) not in children:
            named.append(f"test-{match[1].lower()}")
        elif match:
            named.append(match[1].lower())
        elif match := kermany.NORMAL_NAME.match(path.name):
            named.append(match[1].upper())
        else:
            named.append(_series(path) if finding == "COVID-19" and not known else "")
    return splits.joined(list(zip(listed, named, strict=True)))


def _series(path: Path) -> str:
    """The stem that a COVID-19 film shares with others of its patient, "" where the name tells nothing."""
    for pattern in SERIES:
        if match := pattern.fullmatch(path.stem.removeprefix("coh_")):
            return f"series {match[1].lower()}"
    return ""


def _shared(patients: np.ndarray, given: np.ndarray, overlap: str) -> list[str]:
    sides = {side: set(patients[given == side]) - {""} for side in ("train", "test")}
    if overlap == "stop":
        try:
            splits.check_disjoint(sides)
        except UserError as error:
            raise UserError(f"{error}; data.overlap='drop' leaves out their training films") from None
    return sorted(sides["train"] & sides["test"])
