"""The .npz files of a workdir: written whole or not at all, by the first process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed .npz whole or not at all, by the first process; the others wait for it."""
    if jax.process_index() == 0:
        _write(path, arrays)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(str(path))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an .npz."""
    with np.load(path) as file:
        return dict(file)


def exists(path: Path) -> bool:
    """Whether the first process sees a file: what all wait for must be begun by all or by none."""
    here = path.exists()
    if jax.process_count() == 1:
        return here
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(here)))


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.partial")
    with partial_path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial_path.replace(path)
