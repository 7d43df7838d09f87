"""One global mesh: batches split over `data`, state replicated or split by a rule on its paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cxrjax.errors import UserError
from cxrjax.train.optim import path_of
from cxrjax.types import Batch, PyTree


def make(num_devices: int = 0) -> Mesh:
    """A mesh over every device of every process (or the first `num_devices`), with the one axis `data`."""
    devices = jax.devices()
    if num_devices > len(devices):
        raise UserError(f"mesh.devices = {num_devices}, but {len(devices)} are there; lower it, or 0 for all")
    devices = devices[: num_devices or None]
    # Auto axes: under Explicit ones, now the default, Linen's Dropout fails.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def state_shardings(mesh: Mesh, tree: PyTree, rules: Sequence[tuple[str, int]]) -> PyTree:
    """A sharding per leaf: the first rule `(pattern, axis)` found in its path splits that axis over `data`.

    A rule on `params` also fits the moments and averages of the same parameter, whose paths end alike. Leaves that no
    rule fits are replicated.

    Raises:
      UserError: a rule's axis does not exist or is not divisible by the number of devices.
    """

    def of(path: Sequence[Any], leaf: Any) -> NamedSharding:
        name = path_of(path)
        for pattern, axis in rules:
            if re.search(pattern, name) and leaf.ndim:
                if axis >= leaf.ndim or leaf.shape[axis] % mesh.size:
                    raise UserError(
                        f"mesh.shard rule ({pattern!r}, {axis}) fits {name} of shape {leaf.shape}, whose axis {axis} "
                        f"does not split over {mesh.size} devices; narrow the pattern or choose another axis"
                    )
                return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(of, tree)


def whole_batch(mesh: Mesh, size: int) -> int:
    """`size` films rounded down to a multiple of the devices, and at least one a device."""
    return max(size // mesh.size, 1) * mesh.size


def put(mesh: Mesh, batch: Batch | PyTree) -> Any:
    """Local numpy rows -> global arrays split over `data`.

    Raises:
      UserError: the global batch does not split over the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    local = max(mesh.size // jax.process_count(), 1)

    def one(x: np.ndarray) -> jax.Array:
        if len(x) % local:
            raise UserError(f"a batch of {len(x)} films does not split over {local} devices; make it a multiple")
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.tree.map(one, batch)


def replicate(mesh: Mesh, tree: PyTree) -> Any:
    """Host or device arrays -> the same on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
