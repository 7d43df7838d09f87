"""Treats films at every lambda in every arm; each result is a file at once, so that a kill costs one of them.

Arms that share a diffusion and a sampler are one program: films, lambdas and modes are its data, in whole batches over
every device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cxrjax.infer import masks, treat
from cxrjax.infer.arms import Arm, Mask
from cxrjax.infer.batches import one_batch
from cxrjax.infer.classifier import Classifier
from cxrjax.infer.diffusion import Diffusion
from cxrjax.ops import guidance
from cxrjax.studies.arrays import exists, read_arrays, there, write_arrays
from cxrjax.studies.treatment import judging
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes


class Part(NamedTuple):
    """The films of one source among those of a sweep, from `start` to `stop`, and the folder of their files."""

    folder: Path
    start: int
    stop: int

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Its share of (n, ...) rows."""
        return rows[self.start : self.stop]


class Sweep(NamedTuple):
    """What every treatment of a study shares.

    Attributes:
      image: (n, h, w, 1) films in [0, 1], of every source.
      diffusions, classifiers: the trained networks, by phase.
      scoring: the classifiers that score every result, by role; the first one's features are kept.
      parts: the sources, in the order of their films.
      mesh: every device.
      batch: rows at once.
      keys: (n, ...) PRNG key data, one a film, shared by every arm.
      console: where progress is shown.
      asked: of every result, beside the judges' verdicts.
    """

    image: np.ndarray
    diffusions: Mapping[str, Diffusion]
    classifiers: Mapping[str, Classifier]
    scoring: Mapping[str, Classifier]
    parts: tuple[Part, ...]
    mesh: Mesh
    batch: int
    keys: np.ndarray
    console: Any
    asked: judging.Asked = judging.NOTHING


def scorer(sweep: Sweep) -> judging.Score:
    """`judging.scorer` of the judges of a sweep."""
    return judging.scorer(sweep.scoring, sweep.mesh, sweep.batch)


def _of(part: Part, name: str, rows: np.ndarray) -> np.ndarray:
    """A source's share of what `judged` tells of all films."""
    return part.of(rows.T).T if name.startswith("path_") else part.of(rows)


class Job(NamedTuple):
    """One arm at one lambda on the films of one source, and the file that it becomes; `stride` 0 is the arm's own."""

    arm: Arm
    lam: int
    path: Path
    part: Part
    stride: int = 0


def run_jobs(
    sweep: Sweep, jobs: list[Job], mask_of: Mapping[Mask, np.ndarray], finish: Callable[[Job, np.ndarray, float], None],
    title: str,
) -> None:  # fmt: skip
    """Treats its films in every job whose file is missing, program by program, by rising number of evaluations.

    Films of all sources share programs and batches.

    Args:
      sweep: what they share.
      jobs: the work.
      mask_of: the masks of the arms.
      finish: `(job, treated (n, h, w, 1), seconds a film)`, called when a job is whole.
      title: of the progress bar.
    """
    todo = [job for job, made in zip(jobs, there([job.path for job in jobs]), strict=True) if not made]
    programs = list(dict.fromkeys(treat.program_of(job.arm) for job in todo))
    with logs.progress(sweep.console) as bar:
        task_id = bar.add_task(title, total=len(jobs), completed=len(jobs) - len(todo), note="")
        for program in programs:
            own = sorted((job for job in todo if treat.program_of(job.arm) == program), key=_evaluations)
            walk = treat.compiled(program, sweep.diffusions, sweep.classifiers)
            lung = treat.lungs_for(program, sweep.image)
            rows = [(k, film) for k, job in enumerate(own) for film in range(job.part.start, job.part.stop)]
            made: dict[int, list[np.ndarray]] = {k: [] for k in range(len(own))}
            seconds: dict[int, float] = dict.fromkeys(range(len(own)), 0.0)
            size = _rows_at_once(sweep, len(own))
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                job_of = np.array([k for k, _ in part])
                bar.update(task_id, note=f"{own[part[0][0]].arm.name}, lambda {own[part[0][0]].lam}")
                arrays = _rows_of(sweep, [(own[k], film) for k, film in part], mask_of, lung)
                if not start:  # compiled, by walks of no length, before the clock runs
                    one_batch(sweep.mesh, size, walk, *arrays._replace(lam=0 * arrays.lam))
                begun = time.perf_counter()
                treated = one_batch(sweep.mesh, size, walk, *arrays)
                each = (time.perf_counter() - begun) / len(part)
                for k in dict.fromkeys(job_of.tolist()):
                    n = own[k].part.stop - own[k].part.start
                    made[k].append(treated[job_of == k])
                    seconds[k] += each * int((job_of == k).sum())
                    if sum(map(len, made[k])) == n:
                        finish(own[k], np.concatenate(made.pop(k)), seconds[k] / n)
                        bar.advance(task_id)


def _rows_of(
    sweep: Sweep, part: list[tuple[Job, int]], mask_of: Mapping[Mask, np.ndarray], lung: np.ndarray
) -> treat.Rows:
    film = np.array([f for _, f in part])

    def numbers(values: list[int]) -> np.ndarray:
        return np.array(values, np.int32)

    return treat.Rows(
        sweep.image[film], np.stack([mask_of[job.arm.mask][f] for job, f in part]), lung[film],
        numbers([job.lam for job, _ in part]),
        numbers([int(job.stride or job.arm.sampler.stride) for job, _ in part]),
        numbers([guidance.code(job.arm.mode) for job, _ in part]), sweep.keys[film],
    )  # fmt: skip


def _evaluations(job: Job) -> int:
    return -(-job.lam // int(job.stride or job.arm.sampler.stride))


def _rows_at_once(sweep: Sweep, jobs: int) -> int:
    """A multiple of the devices near `batch` that seldom parts a job: rows together walk as far as the farthest."""
    n, most = max(part.stop - part.start for part in sweep.parts), meshes.whole_batch(sweep.mesh, sweep.batch)
    rows = n * min(most // n, jobs) if n <= most else -(-n // -(-n // most))
    return min(-(-rows // sweep.mesh.size) * sweep.mesh.size, most)


def make_masks(sweep: Sweep, arms: tuple[Arm, ...]) -> dict[Mask, np.ndarray]:
    """Every mask (n, h, w, 1) that arms treat by, of all films."""

    def residual(lam: int) -> np.ndarray:
        """|x - x'| of a uniform pass by the first arm's diffusion."""
        first = next(arm for arm in arms if arm.mask.source == "anomaly" and arm.mask.anomaly_lambda == lam)
        arm = first._replace(name="uniform", mode="uniform", every=0, paste=False, options=())
        name = f"{first.diffusion}_{lam:04d}.npz"
        jobs = [Job(arm, lam, part.folder / "passes" / name, part) for part in sweep.parts]
        run_jobs(
            sweep, jobs, {first.mask: np.zeros_like(sweep.image)},
            lambda job, treated, _: write_arrays(job.path, image=treated[..., 0]), "a uniform pass",
        )  # fmt: skip
        return np.abs(np.concatenate([read_arrays(job.path)["image"] for job in jobs]) - sweep.image[..., 0])

    wanted = tuple(dict.fromkeys(arm.mask for arm in arms))
    return masks.make(wanted, sweep.classifiers, sweep.image, sweep.mesh, sweep.batch, residual)


def run(
    sweep: Sweep, arms: tuple[Arm, ...], lambdas: tuple[int, ...], listed: str = "masks.npz"
) -> dict[str, np.ndarray]:
    """Writes `<arm>_<lambda>.npz` with `image` (n, h, w), the judges' verdicts, `pooled`, and the cost of a film.

    Also `untreated.npz`, and under the name `listed` every arm's mask; all in the folder of each source.

    Returns:
      the masks (n, h, w) by arm, of all films.
    """
    score = scorer(sweep)

    def finish(job: Job, treated: np.ndarray, seconds: float) -> None:
        asked = guidance.evaluations(job.arm.mode, job.lam, job.arm.sampler, dict(job.arm.options))
        cost = {"seconds": np.asarray(seconds), "evaluations": np.asarray(asked)}
        about = judging.judged(score, sweep.asked, job.part.of(sweep.image), treated)
        write_arrays(job.path, image=treated[..., 0], **cost, **about)

    untreated = {"image": sweep.image[..., 0], **judging.judged(score, sweep.asked, sweep.image, sweep.image)}
    mask_of = make_masks(sweep, arms)
    for part in sweep.parts:
        own = {name: _of(part, name, rows) for name, rows in untreated.items()}
        write_arrays(part.folder / "untreated.npz", **own)
        write_arrays(part.folder / listed, **{arm.name: part.of(mask_of[arm.mask])[..., 0] for arm in arms})

    jobs = [
        Job(arm, lam, part.folder / f"{arm.name}_{lam:04d}.npz", part)
        for part in sweep.parts for arm in arms for lam in lambdas
    ]  # fmt: skip

    # The same walk, pasted: what has been made without need not be made again.
    def walk_of(arm: Arm) -> tuple[Any, ...]:
        return treat.program_of(arm), guidance.walk_of(arm.mode), arm.sampler.stride

    pastes = {arm.name for arm in arms if guidance.MODES[arm.mode].pastes}
    walked = {
        walk_of(arm): arm.name for arm in arms
        if not (arm.paste or arm.name in pastes or guidance.MODES[arm.mode].guided)
    }  # fmt: skip
    pasted = [job for job in jobs if job.arm.name in pastes and walk_of(job.arm) in walked]
    run_jobs(sweep, [job for job in jobs if job not in pasted], mask_of, finish, "progress")
    for job in pasted:
        if not exists(job.path):
            source = walked[walk_of(job.arm)]
            uniform = read_arrays(job.path.with_name(f"{source}_{job.lam:04d}.npz"))
            image, mask = (jnp.asarray(job.part.of(rows)) for rows in (sweep.image, mask_of[job.arm.mask]))
            blended = guidance.blend(image, jnp.asarray(uniform["image"][..., None]), mask)
            finish(job, np.asarray(blended), float(uniform["seconds"]))
    return {arm.name: mask_of[arm.mask][..., 0] for arm in arms}
