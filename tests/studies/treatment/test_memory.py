"""What a treatment study and its page hold in memory does not grow with the number of arms and lambdas."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cxrjax import defaults, files, manifest, report
from cxrjax.infer import arms
from cxrjax.studies.treatment import judging, measures, ranking, sweep
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes

N, SIDE = 48, 64
ONE = N * SIDE * SIDE * 4  # bytes of the films of one arm at one lambda
JUDGES = ("independent", "cam_network")
FEW, MANY = (2, 2), (6, 4)  # arms, lambdas


def write_sweep(workdir: Path, n: int, side: int, count: int, lambdas: int) -> tuple[list[str], list[int]]:
    """The files of a sweep, all treated films the same file under many names; gives arms and lambdas."""
    rng, folder = np.random.default_rng(0), workdir / "progress"
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:side, 0:side] / side
    gray = (np.round(64 * (0.3 + 0.3 * np.sin(9 * x * y))) / 64)[None] * rng.uniform(0.5, 1, (n, 1, 1)).round(1)
    image, sick = gray.astype(np.float32), np.arange(n) < 2 * n // 3
    cam = np.broadcast_to(((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1).astype(np.float32), image.shape)
    normal = {f"normal_probability_{judge}": rng.uniform(size=n).astype(np.float32) for judge in JUDGES}
    pooled = rng.normal(size=(n, 8)).astype(np.float32)
    files.write_arrays(
        folder / "films.npz", key=np.arange(n).astype(str), disease=sick, severity=rng.uniform(size=n), image=image,
        cam=cam, twin=image, lesion=cam > 0.5, lungs=cam > 0.5,
    )  # fmt: skip
    names, steps = [f"arm_{i:02d}" for i in range(count)], [100 * (i + 1) for i in range(lambdas)]
    files.write_arrays(folder / "untreated.npz", image=image, pooled=pooled, **normal)
    files.write_arrays(folder / "one.part.npz", image=image[::-1], pooled=pooled, seconds=np.asarray(0.5), **normal)
    for name in names:
        for lam in steps:
            os.link(folder / "one.part.npz", folder / f"{name}_{lam:04d}.npz")
    (folder / "one.part.npz").unlink()
    files.write_arrays(folder / "masks.npz", **{name: np.roll(cam, i, 1) for i, name in enumerate(names)})
    return names, steps


def write_page(workdir: Path, names: list[str], steps: list[int], measured: int = 10**9) -> None:
    """Figures of the first arms, as the study has them, and the page."""
    out = measures.results(workdir / "progress", tuple(names[:measured]), tuple(steps), JUDGES)
    out["tables"] = ranking.tables(out, tuple(names[:measured]), "independent", measures.LEVELS, truth=True)
    manifest.write_json(workdir / "results.json", out)
    manifest.write_json(workdir / "manifest.json", {"config": {"study": {"name": "progress", "modes": names}}})
    report.write(workdir)


def peak(work: Callable[[], Any]) -> int:
    """Bytes that numpy and Python hold at most while the work is done, beside what they hold before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_figures_of_many_arms_take_the_memory_of_few(tmp_path):
    found = []
    for count, lambdas in (FEW, MANY):
        names, steps = write_sweep(tmp_path / str(count), N, SIDE, count, lambdas)
        folder = tmp_path / str(count) / "progress"
        found.append(peak(lambda f=folder, n=names, s=steps: measures.results(f, tuple(n), tuple(s), JUDGES)))
    assert found[1] - found[0] < 2 * ONE


def test_the_page_of_many_arms_keeps_the_films_that_it_shows(tmp_path):
    """At most 16 films and those of two figures are shown, of however many."""
    found = []
    for n in (N, 4 * N):
        write_sweep(tmp_path / str(n), n, SIDE, *MANY)
        manifest.write_json(tmp_path / str(n) / "results.json", {})
        manifest.write_json(tmp_path / str(n) / "manifest.json", {"config": {"study": {"name": "progress"}}})
        found.append(peak(lambda n=n: report.faces.read(tmp_path / str(n))))
    arms_of, lambdas = MANY
    assert found[1] - found[0] < 3 * ONE * 8 < 3 * ONE * arms_of * lambdas


def test_a_sweep_of_many_arms_takes_the_memory_of_few(tmp_path, monkeypatch):
    """Networks that answer at once stand for the real ones, which take the same memory each time."""

    def treated(*_: Any) -> Any:
        return jax.jit(lambda image, *rest: 1 - image)

    def score(_: Any) -> Any:
        return lambda image: {f"normal_probability_{judge}": np.zeros(len(image), np.float32) for judge in JUDGES}

    monkeypatch.setattr(sweep.treat, "compiled", treated)
    monkeypatch.setattr(sweep, "scorer", score)
    monkeypatch.setattr(sweep.masks, "make", lambda wanted, _, image, *rest: dict.fromkeys(wanted, image))
    found, mesh = [], meshes.make(1)
    for count, lambdas in (FEW, MANY):
        names = tuple(f"arm_{i}" for i in range(count))
        config = defaults.treatment(
            modes=names, arms={name: {"mode": "uniform", "resamples": i + 1} for i, name in enumerate(names)}, batch=20
        )
        image = np.random.default_rng(0).integers(0, 2, (N, SIDE, SIDE, 1)).astype(np.float32)
        part = sweep.Part(tmp_path / str(count) / "progress", 0, N)
        with logs.Log(_made(tmp_path / str(count))) as log:
            whole = sweep.Sweep(
                image, {}, {}, {}, (part,), mesh, 20, sweep.treat.keys_of(0, N), log.console,
                judging.Asked(insertions=4),
            )  # fmt: skip
            chosen, steps = arms.of(config), tuple(100 * (i + 1) for i in range(lambdas))
            found.append(peak(lambda w=whole, c=chosen, s=steps: sweep.run(w, c, s)))
        assert len(list(part.folder.glob("arm_*.npz"))) == count * lambdas
    assert found[1] - found[0] < 2 * ONE


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


LIMIT = 2.5e9


@pytest.mark.slow
def test_18_arms_at_6_lambdas_of_320_films_stay_below_two_and_a_half_gigabytes(tmp_path):
    """The figures of two of the arms, each of which takes as much, and the page of all."""
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_memory
workdir = Path({str(tmp_path / "run")!r})
test_memory.write_page(workdir, *test_memory.write_sweep(workdir, 320, 256, 18, 6), measured=2)
"""
    child = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    print(f"{usage.ru_maxrss * 1024 / 1e9:.2f} GB, {usage.ru_utime:.0f} s")
    assert usage.ru_maxrss * 1024 < LIMIT
