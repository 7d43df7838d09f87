"""A checkpoint comes back bit for bit or not at all, and a run never starts anew in silence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cxrjax.errors import UserError
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import State

# Orbax leaves a coroutine behind when a read fails, and Python says so when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_round_trip_of_every_kind_of_leaf(states: SimpleNamespace, folder: Path) -> None:
    with Checkpoints(folder) as ckpt:
        restored = ckpt.restore(states.target)
    assert restored is not None
    states.assert_same(restored.state, states.make(2))
    assert restored[0] == 2
    assert restored.position == {"global_next_index": 20}
    assert restored.metrics == {"auroc": 0.2}
    assert not restored.done


def test_an_empty_folder_has_nothing_to_restore(states: SimpleNamespace, tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "new") as ckpt:
        assert ckpt.restore(states.target) is None


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_restores_onto_another_mesh(states: SimpleNamespace, tmp_path: Path) -> None:
    def place(devices: int, spec: PartitionSpec) -> NamedSharding:
        mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
        return NamedSharding(mesh, spec)

    state = states.make(1)
    before, after = place(8, PartitionSpec("data")), place(4, PartitionSpec(None, "data"))

    def shard(wide: NamedSharding, state: State) -> State:
        whole = NamedSharding(wide.mesh, PartitionSpec())
        return jax.tree.map(lambda x: wide if x.shape == (8, 64) else whole, state)

    with Checkpoints(tmp_path) as ckpt:
        ckpt.save(1, jax.device_put(state, shard(before, state)), {})
        target = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shard(after, state)
        )
        restored = ckpt.restore(target)
    assert restored is not None
    states.assert_same(restored.state, state)
    assert restored.state.params["net"]["kernel"].sharding.is_equivalent_to(after, 2)
    assert restored.state.step.sharding.device_set == after.device_set


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"params": {"net": {"kernel": jax.ShapeDtypeStruct((8, 32), jnp.float32)}}},
            r"params/net/kernel: expected float32\[8, 32\], found float32\[8, 64\]",
        ),
        (
            {"params": {"net": {"kernel": jax.ShapeDtypeStruct((8, 64), jnp.bfloat16)}}},
            r"params/net/kernel: expected bfloat16\[8, 64\], found float32\[8, 64\]",
        ),
        ({"params": {}}, r"params/net/kernel: expected nothing, found float32\[8, 64\]"),
        (
            {"ema": {"empty": jax.ShapeDtypeStruct((0, 4), jnp.float32)}},
            r"ema/empty: expected float32\[0, 4\], found float32\[0, 3\]",
        ),
        (
            {
                "ema": {
                    "empty": jax.ShapeDtypeStruct((0, 3), jnp.float32),
                    "new": jax.ShapeDtypeStruct((2,), jnp.float32),
                }
            },
            r"ema/new: expected float32\[2\], found nothing",
        ),
    ],
)
def test_another_configuration_is_an_error_not_a_damaged_step(
    states: SimpleNamespace, folder: Path, changes: dict[str, Any], message: str
) -> None:
    with Checkpoints(folder) as ckpt, pytest.raises(UserError, match=message + ".*new --workdir"):
        ckpt.restore(dataclasses.replace(states.target, **changes))
    assert (folder / "2").is_dir()


@pytest.mark.parametrize(
    ("mode", "values", "winner"), [("max", [0.9, 0.5, float("nan"), 0.7], 1), ("min", [3, 1, 2, 4], 2)]
)
def test_the_best_stays_beside_the_newest(
    states: SimpleNamespace, tmp_path: Path, mode: str, values: list[float], winner: int
) -> None:
    with Checkpoints(tmp_path, keep=1, best=("m", mode)) as ckpt:
        for step, value in enumerate(values, start=1):
            ckpt.save(step, states.make(step), {}, {"m": value})
        ckpt.save(5, states.make(5), {})  # without an evaluation
    with Checkpoints(tmp_path, keep=1, best=("m", mode)) as ckpt:  # the scores outlive the process
        assert ckpt.steps() == [winner, 5]
        ckpt.save(6, states.make(6), {})
        ckpt.wait()
        assert ckpt.steps() == [winner, 6]
        best = ckpt.restore_best(states.target)
        assert best.step == winner
        states.assert_same(best.state, states.make(winner))


def test_a_metric_that_is_not_there_is_named(states: SimpleNamespace, tmp_path: Path) -> None:
    with Checkpoints(tmp_path, best=("auroc", "max")) as ckpt:
        with pytest.raises(UserError, match=r"'auroc'.*\['loss'\]"):
            ckpt.save(1, states.make(1), {}, {"loss": 1.0})
        with pytest.raises(UserError, match="no checkpoint has"):
            ckpt.restore_best(states.target)


def test_saving_a_step_again_replaces_it(states: SimpleNamespace, folder: Path) -> None:
    with Checkpoints(folder) as ckpt:
        ckpt.save(2, states.make(7), {"global_next_index": 0}, done=True)
        restored = ckpt.restore(states.target)
        assert restored is not None
        states.assert_same(restored.state, states.make(7))
        assert restored.done
        assert restored.metrics == {"auroc": 0.2}
        assert ckpt.steps() == [1, 2]
        with pytest.raises(UserError, match="cannot save step 1"):
            ckpt.save(1, states.make(1), {})


def test_the_state_may_be_donated_after_save(states: SimpleNamespace, tmp_path: Path) -> None:
    bump = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    floats = State(
        step=jnp.int32(1),
        params={"net": jnp.arange(2**20, dtype=jnp.float32)},
        stats={}, opt={}, ema={}, frozen={}, evals={},
    )  # fmt: skip
    expected = jax.tree.map(np.array, floats)
    with Checkpoints(tmp_path) as ckpt:
        ckpt.save(1, floats, {})
        moved = bump(bump(floats))
        jax.block_until_ready(moved)
        for x in jax.tree.leaves(
            (floats, moved)
        ):  # the runtime may decline a donation while the writer holds the buffer
            if not x.is_deleted():
                x.delete()
        restored = ckpt.restore(states.abstract(expected))
    assert restored is not None
    states.assert_same(restored.state, expected)
