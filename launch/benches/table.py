"""The one table of `bench.py`: on the terminal, and between two marks of a README."""

from __future__ import annotations

from pathlib import Path

from benches.timing import Row

MARKS = ("<!-- bench: written by `bench.py --write` -->", "<!-- /bench -->")
HEAD = ("case", "variant", "figure", "ratio", "compile", "memory", "of matmul", "measured on")


def cells(name: str, rows: list[Row], ceilings: dict[str, float]) -> list[tuple[str, ...]]:
    """A row as text: case, variant, figure with its unit, ratio to the case's first, compile seconds, memory, and its
    share of the rate at which matrices are multiplied in its dtype (`ceilings`, by dtype, operations a second)."""
    out = []
    for row in rows:
        top = ceilings.get(row.dtype)
        out.append((
            name, row.variant, f"{row.figure:,.4g} {row.unit}", f"{row.figure / rows[0].figure:.2f}",
            "" if row.compile_seconds is None else f"{row.compile_seconds:.1f} s",
            "" if row.memory is None else f"{row.memory / 1e6:,.0f} MB",
            f"{row.work / top:.0%}" if row.work and top else "",
        ))  # fmt: skip
    return out


def show(found: dict[str, list[Row]], ceilings: dict[str, float], where: str) -> None:
    """Prints the table; `found` holds each case's rows, the one that ratios refer to first."""
    from rich import box
    from rich.table import Table

    from cxrjax.console import on_stdout

    table = Table(caption=where, box=box.SIMPLE_HEAD)
    for i, name in enumerate(HEAD[:-1]):
        table.add_column(name, justify="left" if i < 2 else "right", overflow="fold", no_wrap=i != 1)
    for name, rows in found.items():
        lines = cells(name, rows, ceilings)
        for i, line in enumerate(lines):
            table.add_row(name if i == 0 else "", *line[1:], end_section=i == len(lines) - 1)
    on_stdout().print(table, highlight=False)


def write(path: Path, found: dict[str, list[Row]], ceilings: dict[str, float], where: str, order: list[str]) -> None:
    """Puts the rows between the marks of `path`, in the place of the same cases'; other cases keep theirs.

    Args:
      path: of a Markdown file.
      found, ceilings: as in `show`.
      where: machine and date, of these rows.
      order: all cases; the table's order.

    Raises:
      ValueError: the file has not both marks, once each.
    """
    text = path.read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise ValueError(f"{path} needs one line {MARKS[0]} and, below it, one line {MARKS[1]}")
    before, _, rest = text.partition(MARKS[0])
    old, _, after = rest.partition(MARKS[1])
    kept: dict[str, list[str]] = {}
    for line in old.splitlines()[3:]:  # an empty line, the head and its rule
        if line.startswith("| "):
            kept.setdefault(line.split(" | ")[0].removeprefix("| "), []).append(line)
    for name, rows in found.items():
        kept[name] = [_line((*line, where)) for line in cells(name, rows, ceilings)]
    lines = [_line(HEAD), "|---|---|---:|---:|---:|---:|---:|---|"]
    for name in sorted(kept, key=lambda name: order.index(name) if name in order else len(order)):
        lines += kept[name] if name in order else []  # a case that is gone takes its rows along
    path.write_text("\n".join([before + MARKS[0], "", *lines, "", MARKS[1] + after]), encoding="utf-8")


def _line(found: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in found)} |"
