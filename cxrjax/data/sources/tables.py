"""Lists and tables as data sets ship them: text or gzip, found by pattern, read with the column names checked."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from cxrjax.errors import UserError, did_you_mean

T = TypeVar("T")


def find(folders: Sequence[Path], patterns: Sequence[str]) -> list[Path]:
    """Files in `folders` that match a pattern or a pattern and `.gz`: earlier patterns first, then earlier folders."""
    return [
        path
        for pattern in patterns
        for folder in folders
        for name in (pattern, f"{pattern}.gz")
        for path in sorted(folder.glob(name))
        if not path.name.startswith(".")
    ]


def lines(path: Path) -> list[str]:
    """The lines that are not blank, stripped; a last line without a newline counts.

    Raises:
      UserError: the file cannot be read or is no text.
    """
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def header(path: Path) -> list[str]:
    """The names in the first row of a CSV file, stripped; none where the file is empty."""
    return [name.strip() for name in next(_parsed(path), (1, []))[1]]


def rows(path: Path, columns: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header; a cell that a short row lacks is "".

    Raises:
      UserError: the file cannot be read, one of `columns` is not in its header or twice, or, with its line, a row that
        is no CSV, has more cells than the header, or breaks off in one of `columns`.
    """
    names = header(path)
    for name in columns:
        if names.count(name) > 1:
            raise UserError(f"{path} has {names.count(name)} columns {name!r}; expected one")
        if name not in names:
            raise UserError(
                f"{path} has no column {name!r} (it has {', '.join(names) or 'none'}){did_you_mean(name, names)}"
            )
    found = itertools.islice(_parsed(path), 1, None)
    return (_row(path, line, names, row, columns) for line, row in found)


def _row(path: Path, line: int, names: list[str], row: list[str], columns: Sequence[str]) -> dict[str, str]:
    if any(row[len(names) :]):
        raise UserError(
            f"{path}, line {line}: {len(row)} cells under a header of {len(names)}; put a cell that holds a comma in "
            "quotes"
        )
    for name, cell in zip(names, row, strict=False):
        # Free text may break off; where it goes on like a row of its own, a quote has swallowed that row.
        _check_break(path, line, cell, 0 if name in columns else max(1, len(names) - 1))
    return dict(zip(names, itertools.chain(row, itertools.repeat("")), strict=False))


def _check_break(path: Path, line: int, cell: str, commas: int) -> None:
    if "\n" not in cell and "\r" not in cell:
        return
    if any(rest.count(",") >= commas for rest in re.split(r"[\r\n]+", cell)[1:]):
        raise UserError(
            f"{path}, line {line}: a cell goes on over the end of its line ({cell[:40]!r}...); close the quote that "
            "opens it, or write it on one line"
        )


def once(path: Path, facts: Iterable[tuple[str, T]]) -> dict[str, T]:
    """The facts by what they are of, where a second listing has to say the same as the first.

    Raises:
      UserError: something is listed twice and differently.
    """
    out: dict[str, T] = {}
    for name, fact in facts:
        if out.setdefault(name, fact) != fact:
            raise UserError(f"{path} lists {name} twice and differently; expected it once")
    return out


def cells(path: Path) -> list[list[str]]:
    """The rows of a CSV file after its header as lists, for files whose header does not name every column.

    Raises:
      UserError: the file cannot be read, or, with its line, a row that is no CSV or a cell with a line break.
    """
    found = list(_parsed(path))[1:]
    for line, row in found:
        for cell in row:
            _check_break(path, line, cell, 0)
    return [row for _, row in found]


def _parsed(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of the line where it begins."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}: the row that begins there is no CSV ({error}); most often a quote is opened and not "
            "closed"
        ) from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 ({error}); save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); get the file again") from None
