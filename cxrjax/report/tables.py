"""The tables of results.json, as the page and the terminal show them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cxrjax.errors import UserError
from cxrjax.report.read.workdir import Run, entries_of, is_number
from cxrjax.report.summary import DASH, UNITLESS, interval, number, value, verdict

# How a column of differences to another arm ends, and whether below 0 (-1) or above (1) is better.
_DIFFERENCES = {"minus uniform, paired": -1, "less is better": -1, "more is better": 1}


@dataclass(frozen=True)
class Cell:
    """A cell in words: a value or text (a dash where there is none), its interval or nothing, and a verdict.

    `verdict` is "better" or "worse" where a paired difference lies beyond its interval, else "".
    """

    text: str
    interval: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Table:
    """A table as it is shown. `columns` excludes the column of the rows' names, which `corner` heads.

    `figures` says of each column whether it holds numbers, which are set to the right.
    """

    title: str
    note: str
    corner: str
    columns: list[str]
    figures: list[bool]
    rows: list[tuple[str, list[Cell]]]


def tables(run: Run) -> list[Table]:
    """The tables of results.json in their order.

    Raises:
      UserError: a table lacks its columns or rows, or a row has another number of cells than there are columns.
    """
    listed = run.results.get("tables") or []
    if not isinstance(listed, list):
        raise UserError(f"{run.workdir / 'results.json'}: tables is no list; run the study again")
    return [_table(tree, f"{run.workdir / 'results.json'}, tables[{i}]") for i, tree in enumerate(listed)]


def _table(tree: Any, where: str) -> Table:
    if (
        not isinstance(tree, dict)
        or not isinstance(tree.get("columns"), list)
        or not isinstance(tree.get("rows"), list)
    ):
        raise UserError(f"{where}: expected title, note, columns and rows; run the study again")
    columns, corner = [str(name) for name in tree["columns"]], ""
    rows = [(str(row.get("name") or ""), list(row.get("cells") or [])) for row in tree["rows"]]
    if rows and all(len(cells) == len(columns) - 1 for _, cells in rows):
        corner, *columns = columns  # the first column heads the names
    for name, cells in rows:
        if len(cells) != len(columns):
            raise UserError(
                f"{where}, row {name!r}: {len(cells)} cells for {len(columns)} columns; run the study again"
            )
    figures = [any(_is_figure(cells[j]) for _, cells in rows) for j in range(len(columns))]
    units = [_unit([cells[j] for _, cells in rows]) for j in range(len(columns))]
    judged = [next((sign for end, sign in _DIFFERENCES.items() if name.endswith(end)), 0) for name in columns]
    shown = [(name, [_cell(*about) for about in zip(cells, judged, units, strict=True)]) for name, cells in rows]
    told = [unit and unit not in name.split() for name, unit in zip(columns, units, strict=True)]
    columns = [f"{name} ({units[j]})" if told[j] else name for j, name in enumerate(columns)]
    return Table(str(tree.get("title") or ""), str(tree.get("note") or ""), corner, columns, figures, shown)


def _unit(cells: list[Any]) -> str:
    """The unit that all entries of a column share, to be told once in its head; "" where there is none."""
    units = {str(cell.get("unit") or "") for cell in cells if isinstance(cell, dict)}
    return units.pop() if len(units) == 1 and units.isdisjoint({"", *UNITLESS}) else ""


def _is_figure(cell: Any) -> bool:
    """Whether a cell is a number, a printed one such as "0.8413", "94 %" or "0.8413 at 600" too."""
    printed = isinstance(cell, str) and re.match(r"[<>~≥≤+\u2212-]?\s?\.?\d[\d.,]*\s?%?( at \d+)?$", cell)
    return isinstance(cell, dict) or is_number(cell) or bool(printed)


def _cell(cell: Any, judged: int, unit: str) -> Cell:
    """`judged` gives a verdict, see `_DIFFERENCES`, 0 gives none; `unit` is told elsewhere."""
    if isinstance(cell, dict):
        entry = next(entries_of({"value": None, **cell}))
        ends = interval(entry)
        said = verdict(entry, judged > 0) if judged else ""
        return Cell(value(entry, signed=judged != 0, unit=not unit), "" if ends == DASH else ends, said)
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return Cell(number(cell))
    if isinstance(cell, bool):
        return Cell("yes" if cell else "no")
    return Cell(str(cell) if cell not in (None, "") else DASH)
