"""One global mesh: batches split over all of it, a state replicated or split over the devices of its axis `fsdp`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cxrjax.errors import UserError
from cxrjax.types import Batch, PyTree

BATCH = PartitionSpec(("data", "fsdp"))
SMALL = 2**12  # elements up to which a leaf is not worth splitting


def make(num_devices: int = 0, fsdp: int = 1) -> Mesh:
    """A mesh over every device of every process (or the first `num_devices`, equally many of each).

    Args:
      num_devices: how many; 0 for all.
      fsdp: over how many of them a state is split, see `state_shardings`; the axis `data` has the rest.

    Raises:
      UserError: there are not so many, or they do not divide.
    """
    devices, processes = jax.devices(), jax.process_count()
    if num_devices > len(devices):
        raise UserError(f"mesh.devices = {num_devices}, but {len(devices)} are there; lower it, or 0 for all")
    count = num_devices or len(devices)
    if count % processes:
        raise UserError(f"mesh.devices = {count}: expected a multiple of the {processes} processes, or 0 for all")
    if fsdp < 1 or count % fsdp:
        raise UserError(f"mesh.fsdp = {fsdp}: expected a divisor of the {count} devices")
    # By process, so that each holds one block of a batch; `jax.make_mesh` may order them otherwise.
    own = [[d for d in devices if d.process_index == i][: count // processes] for i in range(processes)]
    # Auto axes: under Explicit ones, now the default, Linen's Dropout fails.
    mesh = Mesh(np.array(own).reshape(-1, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    if processes > 1:
        _meet(mesh)
    return mesh


def _meet(mesh: Mesh) -> None:
    """Opens the connections between devices now, while all processes are here: gloo waits for 30 s, and a process that
    compiles for longer than another would be too late."""
    for axes in (("data", "fsdp"), ("data",), ("fsdp",)):
        split = NamedSharding(mesh, PartitionSpec(axes))
        x = jax.make_array_from_callback((mesh.size,), split, lambda index: np.zeros(mesh.size, np.float32)[index])
        jax.block_until_ready(replicate(mesh, x))


def state_shardings(mesh: Mesh, tree: PyTree) -> PyTree:
    """A sharding per leaf: its largest axis that the axis `fsdp` of the mesh divides is split over that.

    Small leaves are replicated, those without such an axis too; with `fsdp` 1 all are.
    """
    size = mesh.shape["fsdp"]

    def of(leaf: Any) -> NamedSharding:
        fits = [(length, -axis) for axis, length in enumerate(leaf.shape) if length % size == 0]
        if size == 1 or not fits or leaf.size <= SMALL or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            return NamedSharding(mesh, PartitionSpec())
        return NamedSharding(mesh, PartitionSpec(*[None] * -max(fits)[1], "fsdp"))

    return jax.tree.map(of, tree)


def stacked_shardings(mesh: Mesh, tree: PyTree) -> PyTree:
    """A sharding per leaf of stacked states: the first axis is split over all devices, scalars are replicated."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, BATCH if leaf.ndim else PartitionSpec()), tree)


def whole_batch(mesh: Mesh, size: int) -> int:
    """`size` films rounded down to a multiple of the devices, and at least one a device."""
    return max(size // mesh.size, 1) * mesh.size


def put(mesh: Mesh, batch: Batch | PyTree) -> Any:
    """Local numpy rows, this process's block of the batch -> global arrays split over all devices.

    Raises:
      UserError: the global batch does not split over the devices.
    """
    sharding = NamedSharding(mesh, BATCH)
    local = max(mesh.size // jax.process_count(), 1)

    def one(x: np.ndarray) -> jax.Array:
        if len(x) % local:
            raise UserError(f"a batch of {len(x)} films does not split over {local} devices; make it a multiple")
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.tree.map(one, batch)


def place(tree: PyTree, shardings: PyTree) -> Any:
    """Host or device arrays, the same in every process -> on these shardings, a pytree of them or one for all."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    leaves, structure = jax.tree.flatten(shardings)
    return _identity(structure, tuple(leaves))(tree)


@lru_cache(maxsize=32)
def _identity(structure: Any, leaves: tuple[NamedSharding, ...]) -> Any:
    """`device_put` takes no typed key to devices of other processes; a program does."""
    return jax.jit(lambda tree: tree, out_shardings=jax.tree.unflatten(structure, leaves))


def replicate(mesh: Mesh, tree: PyTree) -> Any:
    """Host or device arrays -> the same on every device."""
    return place(tree, NamedSharding(mesh, PartitionSpec()))
