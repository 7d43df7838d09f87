"""The end of a run, for the terminal: a study's tables, or the key numbers and every mode at equal normal rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from cxrjax.report import summary
from cxrjax.report import tables as papers
from cxrjax.report.read import workdir as read

_MOST_COLUMNS = 6


def tables(workdir: Path) -> list[Table]:
    """Tables for a rich console from a finished run's workdir."""
    run = read.read_run(workdir)
    ranked = "progress" in run.results  # a treatment's tables rank many arms by many measures: the page has them all
    out = [_study(_narrow(table) if ranked else table) for table in papers.tables(run)]
    numbers = summary.key_numbers(run)
    if out and not numbers:
        return out
    keys = Table("figure", "value", "95 % interval", "films", title="Key numbers", title_justify="left")
    for name, leaf in numbers:
        keys.add_row(name, summary.value(leaf, unit=False), summary.interval(leaf), summary.number(leaf.n))
    out.append(keys)
    for equal in [] if run.results.get("tables") else summary.equal_rates(run):
        if equal.judge == "cam_network":  # it made the map and may not be its only judge
            continue
        title = f"Where {float(equal.rate):.0%} are called normal ({summary.pretty(equal.judge)} judge), minus uniform"
        measures = ("twin_error",) if any(m == "twin_error" for m, _ in equal.columns) else ("mae", "ssim")
        shown = [i for i, (m, _) in enumerate(equal.columns) if m in measures]  # the page has the rest
        columns = [f"{summary.pretty(equal.columns[i][0])}, {equal.columns[i][1]}" for i in shown]
        table = Table("mode", *columns, title=title, title_justify="left")
        for mode, cells in equal.cells.items():
            row = []
            for cell in (cells[i] for i in shown):
                of = cell.difference if mode != summary.BASELINE else cell.value
                row.append(summary.DASH if of is None else summary.with_interval(dataclasses.replace(of, unit="")))
            table.add_row(mode, *row)
        out.append(table)
    return out


def _narrow(table: papers.Table) -> papers.Table:
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


def _study(table: papers.Table) -> Table:
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
