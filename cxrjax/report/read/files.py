"""Files of a workdir read with care: what is wrong with one is told with its path, and its line where it has lines."""

from __future__ import annotations

import json
import zipfile
import zlib
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
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as .npz ({error}); run the study again") from error


def load_checked(path: Path, expected: dict[str, int]) -> dict[str, np.ndarray] | None:
    """The arrays of an `.npz` file by name, each of so many axes and all of one length; None where there is no file.

    Raises:
      UserError: an array is missing, has another number of axes, or another length than the first.
    """
    if not path.is_file():
        return None
    arrays = load(path)
    missing = sorted(set(expected) - set(arrays))
    if missing:
        raise UserError(f"{path}: array(s) {', '.join(missing)} missing; run the study again")
    first = next(iter(expected))
    for name, axes in expected.items():
        shape = arrays[name].shape
        if len(shape) != axes or shape[0] != len(arrays[first]):
            length = len(arrays[first])
            raise UserError(
                f"{path}: {name} has shape {shape}, expected {axes} axes, the first of {length} like {first}"
            )
    return arrays
