"""Lists and tables as data sets ship them: text or gzip, found by pattern, read with the column names checked."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxrjax.errors import did_you_mean
from cxrjax.types import UserError


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


def rows(path: Path, columns: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header; a cell that a short row lacks is "".

    Raises:
      UserError: the file cannot be read, or one of `columns` is not in its header.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), restval="")
    header = [name.strip() for name in reader.fieldnames or []]
    for name in columns:
        if name not in header:
            raise UserError(
                f"{path} has no column {name!r} (it has {', '.join(header) or 'none'}){did_you_mean(name, header)}"
            )
    reader.fieldnames = header
    # A row longer than its header keeps the surplus under None, which is no column.
    return ({name: value for name, value in row.items() if name is not None} for row in reader)


def cells(path: Path) -> list[list[str]]:
    """The rows of a CSV file after its header as lists, for files whose header does not name every column."""
    return [row for row in csv.reader(io.StringIO(_text(path), newline="")) if any(row)][1:]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); get the file again") from None
