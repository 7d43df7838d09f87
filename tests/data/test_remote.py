"""Films prepared by Ray, here on one machine of two workers, one of which is killed: the bytes of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FILMS, SIDE = 32, 1600  # a second or so a shard: long enough for a worker to be killed at it

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path):
    """A command line of prepare.py on a folder of films, by the name of its cache."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'cxrjax[ray]'")
    rng = np.random.default_rng(0)
    for i in range(FILMS):
        path = tmp_path / "films" / ("ill" if i % 2 else "well") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        block = rng.integers(0, 256, (SIDE, 8), np.uint8)
        Image.fromarray(np.repeat(block, SIDE // 8, axis=1)).save(path, compress_level=1)
    path.write_bytes(path.read_bytes()[:5000])
    return lambda cache, *more: [
        sys.executable, "launch/prepare.py", "--config=configs/kaggle4.py", "--config.data.name=folder",
        "--config.data.classes=('ill', 'well')", f"--config.data.root={tmp_path / 'films'}", "--config.data.size=16",
        f"--config.data.cache={tmp_path / cache}", "--config.data.quarantine_limit=0.1", *more,
    ]  # fmt: skip


def _workers(parent: int) -> list[int]:
    """The processes below `parent` that are at a shard."""
    up, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            up[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile

    def below(pid: int) -> bool:
        return pid == parent or (pid in up and below(up[pid]))

    return [pid for pid, name in names.items() if name.startswith(b"ray::") and b"_one" in name and below(pid)]


def _contents(cache: Path) -> dict[str, bytes]:
    (folder,) = cache.glob("folder-16-*/")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_worker_s_shard_goes_to_another_and_the_bytes_are_those_of_one_process(command, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    two = [*command("ray", "--ray", "--shards=4")]
    started = subprocess.Popen(two, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline, killed = time.monotonic() + 900, 0
    while not killed and started.poll() is None and time.monotonic() < deadline:
        for pid in _workers(started.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed = pid
        time.sleep(0.01)
    said = started.communicate(timeout=900)[0]
    assert started.returncode == 0, said
    assert killed, said
    assert "1 left out" in said
    subprocess.run(command("one"), cwd=ROOT, env=env, check=True, capture_output=True)
    assert _contents(tmp_path / "ray") == _contents(tmp_path / "one")
