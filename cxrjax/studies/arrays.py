"""The .npz files of a workdir: written by the first process, which also says which of them are there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxrjax import files
from cxrjax.files import read_arrays as read_arrays
from cxrjax.train import processes

log = logging.getLogger(__name__)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed .npz whole or not at all, by the first process; the others wait for it."""
    processes.together(lambda: files.write_arrays(path, **arrays) if processes.primary() else None)


def exists(path: Path) -> bool:
    """Whether the first process sees a file that is whole: what all wait for must be begun by all or by none."""
    return there([path])[0]


def there(paths: Sequence[Path]) -> list[bool]:
    """`exists` of several; a damaged one is removed, so that it is made again."""
    return processes.first(lambda: [_whole(path) for path in paths])


def _whole(path: Path) -> bool:
    try:
        return files.check_arrays(path)
    except files.Damaged as error:
        log.warning("%s", error)
        path.unlink()
        return False
