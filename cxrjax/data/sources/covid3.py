"""Three classes from a CSV: normal, pneumonia, COVID-19 (the comparison of Lee et al. 2021 and Qi et al. 2021)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import folders, splits
from cxrjax.data.sources import tables
from cxrjax.data.sources.base import Record, Source, content, digest, existing
from cxrjax.errors import UserError, did_you_mean

COLUMNS = ("Pneumonia", "COVID-19")
NAMES = {
    "normal": "",
    "no finding": "",
    "healthy": "",
    "pneumonia": "Pneumonia",
    "viral pneumonia": "Pneumonia",
    "bacterial pneumonia": "Pneumonia",
    "covid-19": "COVID-19",
    "covid19": "COVID-19",
    "covid": "COVID-19",
}
# 7:3 into train and test, then 7:3 of train into train and val.
TEST_SHARE = VAL_SHARE = 0.3


def source(data: Any) -> Source:
    """The films that the CSV `data.manifest` lists: columns path, label, patient, and split if the splits are given.

    Paths are relative to the folder `data.root`, and so is `data.manifest` where there is such a file. A label is
    normal, pneumonia or COVID-19 in any case; patient may be empty. Without a column split, films are dealt 7:3 into
    train and test and train again 7:3 into train and val, by patient and class.

    Raises:
      UserError: no such file, a film is missing or listed twice and differently, or a label or split is unknown.
    """
    root = existing(data.root, "the folder that the paths of the CSV start from")
    name = str(data.get("manifest", "") or "")
    if not name:
        raise UserError("data.manifest is empty: give the CSV with columns path, label, patient, relative to data.root")
    outside = Path(os.path.expanduser(name))
    inside = root / outside
    chosen = outside if outside.is_file() and not inside.is_file() else inside
    table = existing(str(chosen), "the CSV with columns path, label, patient", "data.manifest")
    has_split = "split" in tables.header(table)
    rows = list(tables.rows(table, ("path", "label", "patient", *(("split",) if has_split else ()))))
    if not rows:
        raise UserError(f"{table} lists no film")
    first: dict[str, str] = {}  # by the file that a path leads to
    pairs = []
    for row in rows:
        path = folders.plain(row["path"])
        pairs.append((first.setdefault(os.path.realpath(root / path), path), _facts(table, row)))
    films = tables.once(table, pairs)
    names = list(films)
    paths = [root / name for name in names]
    findings, patients, parts = ([fact[i] for fact in films.values()] for i in range(3))
    labels = np.array([[float(column == finding) for column in COLUMNS] for finding in findings], np.float32)  # (n, 2)
    if missing := [name for name, path in zip(names, paths, strict=True) if not path.is_file()]:
        raise UserError(
            f"{table} lists {missing[0]}, which does not exist ({len(missing)} of {len(paths)} are missing)"
            f"{folders.like_path(root / missing[0])}"
        )
    given = np.array(parts, object)
    if not has_split:
        for share in ({"test": TEST_SHARE}, {"val": VAL_SHARE}):
            pool = np.flatnonzero(given == "train")
            given[pool] = splits.carve([patients[i] for i in pool], labels[pool], share, seed=int(data.seed))
    order = sorted(range(len(films)), key=lambda i: (splits.ORDER.index(given[i]), names[i]))

    def records() -> Iterator[Record]:
        for i in order:
            yield Record(names[i], str(given[i]), patients[i], labels[i], paths[i])

    facts = content([[names[i], str(given[i]), patients[i], findings[i]] for i in order])
    version = f"{table.name}:{content(sorted(zip(names, findings, strict=True)))[:12]}"
    fingerprint = digest({"facts": facts}, folders.stamps([names[i] for i in order], [paths[i] for i in order]))
    counts = {name: int((given == name).sum()) for name in splits.ORDER if (given == name).any()}
    again = len(rows) - len(films)
    warnings = [f"{table.name} lists {again} films a second time; each counts once"] if again else []
    warnings += _confounded(names, findings)
    return Source("covid3", COLUMNS, version, fingerprint, records, False, counts, tuple(warnings))


def _facts(table: Path, row: dict[str, str]) -> tuple[str, str, str]:
    """Finding, patient and split; without a column split all is train, to be dealt from."""
    where = f"of {row['path']}"
    return (
        _known(NAMES, row["label"], f"{table}: label {where}"),
        splits.patient_id(row["patient"]),
        _known(folders.PARTS, row.get("split", "train"), f"{table}: split {where}"),
    )


def _known(table: dict[str, str], name: str, what: str) -> str:
    key = name.strip().lower().replace("_", "-")
    if key not in table:
        raise UserError(f"{what} is {name!r}: expected one of {', '.join(table)}{did_you_mean(key, table)}")
    return table[key]


def _confounded(names: list[str], findings: list[str]) -> list[str]:
    pairs = {(str(Path(name).parent), finding) for name, finding in zip(names, findings, strict=True)}
    shared = {finding for a, finding in pairs for b, other in pairs if a == b and finding != other}
    apart = sorted({finding or "Normal" for _, finding in pairs if finding not in shared})
    return [
        f"films of {' and '.join(apart)} lie in folders of their own: where these are sources of their own too, class "
        "is confounded with source and the scores partly measure where a film comes from"
    ][: len(apart)]
