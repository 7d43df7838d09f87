"""A folder of checkpoints harmed, torn, locked or full: the newest whole step comes back, or an error says why."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import State

# Orbax leaves a coroutine behind when a read fails, and Python says so when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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
def test_a_damaged_step_gives_way_to_the_one_before(
    states: SimpleNamespace, folder: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(folder / "2")
    with caplog.at_level(logging.WARNING), Checkpoints(folder) as ckpt:
        restored = ckpt.restore(states.target)
        assert restored is not None
        assert restored.step == 1
        states.assert_same(restored.state, states.make(1))
        assert f"{folder / '2'} is damaged" in caplog.text
        ckpt.save(2, states.make(22), {})  # training passes the damaged step again
        again = ckpt.restore(states.target)
    assert again is not None
    states.assert_same(again.state, states.make(22))
    assert (folder / "2.damaged").is_dir()


def test_a_changed_value_is_named(states: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Noise is stored as it is: one flipped byte of it is one changed number, which Orbax reads without a word."""
    width = 2**14
    with Checkpoints(tmp_path) as ckpt:
        for step in (1, 2):
            ckpt.save(step, states.make(step, width), {})
    flip_bytes(tmp_path / "2")
    with Checkpoints(tmp_path) as ckpt:
        restored = ckpt.restore(states.abstract(states.make(0, width)))
    assert restored is not None
    assert restored.step == 1
    assert "has changed on disk: digest" in caplog.text


def test_no_good_step_is_an_error_and_harms_nothing(states: SimpleNamespace, folder: Path) -> None:
    flip_bytes(folder / "1")
    empty(folder / "2")
    with Checkpoints(folder) as ckpt, pytest.raises(UserError, match=r"no checkpoint can be read \(step 2: .*step 1: "):
        ckpt.restore(states.target)
    assert (folder / "1").is_dir()
    assert (folder / "2").is_dir()


def test_a_damaged_best_gives_way_to_the_next_best_and_that_is_noted(states: SimpleNamespace, folder: Path) -> None:
    with Checkpoints(folder, best=("auroc", "max")) as ckpt:
        assert (ckpt.restore_best(states.target).step, ckpt.restore_best(states.target).note) == (2, "")
    flip_bytes(folder / "2")
    for _ in range(2):  # the second time it has been set aside
        with Checkpoints(folder, best=("auroc", "max")) as ckpt:
            restored = ckpt.restore_best(states.target)
        assert restored.step == 1
        states.assert_same(restored.state, states.make(1))
        assert restored.note == "phase: of the evaluated steps the best that can be read, 1, is used; damaged: 2."
    empty(folder / "1")
    with (
        Checkpoints(folder, best=("auroc", "max")) as ckpt,
        pytest.raises(UserError, match=r"is damaged \(step 2: set aside"),
    ):
        ckpt.restore_best(states.target)


def test_a_finished_folder_is_read_by_several_and_from_read_only_storage(
    states: SimpleNamespace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_bytes(folder / "2")
    before = sorted(folder.rglob("*"))
    for path in (*before, folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    above = {path: path.stat().st_mode for path in folder.parents if path.stat().st_mode & 0o55 != 0o55}
    try:
        if root:  # root may write anywhere; who may not has to get there
            for path, mode in above.items():
                path.chmod(mode | 0o55)
            os.seteuid(65534)
        first = Checkpoints(folder, best=("auroc", "max"), read_only=True)
        with first, Checkpoints(folder, best=("auroc", "max"), read_only=True) as second:
            for restored in (first.restore(states.target), second.restore_best(states.target)):
                assert restored is not None
                assert restored.step == 1
                states.assert_same(restored.state, states.make(1))
    finally:
        if root:
            os.seteuid(0)
            for path, mode in above.items():
                path.chmod(mode)
        for path in (folder, *before):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.EIO, "Input/output error"), UserError, "see to the storage.* from step 2"),
        (OSError(errno.ENOSPC, "No space left on device"), UserError, r"the disk is full, [\d,]+ bytes.* step 2"),
        (TypeError("a fault of ours"), TypeError, "a fault of ours"),
    ],
)
def test_what_is_no_full_disk_is_not_called_one(
    states: SimpleNamespace, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type, words: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    with Checkpoints(folder) as ckpt:
        with monkeypatch.context() as patch:
            patch.setattr(ckpt._folder._manager, "save", fail)
            with pytest.raises(kind, match=words):
                ckpt.save(3, states.make(3), {})
        restored = ckpt.restore(states.target)
        assert restored is not None
        assert restored.step == 2


def test_a_step_torn_while_it_is_replaced_comes_back(states: SimpleNamespace, folder: Path) -> None:
    (folder / "2").rename(folder / "2.old")
    (folder / "2.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(folder) as ckpt:
        restored = ckpt.restore(states.target)
        assert restored is not None
        states.assert_same(restored.state, states.make(2))
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


def test_a_disk_without_room(states: SimpleNamespace, folder: Path) -> None:
    """A limit on file sizes stands in for the full disk: the write fails in the same thread, in the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = states.make(3, width=2**16)
    with Checkpoints(folder) as ckpt:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, hard))
            ckpt.save(3, big, {})
            with pytest.raises(UserError, match=rf"{folder}: the disk is full, [\d,]+ bytes .* from step 2"):
                ckpt.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert ckpt.steps() == [1, 2]
        restored = ckpt.restore(states.target)
        assert restored is not None
        states.assert_same(restored.state, states.make(2))
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
