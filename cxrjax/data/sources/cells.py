"""Labels as tables write them: names in one cell, or a column a class; read without guessing what is not said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cxrjax.data.labels import FINDINGS, NORMAL
from cxrjax.data.splits import is_nothing
from cxrjax.errors import UserError

UNCERTAIN = {"mask": math.nan, "zero": 0.0, "one": 1.0}
VALUES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0}
_NORMALS = ("normal", "nofinding", "nofindings", "healthy")


class Labels(NamedTuple):
    """Labels of films.

    Attributes:
      columns: names.
      values: (n, k) float32; 1 present, 0 absent, NaN unknown.
      wrong: rows that say Normal and a finding.
    """

    columns: tuple[str, ...]
    values: np.ndarray
    wrong: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """What can be learned of them: Normal too where no film has two findings and some film has none."""
        findings = [i for i, name in enumerate(self.columns) if name != NORMAL]
        names = tuple(self.columns[i] for i in findings)
        values = self.values[:, findings]
        alone = ((values == 1).sum(axis=1) <= 1).all() and (values == 0).all(axis=1).any()
        return (NORMAL, *names) if alone else names


def form(name: str) -> str:
    """What is left of a name without case and signs: `Pleural Thickening` and `pleural_thickening` are one."""
    return re.sub(r"[\W_]", "", name.casefold())


def spellings(classes: Iterable[str]) -> dict[str, str]:
    """The names that the library and a config know, by their form; a config's own spelling wins."""
    return {form(name): name for name in (*FINDINGS, NORMAL, *classes)} | dict.fromkeys(_NORMALS, NORMAL)


def of_names(cells: Sequence[str], known: Mapping[str, str]) -> Labels:
    """Labels from cells of names joined by `|`; what a cell does not name is absent, an empty cell is unknown.

    Args:
      cells: one a film.
      known: as `spellings` gives.
    """
    found = [
        {known.get(form(name), name.strip()) for name in cell.split("|") if not is_nothing(name)} for cell in cells
    ]
    columns = tuple(sorted(set().union(*found) - {NORMAL}))
    values = np.array([[float(name in names) if names else np.nan for name in columns] for names in found], np.float32)
    wrong = tuple(i for i, names in enumerate(found) if NORMAL in names and len(names) > 1)
    return Labels(columns, values.reshape(len(cells), len(columns)), wrong)


def of_columns(
    films: Mapping[str, Sequence[str]], names: Sequence[str], known: Mapping[str, str], uncertain: float, where: str
) -> Labels:
    """Labels from a column a class of 1, 0, -1 (`uncertain`) or nothing (unknown).

    Where a column is Normal, it makes the others absent where it is 1, and is itself what they say where it is empty.

    Args:
      films: k cells by film.
      names: (k,) the columns' names.
      known: as `spellings` gives.
      uncertain: what -1 is.
      where: the table, for errors.

    Raises:
      UserError: a cell of another value, or two columns of one name.
    """
    columns = tuple(known.get(form(name), name) for name in names)
    if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
        both = ", ".join(repr(name) for name, column in zip(names, columns, strict=True) if column == twice[0])
        raise UserError(
            f"{where} has several columns of {twice[0]}: {both}; name those to read in data.columns.findings"
        )
    values = np.full((len(films), len(columns)), np.nan, np.float32)
    for i, (film, row) in enumerate(films.items()):
        for j, cell in enumerate(row):
            if is_nothing(cell):
                continue
            if cell.strip() not in VALUES:
                raise UserError(f"{where}: {film} has {cell!r} in {names[j]}; expected 1, 0, -1 or nothing")
            values[i, j] = VALUES[cell.strip()]
    values[values == -1] = uncertain
    if NORMAL not in columns:
        return Labels(columns, values, ())
    at = columns.index(NORMAL)
    others = np.delete(np.arange(len(columns)), at)
    ill = (values[:, others] == 1).any(axis=1)
    wrong = np.flatnonzero(ill & (values[:, at] == 1))
    unsaid = np.isnan(values[:, others]) & (values[:, [at]] == 1)
    values[:, others] = np.where(unsaid, 0, values[:, others])
    open_ = np.isnan(values[:, at])
    values[open_ & ill, at] = 0
    values[open_ & (values[:, others] == 0).all(axis=1), at] = 1
    return Labels(columns, values, tuple(wrong.tolist()))


def are_labels(cells: Iterable[str]) -> bool:
    """Whether cells are 1, 0, -1 or nothing, and not all nothing."""
    said = [cell.strip() for cell in cells if not is_nothing(cell)]
    return bool(said) and all(cell in VALUES for cell in said)
