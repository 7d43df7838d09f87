"""Films of one's own: a CSV, a film a row, with the labels in one column or in a column a class."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cxrjax.data import decode, dicom, folders, patients, splits
from cxrjax.data.labels import NORMAL
from cxrjax.data.limits import CorruptFilm
from cxrjax.data.patients import sex, word, years
from cxrjax.data.sources import cells, listed, tables
from cxrjax.data.sources.base import Box, Record, Source, choice, content, existing
from cxrjax.errors import UserError, did_you_mean

WHAT = "a CSV, a film a row, with a column path and labels"
# What the second table may call a box's place, and whether that is two corners or one and the sides.
CORNERS = ((("x0", "y0", "x1", "y1"), True), (("x_min", "y_min", "x_max", "y_max"), True),
           (("x", "y", "width", "height"), False))  # fmt: skip


class Row(NamedTuple):
    """What a table says of one film: `said` are the cells of its labels; an age is text, so that nan equals nan."""

    said: tuple[str, ...]
    split: str
    patient: str
    age: str
    sex: str
    view: str
    site: str


def source(data: Any) -> Source:
    """The films that the CSV `data.table` lists, a film a row.

    Columns are called as in `data.columns`, in any case; only path is needed. A path starts from `data.root`, or from
    the table's folder. Labels are in one column, names joined by `|` (Normal or No Finding: none of them; an empty cell
    is unknown), or else in a column a class: 1, 0, nothing (unknown), or -1, which `data.uncertain` makes unknown
    ("mask"), absent ("zero") or present ("one"). Names are taken for a class of `data.classes`, or a finding that the
    library knows, where they differ in case and signs only. Of DICOM films the header tells patient (as a salted hash),
    age, sex and view where the table has no such column.

    Where no film is of val or test, such a part is carved from train by patient (`data.carve`). `data.boxes` is a
    second CSV: path, finding (or label), and x0, y0, x1, y1 (or x_min, ...) or x, y, width, height, in pixels of the
    film, or in fractions of its sides where none is above 1. Missing films, films listed twice and differently and
    those that are Normal and ill are faults; with `data.present_only` missing ones are left out and counted.

    Raises:
      UserError: no such table or column, or a cell that is none of these.
    """
    table = existing(str(data.table), WHAT, "data.table")
    root = existing(str(data.root), "the folder that the table's paths start from") if data.root else table.parent
    columns = _columns(table, data.columns)
    rows = list(tables.rows(table, tuple(columns.values())))
    names = _label_columns(table, rows, columns, tuple(data.columns.findings))
    films: dict[str, Row] = {}
    places: dict[str, Path] = {}
    first: dict[str, str] = {}  # by the file that a path leads to
    differ = []
    for row in rows:
        key = folders.plain(row[columns["path"]])
        path = next((p for p in (root / key, table.parent / key) if p.is_file()), root / key)
        key = first.setdefault(os.path.realpath(path), key)
        facts = _facts(table, row, columns, names)
        if films.setdefault(key, facts) != facts:
            differ.append(f"{key}: {_difference(films[key], facts)}")
        places.setdefault(key, path)
    if not films:
        raise UserError(f"{table} lists no film")
    labels = _labels(table, data, films, names if "label" not in columns else ())
    warnings = []
    if again := len(rows) - len(films):
        warnings.append(f"{table.name} lists {again} films a second time; each counts once")
    if unread := [name for name in tables.header(table) if name and name not in {*columns.values(), *names}]:
        warnings.append(f"columns of {table.name} that are not read: {', '.join(unread)}")
    boxes = _boxes(data, table, root, first, places, labels)
    records = [
        Record(
            key, row.split, row.patient, labels.values[i], places[key], boxes=tuple(boxes.get(key, ())),
            age=float(row.age), sex=row.sex, view=row.view, site=row.site,
        )
        for i, (key, row) in enumerate(_with_headers(data, films, places, columns).items())
    ]  # fmt: skip
    sums = content(sorted([record.key, str(record.labels.tolist())] for record in records))
    uncertain = "" if "label" in columns else f"-{choice(data, 'uncertain', tuple(cells.UNCERTAIN))}"
    faults = {
        "listed twice and differently": tuple(differ),
        "labeled Normal and with a finding": tuple(list(films)[i] for i in labels.wrong),
    }
    return listed.source(
        "csv", data, records, labels.columns, f"{table.name}:{sums[:12]}{uncertain}", classes=labels.classes,
        warnings=warnings, faults=faults,
    )  # fmt: skip


def classes(data: Any) -> tuple[str, ...]:
    """`data.classes`, if the table has them all, or, where they are empty, those of the table.

    Raises:
      UserError: the table lacks a class, or as `source`.
    """
    found = source(data)
    for name in data.classes:
        if name not in (*found.columns, NORMAL):
            raise UserError(
                f"data.classes has {name!r}, of which {data.table} has no label{did_you_mean(name, found.columns)}; it "
                f"has {', '.join(found.columns)}: set data.classes to some of these, with Normal if you like, or to "
                f'"()" for {", ".join(found.classes)}'
            )
    return tuple(data.classes) or found.classes


def _columns(table: Path, wanted: Any) -> dict[str, str]:
    """The table's own names of the columns that it has, by what they mean."""
    header = {name.lower(): name for name in reversed(tables.header(table))}
    out = {}
    for meaning, name in wanted.items():
        if meaning == "findings" or not name:
            continue
        if name.lower() in header:
            out[meaning] = header[name.lower()]
        elif meaning == "path" or name != meaning:  # a name of one's own is meant
            raise UserError(
                f"{table} has no column {name!r} (data.columns.{meaning}; it has {', '.join(tables.header(table))})"
                f"{did_you_mean(name, header.values())}"
            )
    return out


def _label_columns(
    table: Path, rows: list[dict[str, str]], columns: dict[str, str], wanted: tuple[str, ...]
) -> tuple[str, ...]:
    """The columns of the labels: the one of names, those asked for, or all of ones and zeros."""
    if wanted:
        columns.pop("label", None)
        header = {name.lower(): name for name in tables.header(table)}
        for name in wanted:
            if name.lower() not in header:
                raise UserError(f"{table} has no column {name!r} (data.columns.findings){did_you_mean(name, header)}")
        return tuple(header[name.lower()] for name in wanted)
    if "label" in columns:
        return (columns["label"],)
    rest = [name for name in tables.header(table) if name and name not in columns.values()]
    if found := tuple(name for name in rest if cells.are_labels(row[name] for row in rows)):
        return found
    raise UserError(
        f"{table} has no labels: expected a column label of names joined by |, or a column a class of 1, 0, -1 or "
        f"nothing; of its columns {', '.join(tables.header(table))} name them in data.columns.label or .findings"
    )


def _facts(table: Path, row: Mapping[str, str], columns: Mapping[str, str], names: tuple[str, ...]) -> Row:
    def cell(meaning: str) -> str:
        return row[columns[meaning]] if meaning in columns else ""

    part = cell("split").strip().lower() if "split" in columns else "train"
    if part not in folders.PARTS:
        raise UserError(f"{table}: the split of {row[columns['path']]} is {part!r}: expected train, val or test")
    try:
        age = str(years(cell("age")))
    except ValueError as error:
        raise UserError(f"{table}: the age of {row[columns['path']]}: {error}") from None
    return Row(
        tuple(row[name].strip() for name in names), folders.PARTS[part], splits.patient_id(cell("patient")), age,
        sex(cell("sex")), word(cell("view")).upper(), word(cell("site")),
    )  # fmt: skip


def _with_headers(
    data: Any, films: dict[str, Row], places: Mapping[str, Path], columns: Mapping[str, str]
) -> dict[str, Row]:
    """The rows with what the headers of DICOM films tell and the table has no column for."""
    asked = [name for name in dicom.Who._fields if name not in columns]
    here = [key for key in films if asked and dicom.is_dicom(places[key])]
    secret, out = patients.salt(data.cache) if here else b"", dict(films)
    for key in here:
        try:
            told = dicom.who(places[key], secret)
        except CorruptFilm:  # told where films are read
            continue
        out[key] = out[key]._replace(**{name: getattr(told, name) for name in asked})
        out[key] = out[key]._replace(age=str(out[key].age))
    return out


def _difference(one: Row, other: Row) -> str:
    """The first thing in which two rows of one film differ, in words."""
    name, a, b = next((name, a, b) for name, a, b in zip(Row._fields, one, other, strict=True) if a != b)
    if name == "said":
        a, b = next(pair for pair in zip(a, b, strict=True) if pair[0] != pair[1])
    return f"{'label' if name == 'said' else name} {a!r} and {b!r}"


def _labels(table: Path, data: Any, films: dict[str, Row], names: tuple[str, ...]) -> cells.Labels:
    known = cells.spellings(data.classes)
    if not names:
        return cells.of_names([row.said[0] for row in films.values()], known)
    uncertain = cells.UNCERTAIN[choice(data, "uncertain", tuple(cells.UNCERTAIN))]
    return cells.of_columns({key: row.said for key, row in films.items()}, names, known, uncertain, str(table))


def _boxes(
    data: Any, films_table: Path, root: Path, first: Mapping[str, str], places: Mapping[str, Path], labels: cells.Labels
) -> dict[str, list[Box]]:
    """Boxes by film, in fractions of its sides."""
    if not data.boxes:
        return {}
    table = existing(str(data.boxes), "a CSV of boxes with columns path, finding and corners", "data.boxes")
    header = tables.header(table)
    corners, both = next((pair for pair in CORNERS if set(pair[0]) <= set(header)), CORNERS[0])
    finding = "label" if "label" in header and "finding" not in header else "finding"
    known, found, lost = cells.spellings(data.classes), [], []
    for row in tables.rows(table, ("path", finding, *corners)):
        name = folders.plain(row["path"])
        ways = [os.path.realpath(folder / name) for folder in (root, films_table.parent, table.parent)]
        key = next((first[way] for way in ways if way in first), "")
        lost += [] if key else [row["path"]]
        what = known.get(cells.form(row[finding]), row[finding].strip())
        if what not in labels.columns or what == NORMAL:
            raise UserError(
                f"{table}: a box of {row['path']} is of {row[finding]!r}; {films_table.name} has "
                f"{', '.join(labels.columns)}{did_you_mean(what, labels.columns)}"
            )
        try:
            place = [float(row[corner]) for corner in corners]
        except ValueError:
            raise UserError(f"{table}: a box of {row['path']} is no four numbers in {', '.join(corners)}") from None
        found.append((key, what, place if both else [*place[:2], place[0] + place[2], place[1] + place[3]]))
    if lost:
        raise UserError(f"{table} has {len(lost)} boxes of films that {films_table.name} does not list, as {lost[0]}")
    in_pixels = any(value > 1 for _, _, place in found for value in place)
    out: dict[str, list[Box]] = {}
    for key, what, place in found:
        try:
            height, width = decode.shape(places[key]) if in_pixels else (1, 1)
        except CorruptFilm:  # told where films are read
            continue
        x0, x1 = (min(max(value / width, 0.0), 1.0) for value in place[::2])
        y0, y1 = (min(max(value / height, 0.0), 1.0) for value in place[1::2])
        out.setdefault(key, []).append((what, x0, y0, x1, y1))
    return out
