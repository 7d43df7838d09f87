"""States of every kind of leaf, and a folder that holds two of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import State


def make_state(seed: int, width: int = 64) -> State:
    rng = np.random.default_rng(seed)
    return State(
        step=jnp.int32(seed),
        params={"net": {"kernel": jnp.asarray(rng.normal(size=(8, width)), jnp.float32)}},
        stats={"net": {"mean": jnp.asarray(rng.normal(size=(width,)), jnp.bfloat16)}},
        opt={"net": (jnp.int32(seed), None, {"mu": jnp.asarray(rng.normal(size=(8, width)), jnp.float16)})},
        ema={"empty": jnp.zeros((0, 3), jnp.float32)},
        frozen={"mask": jnp.asarray(rng.random(5) < 0.5), "table": jnp.asarray(rng.integers(-9, 9, 7), jnp.int8)},
        evals={"key": jax.random.key(seed), "keys": jax.random.split(jax.random.key(seed), 3)},
    )


def abstract(state: State, sharding: jax.sharding.Sharding | None = None) -> State:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def bits(x: jax.Array) -> tuple[str, tuple[int, ...], bytes]:
    data = jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return str(x.dtype), x.shape, np.asarray(data).tobytes()


def assert_same(a: State, b: State) -> None:
    assert str(jax.tree.structure(a)) == str(jax.tree.structure(b))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert bits(x) == bits(y)


@pytest.fixture(scope="session")
def states() -> SimpleNamespace:
    """`make(seed, width)`, `abstract(state, sharding)`, `assert_same(a, b)`, and `target`, the abstract state."""
    return SimpleNamespace(make=make_state, abstract=abstract, assert_same=assert_same, target=abstract(make_state(0)))


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "phase"
    with Checkpoints(folder) as ckpt:
        for step in (1, 2):
            ckpt.save(step, make_state(step), {"global_next_index": 10 * step}, {"auroc": step / 10})
    return folder


@pytest.fixture
def folder(two_steps: Path, tmp_path: Path) -> Path:
    """A folder with the whole steps 1 and 2, to be harmed."""
    return Path(shutil.copytree(two_steps, tmp_path / "phase"))
