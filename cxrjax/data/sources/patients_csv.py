"""Who films are of, by a CSV with columns path and patient; a path may differ from the film's in `FORMS`."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from cxrjax.data import folders, splits
from cxrjax.data.sources import tables
from cxrjax.data.sources.base import existing
from cxrjax.errors import UserError


def listed(root: Path, given: str, paths: list[Path]) -> tuple[list[str], list[str]]:
    """Each film's patient by a CSV, and a warning that says how far the CSV reaches.

    Args:
      root: the folder of the films.
      given: `data.patients_csv`; where it is empty, a `MANIFEST.csv` in the root or next to it is read.
      paths: of the films.

    Returns:
      "csv NAME" a film, "" where the CSV says nothing of it or there is none; the warnings.

    Raises:
      UserError: a CSV given or in the root of which most rows are of no film, or that says two things of one.
    """
    if given:
        table = existing(given, "a CSV with columns path and patient", "data.patients_csv")
    else:
        table = next((p for p in (root / "MANIFEST.csv", root.parent / "MANIFEST.csv") if p.is_file()), Path())
        if not table.is_file():
            return [""] * len(paths), []
    index: list[dict[str, set[int]]] = []  # films by path in one form after the other
    for form in folders.FORMS.values():
        index.append(defaultdict(set))
        for i, path in enumerate(paths):
            for name in (os.path.abspath(path), os.path.realpath(path)):
                index[-1][form(name)].add(i)
    rows = list(tables.rows(table, ("path", "patient")))
    facts: list[tuple[int, str, str]] = []
    lost = []
    for row in rows:
        level, films = _match(row["path"], (table.parent, root, root.parent), index)
        facts += [(level, str(paths[i]), splits.patient_id(row["patient"])) for i in films]
        lost += [] if films else [row["path"]]
    # The nearest form decides: where a.png and a.jpg are two films, a row on a.png is not of a.jpg.
    who: dict[str, str] = {}
    for level in range(len(index)):
        who = tables.once(table, (fact[1:] for fact in facts if fact[0] == level)) | who
    found = len(rows) - len(lost)
    said = f"{table.name}: {found:,} of its {len(rows):,} rows are of films here, {len(who):,} of {len(paths):,} films"
    if 2 * found < max(1, min(len(rows), len(paths))) and (given or table.parent == root):
        raise UserError(
            f"{table} is to tell the patients and fits the films badly ({said}; of none are "
            f"{', '.join(map(repr, lost[:3]))}); give paths relative to it or to {str(root)!r}, or take the file away"
        )
    return [f"csv {name}" if (name := who.get(str(path), "")) else "" for path in paths], [said]


def _match(name: str, bases: tuple[Path, ...], index: list[dict[str, set[int]]]) -> tuple[int, set[int]]:
    """The form in which a row's path is that of a film, and the films."""
    places = [os.path.join(base, folders.plain(name)) for base in bases]
    ways = [way for place in places for way in (os.path.abspath(place), os.path.realpath(place))]
    for level, form in enumerate(folders.FORMS.values()):
        if films := set().union(*(index[level].get(form(way), ()) for way in ways)):
            return level, films
    return 0, set()
