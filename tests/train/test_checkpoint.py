"""A checkpoint comes back bit for bit or not at all, and a run never starts anew in silence."""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cxrjax.train.checkpoint import Checkpoints
from cxrjax.train.digest import leaf_digest
from cxrjax.types import State, UserError

# Orbax leaves a coroutine behind when a read fails, and Python says so when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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


def filled(folder: Path, steps: tuple[int, ...] = (1, 2)) -> Path:
    with Checkpoints(folder) as ckpt:
        for step in steps:
            ckpt.save(step, make_state(step), {"global_next_index": 10 * step}, {"auroc": step / 10})
    return folder


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("source") / "phase")


@pytest.fixture
def folder(two_steps: Path, tmp_path: Path) -> Path:
    """A folder with the whole steps 1 and 2, to be harmed."""
    return Path(shutil.copytree(two_steps, tmp_path / "phase"))


TARGET = abstract(make_state(0))


def test_round_trip_of_every_kind_of_leaf(folder: Path) -> None:
    with Checkpoints(folder) as ckpt:
        restored = ckpt.restore(TARGET)
    assert restored is not None
    assert_same(restored.state, make_state(2))
    assert restored[0] == 2
    assert restored.position == {"global_next_index": 20}
    assert restored.metrics == {"auroc": 0.2}
    assert not restored.done


def test_an_empty_folder_has_nothing_to_restore(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "new") as ckpt:
        assert ckpt.restore(TARGET) is None


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_restores_onto_another_mesh(tmp_path: Path) -> None:
    def place(devices: int, spec: PartitionSpec) -> NamedSharding:
        mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
        return NamedSharding(mesh, spec)

    state = make_state(1)
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
    assert_same(restored.state, state)
    assert restored.state.params["net"]["kernel"].sharding.is_equivalent_to(after, 2)
    assert restored.state.step.sharding.device_set == after.device_set


def data_files(step: Path) -> list[Path]:
    return sorted(p for p in (step / "state").rglob("d/*") if p.is_file())


def flip_bytes(step: Path) -> None:
    largest = max(data_files(step), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0x10
    largest.write_bytes(data)


def truncate(step: Path) -> None:
    for path in data_files(step):
        os.truncate(path, path.stat().st_size // 2)


def lose_arrays(step: Path) -> None:
    for path in data_files(step):
        path.unlink()


def empty(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def zero_manifest(step: Path) -> None:
    path = step / "state" / "manifest.ocdbt"
    path.write_bytes(bytes(path.stat().st_size))


def edit_position(step: Path) -> None:
    path = step / "meta" / "metadata"
    text = path.read_text()
    assert '"global_next_index": 20' in text
    path.write_text(text.replace('"global_next_index": 20', '"global_next_index": 21'))


@pytest.mark.parametrize("harm", [flip_bytes, truncate, lose_arrays, empty, zero_manifest, edit_position])
def test_a_damaged_step_gives_way_to_the_one_before(folder: Path, harm, caplog: pytest.LogCaptureFixture) -> None:
    harm(folder / "2")
    with caplog.at_level(logging.WARNING), Checkpoints(folder) as ckpt:
        restored = ckpt.restore(TARGET)
        assert restored is not None
        assert restored.step == 1
        assert_same(restored.state, make_state(1))
        assert f"{folder / '2'} is damaged" in caplog.text
        ckpt.save(2, make_state(22), {})  # training passes the damaged step again
        again = ckpt.restore(TARGET)
    assert again is not None
    assert_same(again.state, make_state(22))
    assert (folder / "2.damaged").is_dir()


def test_a_changed_value_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Noise is stored as it is: one flipped byte of it is one changed number, which Orbax reads without a word."""
    width = 2**14
    with Checkpoints(tmp_path) as ckpt:
        for step in (1, 2):
            ckpt.save(step, make_state(step, width), {})
    flip_bytes(tmp_path / "2")
    with Checkpoints(tmp_path) as ckpt:
        restored = ckpt.restore(abstract(make_state(0, width)))
    assert restored is not None
    assert restored.step == 1
    assert "has changed on disk: digest" in caplog.text


def test_no_good_step_is_an_error_and_harms_nothing(folder: Path) -> None:
    flip_bytes(folder / "1")
    empty(folder / "2")
    with Checkpoints(folder) as ckpt, pytest.raises(UserError, match=r"no checkpoint can be read \(step 2: .*step 1: "):
        ckpt.restore(TARGET)
    assert (folder / "1").is_dir()
    assert (folder / "2").is_dir()


def retarget(**changes) -> State:
    return dataclasses.replace(TARGET, **changes)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            retarget(params={"net": {"kernel": jax.ShapeDtypeStruct((8, 32), jnp.float32)}}),
            r"params/net/kernel: expected float32\[8, 32\], found float32\[8, 64\]",
        ),
        (
            retarget(params={"net": {"kernel": jax.ShapeDtypeStruct((8, 64), jnp.bfloat16)}}),
            r"params/net/kernel: expected bfloat16\[8, 64\], found float32\[8, 64\]",
        ),
        (retarget(params={}), r"params/net/kernel: expected nothing, found float32\[8, 64\]"),
        (
            retarget(ema={"empty": jax.ShapeDtypeStruct((0, 4), jnp.float32)}),
            r"ema/empty: expected float32\[0, 4\], found float32\[0, 3\]",
        ),
        (
            retarget(ema={**TARGET.ema, "new": jax.ShapeDtypeStruct((2,), jnp.float32)}),
            r"ema/new: expected float32\[2\], found nothing",
        ),
    ],
)
def test_another_configuration_is_an_error_not_a_damaged_step(folder: Path, target: State, message: str) -> None:
    with Checkpoints(folder) as ckpt, pytest.raises(UserError, match=message + ".*new --workdir"):
        ckpt.restore(target)
    assert (folder / "2").is_dir()


@pytest.mark.parametrize(
    ("mode", "values", "winner"), [("max", [0.9, 0.5, float("nan"), 0.7], 1), ("min", [3, 1, 2, 4], 2)]
)
def test_the_best_stays_beside_the_newest(tmp_path: Path, mode: str, values: list[float], winner: int) -> None:
    with Checkpoints(tmp_path, keep=1, best=("m", mode)) as ckpt:
        for step, value in enumerate(values, start=1):
            ckpt.save(step, make_state(step), {}, {"m": value})
        ckpt.save(5, make_state(5), {})  # without an evaluation
    with Checkpoints(tmp_path, keep=1, best=("m", mode)) as ckpt:  # the scores outlive the process
        assert ckpt.steps() == [winner, 5]
        ckpt.save(6, make_state(6), {})
        ckpt.wait()
        assert ckpt.steps() == [winner, 6]
        best = ckpt.restore_best(TARGET)
        assert best.step == winner
        assert_same(best.state, make_state(winner))


def test_a_damaged_best_is_an_error(folder: Path) -> None:
    flip_bytes(folder / "2")
    with Checkpoints(folder, best=("auroc", "max")) as ckpt, pytest.raises(UserError, match=r"best .* damaged"):
        ckpt.restore_best(TARGET)


def test_a_metric_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, best=("auroc", "max")) as ckpt:
        with pytest.raises(UserError, match=r"'auroc'.*\['loss'\]"):
            ckpt.save(1, make_state(1), {}, {"loss": 1.0})
        with pytest.raises(UserError, match="no checkpoint has"):
            ckpt.restore_best(TARGET)


def test_saving_a_step_again_replaces_it(folder: Path) -> None:
    with Checkpoints(folder) as ckpt:
        ckpt.save(2, make_state(7), {"global_next_index": 0}, done=True)
        restored = ckpt.restore(TARGET)
        assert restored is not None
        assert_same(restored.state, make_state(7))
        assert restored.done
        assert restored.metrics == {"auroc": 0.2}
        assert ckpt.steps() == [1, 2]
        with pytest.raises(UserError, match="cannot save step 1"):
            ckpt.save(1, make_state(1), {})


def test_a_step_torn_while_it_is_replaced_comes_back(folder: Path) -> None:
    (folder / "2").rename(folder / "2.old")
    (folder / "2.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(folder) as ckpt:
        restored = ckpt.restore(TARGET)
        assert restored is not None
        assert_same(restored.state, make_state(2))
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == ["1", "2"]


def test_a_second_run_on_the_folder_is_told_at_once(folder: Path) -> None:
    with (
        Checkpoints(folder),
        pytest.raises(UserError, match=rf"{folder}: in use by process {os.getpid()} .*new --workdir"),
    ):
        Checkpoints(folder)
    Checkpoints(folder).close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Checkpoints(tmp_path / "file" / "phase")


def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root may write anywhere
        with pytest.raises(UserError, match="cannot be written"):
            Checkpoints(tmp_path)
    finally:
        if root:
            os.seteuid(0)
        tmp_path.chmod(0o755)


def test_the_state_may_be_donated_after_save(tmp_path: Path) -> None:
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
        restored = ckpt.restore(abstract(expected))
    assert restored is not None
    assert_same(restored.state, expected)


def test_a_disk_without_room(folder: Path) -> None:
    """A limit on file sizes stands in for the full disk: the write fails in the same thread, in the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = make_state(3, width=2**16)
    with Checkpoints(folder) as ckpt:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, hard))
            ckpt.save(3, big, {})
            with pytest.raises(UserError, match=rf"{folder}: .* bytes are free"):
                ckpt.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert ckpt.steps() == [1, 2]
        restored = ckpt.restore(TARGET)
        assert restored is not None
        assert_same(restored.state, make_state(2))
        assert not list(folder.glob("*tmp*"))
        ckpt.save(3, big, {})  # there is room again
        ckpt.wait()
        assert ckpt.steps() == [2, 3]


VICTIM = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import State

state = State(jnp.int32(0), {"net": jnp.zeros(2**20, jnp.float32)}, {}, {}, {}, {}, {})
ckpt = Checkpoints(Path(sys.argv[1]))
step = 0
while True:
    step += 1
    ckpt.save(step, jax.tree.map(lambda x: jnp.full_like(x, step), state), {"i": step})
    print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_kill_during_a_save_leaves_a_whole_step(tmp_path: Path, delay: float) -> None:
    root = Path(__file__).parents[2]
    env = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(root)}
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env)
    assert victim.stdout is not None
    with victim.stdout:
        for line in victim.stdout:
            if int(line) == 3:
                break
        time.sleep(delay)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    target = State(
        jax.ShapeDtypeStruct((), jnp.int32), {"net": jax.ShapeDtypeStruct((2**20,), jnp.float32)}, {}, {}, {}, {}, {}
    )
    with Checkpoints(tmp_path) as ckpt:
        restored = ckpt.restore(target)
        assert restored is not None
        assert restored.step >= 2
        assert restored.position == {"i": restored.step}
        np.testing.assert_array_equal(restored.state.params["net"], float(restored.step))
        ckpt.save(restored.step + 1, restored.state, {})
    assert not list(tmp_path.glob("*tmp*"))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "float16", "bfloat16", "float32", "complex64"])
def test_digest_sees_every_bit_flip_and_the_order(dtype: str) -> None:
    rng = np.random.default_rng(0)
    kind = jnp.dtype(dtype)
    x = np.asarray(rng.normal(size=(2, 3)) > 0 if dtype == "bool" else rng.normal(size=(2, 3)) * 9).astype(kind)
    seen = {int(leaf_digest(jnp.asarray(x)))}
    variants = 1
    raw = x.tobytes()
    for bit in range(0, 8 * len(raw), 8 if dtype == "bool" else 1):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << (bit % 8)
        seen.add(int(leaf_digest(jnp.asarray(np.frombuffer(bytes(flipped), kind).reshape(x.shape)))))
        variants += 1
    assert len(seen) == variants


def test_digest_sees_a_number_and_its_negative_trade_places() -> None:
    a = jnp.asarray([1.0, 2.0, -1.0, 3.0])
    assert int(leaf_digest(a)) != int(leaf_digest(a[jnp.asarray([2, 1, 0, 3])]))
