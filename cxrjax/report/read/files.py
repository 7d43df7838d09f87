"""Files of a workdir read with care: what is wrong with one is told with its path, and its line where it has lines."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where the file holds anything else."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); run the study again or mend the file") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(tree).__name__}")
    return tree


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON object a line; empty where there is no file. Raises UserError naming the line that is none."""
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not valid JSON ({error}); remove the line") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file. Raises UserError where it cannot be read."""
    return dict(each(path))


def each(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an `.npz` file by name, one at a time. Raises UserError where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield from arrays.items()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as .npz ({error}); run the study again") from error


def check(path: Path, arrays: dict[str, np.ndarray], axes: dict[str, str]) -> None:
    """Arrays by name have the axes named, as in `{"image": "n h w", "point": "n 2"}`; a name means one length in all.

    Raises:
      UserError: an array is missing (unless its name ends in "?"), or has another shape.
    """
    missing = sorted(name for name in axes if not name.endswith("?") and name not in arrays)
    if missing:
        raise UserError(f"{path}: array(s) {', '.join(missing)} missing; run the study again")
    length: dict[str, int] = {}
    for name, words in axes.items():
        if (array := arrays.get(name.removesuffix("?"))) is None:
            continue
        names = words.split()
        if array.ndim == len(names):
            for axis, size in zip(names, array.shape, strict=True):
                length.setdefault(axis, int(axis) if axis.isdecimal() else size)
        if array.shape != tuple(map(length.get, names)):
            known = ", ".join(f"{axis} = {length[axis]}" for axis in names if axis in length and not axis.isdecimal())
            where = f" where {known}, as in the arrays before it" if known else ""
            raise UserError(
                f"{path}: {name.removesuffix('?')} has shape {array.shape}, expected axes ({', '.join(names)}){where}; "
                "run the study again"
            )


def load_checked(path: Path, axes: dict[str, str]) -> dict[str, np.ndarray] | None:
    """The arrays of an `.npz` file, seen to by `check`; None where there is no file, or nothing in its first array."""
    if not path.is_file():
        return None
    arrays = load(path)
    check(path, arrays, axes)
    return arrays if len(arrays[next(iter(axes))]) else None
