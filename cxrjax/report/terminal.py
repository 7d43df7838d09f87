"""The end of a run, for the terminal: a study's tables and key numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from cxrjax.report import faces, summary, tables

_MOST_COLUMNS = 6


def rich_tables(workdir: Path) -> list[Table]:
    """Tables for a rich console from a finished run's workdir."""
    face, run = faces.read(workdir)
    out = [_study(_narrow(table) if face.narrow else table) for table in tables.tables(run)]
    numbers = summary.key_numbers(run) + face.key_numbers(run)
    if out and not numbers:
        return out
    keys = Table("figure", "value", "95 % interval", "films", title="Key numbers", title_justify="left")
    for name, entry in numbers:
        keys.add_row(name, summary.value(entry, unit=False), summary.interval(entry), summary.number(entry.n))
    return [*out, keys]


def _narrow(table: tables.Table) -> tables.Table:
    """A table of more columns than a terminal has room for: the first two, paired differences, and the last."""
    last = len(table.columns) - 1
    if last < _MOST_COLUMNS:
        return table
    kept = [j for j, name in enumerate(table.columns) if j < 2 or j == last or "paired" in name]
    return dataclasses.replace(
        table,
        columns=[table.columns[j] for j in kept],
        figures=[table.figures[j] for j in kept],
        rows=[(name, [cells[j] for j in kept]) for name, cells in table.rows],
    )


def _study(table: tables.Table) -> Table:
    """A study's table; names and notes are text, whatever brackets they hold."""
    out = Table(title=escape(table.title), title_justify="left", caption=escape(table.note), caption_justify="left")
    out.box, out.show_lines = box.SIMPLE_HEAD, False
    out.add_column(escape(table.corner), overflow="fold")
    for name, figures in zip(table.columns, table.figures, strict=True):
        out.add_column(escape(name), justify="right" if figures else "left", overflow="fold")
    for name, cells in table.rows:
        words = [escape(f"{cell.text} {cell.interval}".strip()) for cell in cells]
        out.add_row(escape(name), *words)
    return out
