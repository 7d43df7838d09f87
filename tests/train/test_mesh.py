"""A state is split by its shapes alone; batches lie in blocks, one a process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.tasks import TASKS
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

needs_eight = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")


def shapes(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@needs_eight
@pytest.mark.parametrize(
    ("leaf", "spec"),
    [
        (shapes(3, 3, 64, 128), (None, None, None, "fsdp")),  # the largest
        (shapes(3, 3, 128, 126), (None, None, "fsdp")),  # the largest that divides
        (shapes(128, 128), ("fsdp",)),  # of equal ones the first
        (shapes(7, 7, 3, 63), ()),  # none divides
        (shapes(4096), ()),  # small
        (shapes(8192), ("fsdp",)),
        (shapes(), ()),
        (jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8192)), ()),
    ],
)
def test_a_leaf_is_split_on_its_largest_axis_that_divides(leaf, spec):
    assert meshes.state_shardings(meshes.make(8, fsdp=4), leaf).spec == PartitionSpec(*spec)
    assert meshes.state_shardings(meshes.make(8), leaf).spec == PartitionSpec()


@needs_eight
@pytest.mark.parametrize("kind", ["classify", "ddpm", "gan"])
def test_nine_tenths_of_the_bytes_of_a_state_are_split(kind):
    config, size = {
        "classify": (defaults.classify({"name": "densenet121"}, defaults.optim("adam", 1e-3), 10, 8, ema=0.9), 64),
        "ddpm": (defaults.diffusion({"name": "unet"}, defaults.optim("adam", 1e-3), 10, 8), 64),
        "gan": (defaults.gan({"name": "cgan"}, 1e-3, 10, 8), 256),
    }[kind]
    classes = tuple(f"class {i}" for i in range(8)) if kind != "gan" else config.priority
    task = TASKS[config.task](config, classes)
    state = jax.eval_shape(task.init, jax.random.key(0), Batch.blank(1, size, len(classes)))
    placed = meshes.state_shardings(meshes.make(8, fsdp=8), state)
    for part in ("params", "opt", "ema"):
        pairs = zip(jax.tree.leaves(getattr(state, part)), jax.tree.leaves(getattr(placed, part)), strict=True)
        total = split = 0
        for leaf, sharding in pairs:
            count = leaf.size * leaf.dtype.itemsize
            total, split = total + count, split + count * ("fsdp" in sharding.spec)
        assert split >= 0.9 * total > 0, part


@needs_eight
def test_a_batch_lies_in_one_order_whatever_the_axes():
    rows = np.arange(16, dtype=np.float32)
    for fsdp in (1, 2, 8):
        placed = meshes.put(meshes.make(8, fsdp), rows)
        by_device = sorted(placed.addressable_shards, key=lambda shard: shard.device.id)
        assert np.concatenate([shard.data for shard in by_device]).tolist() == rows.tolist()


@needs_eight
@pytest.mark.parametrize(("devices", "fsdp"), [(8, 3), (6, 4), (8, 0)])
def test_an_axis_that_does_not_divide_the_devices_is_told(devices, fsdp):
    with pytest.raises(UserError, match=rf"mesh\.fsdp = {fsdp}: expected a divisor of the {devices} devices"):
        meshes.make(devices, fsdp)


@needs_eight
def test_a_batch_that_does_not_split_is_told():
    with pytest.raises(UserError, match="does not split"):
        meshes.put(meshes.make(8), {"image": np.zeros((6, 4, 4, 1), np.float32)})


def test_too_many_devices_are_refused():
    with pytest.raises(UserError, match=r"mesh\.devices"):
        meshes.make(jax.device_count() + 1)
