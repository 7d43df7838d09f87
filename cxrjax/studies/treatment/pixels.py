"""Latent against pixel space: the diffusion of a finished run treats this run's films, under this run's judges."""

from __future__ import annotations

from typing import Any

from cxrjax.errors import UserError
from cxrjax.infer import arms, finished
from cxrjax.ops import guidance
from cxrjax.phases import Context
from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import sweep as sweeps
from cxrjax.studies.treatment.measures import PIXEL
from cxrjax.tasks import ddpm


def check(config: Any) -> None:
    """Refuses a pixel run that has no such diffusion, or of other films.

    Raises:
      UserError: says what is missing or differs.
    """
    run = finished.load(config.study.pixel_run)
    run.phase_of("ddpm", name="diffusion")
    for key in ("name", "size", "seed"):
        if run.config.data[key] != config.data[key]:
            raise UserError(
                f"study.pixel_run = {config.study.pixel_run}: data.{key} is {run.config.data[key]!r} there and "
                f"{config.data[key]!r} here; both systems must know the same films"
            )
    phase = run.config.diffusion
    top = ddpm.longest(phase)
    if max(config.study.lambdas) > top:
        raise UserError(
            f"study.lambdas reaches {max(config.study.lambdas)}, the pixel run's diffusion knows 1 ... {top}"
        )


def run(context: Context, shared: sweeps.Sweep) -> tuple[str, ...]:
    """Treats the same films by the pixel run's `diffusion` in every arm of the latent one; files are `pixel_<arm>_*`.

    Returns:
      the names of these arms.
    """
    config = context.config
    other = finished.load(config.study.pixel_run, shared.mesh)
    again = []
    for arm in arms.of(config.study):
        by_pixel = guidance.MODES[arm.mode].by_pixel
        if config[arm.diffusion].task != "latent_ddpm" or by_pixel or arm.name.endswith("_paste"):
            continue
        sampler = arm.sampler._replace(clip=arms.sampler_of(other.config.study.sampler).clip)
        again.append(arm._replace(name=PIXEL + arm.name, diffusion="pixels", sampler=sampler, paste=False))
    sweeps.run(
        shared._replace(diffusions={"pixels": other.diffusion("diffusion")}),
        tuple(again),
        tuple(config.study.lambdas),
        "pixel_masks.npz",
    )
    return tuple(arm.name for arm in again)


def tables(out: dict[str, Any], names: tuple[str, ...], judge: str, levels: tuple[float, ...]) -> list[Table]:
    """Each arm in both spaces, at equal normal rate."""
    truth = "twin_error" in out["progress"]["untreated"]
    found = []
    for level in levels:
        at = out["equal_rate"][judge][str(level)]
        measures = [("mae", "outside", "change outside the mask"), ("ssim", "outside", "SSIM outside")]
        if truth:
            measures += [("twin_error", "inside", "error to the twin in the lesion"),
                         ("twin_error", "outside", "outside it")]  # fmt: skip
        columns = [f"{title}: {what}" for _, _, title in measures for what in ("latent", "pixel", "latent minus pixel")]
        rows = []
        for name in names:
            if PIXEL + name not in names:
                continue
            cells: list[Any] = []
            for measure, where, _ in measures:
                latent = at[name][measure][where]
                cells += [latent["value"], at[PIXEL + name][measure][where]["value"], latent["minus_pixel"]]
            rows.append((name, [*cells, _seconds(out, name), _seconds(out, PIXEL + name)]))
        note = (
            f"The same films, masks and judges, where the independent judge first calls {level:g} of the diseased "
            "films normal; differences paired by film. Seconds a film at the largest lambda, compilation left out, "
            "decoding included. A decoder changes every pixel a little: see the round trip."
        )
        columns += ["s a film: latent", "s a film: pixel"]
        found.append(table(f"Latent against pixel space at normal rate {level:g}", note, columns, rows))
    return found


def _seconds(out: dict[str, Any], name: str) -> Any:
    by_lambda = out["progress"][name]
    return by_lambda[max(by_lambda, key=int)]["seconds_a_film"]
