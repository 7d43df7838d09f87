"""The end of a run, for the terminal: the key numbers, and every mode at equal normal rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.table import Table

from cxrjax.report import read, summary


def tables(workdir: Path) -> list[Table]:
    """Tables for a rich console from a finished run's workdir."""
    run = read.read_run(workdir)
    keys = Table("figure", "value", "95 % interval", "films", title="Key numbers", title_justify="left")
    for name, leaf in summary.key_numbers(run):
        keys.add_row(name, summary.value(leaf, unit=False), summary.interval(leaf), str(leaf.n))
    out = [keys]
    for equal in summary.equal_rates(run):
        if equal.judge == "cam_network":  # it made the map and may not be its only judge
            continue
        title = f"Where {float(equal.rate):.0%} are called normal ({summary.pretty(equal.judge)} judge), minus uniform"
        columns = [f"{summary.pretty(m)}, {where}" for m, where in equal.columns]
        table = Table("mode", *columns, title=title, title_justify="left")
        for mode, cells in equal.cells.items():
            shown = []
            for cell in cells:
                of = cell.difference if mode != summary.BASELINE else cell.value
                shown.append(summary.DASH if of is None else summary.with_interval(dataclasses.replace(of, unit="")))
            table.add_row(mode, *shown)
        out.append(table)
    return out
