"""Quality against the number of network evaluations: each solver beside ancestral sampling of many steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.infer import arms
from cxrjax.metrics import entries, similarity
from cxrjax.ops import guidance, sampling
from cxrjax.ops.diffusion import Spacing
from cxrjax.studies.arrays import read_arrays, write_arrays
from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import sweep
from cxrjax.studies.treatment.measures import UNITS
from cxrjax.tasks import ddpm
from cxrjax.types import Results

REFERENCE = "ancestral"
QUADRATIC = "_quadratic"


def split(name: str) -> tuple[str, Spacing]:
    """`ddim_quadratic` -> (`ddim`, `quadratic`): the sampler, and how its times are spaced."""
    return name.removesuffix(QUADRATIC), "quadratic" if name.endswith(QUADRATIC) else "even"


def check(config: Any) -> None:
    """Raises UserError where the comparison could not be run."""
    study = config.study
    options = study.solvers
    if not options.evaluations:
        return
    names = [arm.name for arm in arms.of(study)]
    if options.mode not in names:
        raise UserError(f"study.solvers.mode = {options.mode!r} is none of study.modes, {', '.join(names)}")
    arm = next(arm for arm in arms.of(study) if arm.name == options.mode)
    mode = guidance.MODES[arm.mode]
    if mode.by_hand:
        raise UserError(f"study.solvers.mode = {options.mode!r} asks no network; give an arm that walks")
    known = sampling.SAMPLERS[:2] if mode.by_pixel or mode.own else sampling.SAMPLERS
    for name in options.names:
        if split(name)[0] not in known:
            raise UserError(
                f"study.solvers.names has {name!r}: expected {', '.join(known)}, or one of them + {QUADRATIC}"
            )
    phase = config[arm.diffusion]
    top = ddpm.longest(phase)
    largest = max(*options.evaluations, options.reference)
    if not 1 <= options["lambda"] <= top or min(options.evaluations) < 1 or largest > options["lambda"]:
        raise UserError(
            f"study.solvers: lambda is {options['lambda']}, evaluations {tuple(options.evaluations)}, reference "
            f"{options.reference}; expected evaluations of 1 ... lambda, and lambda at most {top}"
        )


def _stride(lam: int, evaluations: int) -> int:
    return -(-lam // evaluations)


def run(shared: sweep.Sweep, study: Any, masks: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> Results:
    """Treats the films by every solver at every number of evaluations, and compares.

    Args:
      shared: the sweep, of one source's diseased films alone.
      study: `study`.
      masks: (n, h, w) by arm; `cam`, the region whose outside is judged.
      truth: `twin` and `lesion` (n, h, w), or empty.

    Returns:
      {"solvers": {name: {evaluations: entries}}}; those of the reference under its own number.
    """
    options = study.solvers
    lam = options["lambda"]
    arm = next(arm for arm in arms.of(study) if arm.name == options.mode)
    part = shared.parts[0]
    folder = part.folder.parent / "solvers"
    wanted = [(name, n) for name in options.names for n in options.evaluations] + [(REFERENCE, options.reference)]
    jobs = []
    for name, n in dict.fromkeys(wanted):
        solver, spacing = split(name)
        changed = arm._replace(sampler=arm.sampler._replace(name=solver, spacing=spacing, resamples=1))
        jobs.append(sweep.Job(changed, lam, folder / f"{name}_{n:04d}.npz", part, _stride(lam, n)))
    score = sweep.scorer(shared)

    def finish(job: sweep.Job, treated: np.ndarray, seconds: float) -> None:
        write_arrays(job.path, image=treated[..., 0], seconds=np.asarray(seconds), **score(treated))

    sweep.run_jobs(shared, jobs, {arm.mask: masks[arm.name][..., None]}, finish, "solvers")
    errors = {job.path.stem: _errors(shared.image[..., 0], masks["cam"], truth, read_arrays(job.path)) for job in jobs}
    reference = errors[f"{REFERENCE}_{options.reference:04d}"]
    out: Results = {}
    for job in jobs:
        name, number = job.path.stem.rsplit("_", 1)
        run = read_arrays(job.path)
        used = -(-lam // job.stride)  # a whole stride may take fewer than were asked for
        entry = {
            "network_evaluations": entries.entry(used, used, used, n=len(shared.image)),
            "normal_rate": entries.rate(run["normal_probability_independent"] > 0.5),
            "seconds_a_film": entries.plain(float(run["seconds"]), len(shared.image), "s"),
        }
        for measure, values in errors[job.path.stem].items():
            entry[measure] = entries.mean(values, UNITS["mae"])
            entry[f"{measure}_against_reference"] = excess(values, reference[measure])
        out.setdefault(name, {})[str(int(number))] = entry
    return {"solvers": out}


def _errors(
    image: np.ndarray, cam: np.ndarray, truth: dict[str, np.ndarray], run: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What is compared, by film: the change of the whole film, outside the mask, and the error to the twin."""
    treated = run["image"]
    out = {"change": similarity.mae(image, treated), "change_inside": similarity.mae(image, treated, cam > 0.5)}
    if truth:
        out["twin_error"] = similarity.mae(truth["twin"], treated)
        out["twin_error_inside"] = similarity.mae(truth["twin"], treated, truth["lesion"])
    return out


def excess(values: np.ndarray, reference: np.ndarray, seed: int = 0) -> Results:
    """mean(values) / mean(reference) - 1 of paired films, with an interval by resampling films."""
    known = np.isfinite(values) & np.isfinite(reference)
    values, reference = values[known], reference[known]
    n = len(values)
    if not n or not reference.mean():
        return entries.plain(float("nan"), n, "1")
    draws = np.random.default_rng(seed).integers(n, size=(1000, n))
    ratios = values[draws].mean(axis=1) / np.maximum(reference[draws].mean(axis=1), 1e-12) - 1
    low, high = np.percentile(ratios, [2.5, 97.5])
    return entries.entry(float(values.mean() / reference.mean() - 1), float(low), float(high), n=n, unit="1")


def tables(out: Results, study: Any) -> list[Table]:
    """Solvers by evaluations."""
    first = next(iter(next(iter(out["solvers"].values())).values()))
    measures = [name for name in ("change", "change_inside", "twin_error", "twin_error_inside") if name in first]
    columns = ["normal rate", *(m.replace("_", " ") for m in measures)]
    columns += [f"{m.replace('_', ' ')}, relative to the reference" for m in measures] + ["s a film"]
    rows = []
    for name, by_number in out["solvers"].items():
        for number, entry in sorted(by_number.items(), key=lambda item: int(item[0])):
            cells = [entry["normal_rate"], *(entry[m] for m in measures)]
            cells += [entry[f"{m}_against_reference"] for m in measures] + [entry["seconds_a_film"]]
            rows.append((f"{name}, {number} evaluations", cells))
    options = study.solvers
    note = (
        f"{options.mode} at lambda {options['lambda']}, diseased films; the reference is {REFERENCE} with "
        f"{options.reference} evaluations. Relative figures: the mean over films divided by the reference's, less 1, "
        "with an interval by resampling films; 0.05 is 5 % worse."
    )
    return [table("Fewer network evaluations", note, columns, rows)]
