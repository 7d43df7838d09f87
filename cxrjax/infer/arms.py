"""The arms of a treatment study: a mode, where its mask comes from, and how it samples, each under a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cxrjax.errors import UserError, did_you_mean, lookup
from cxrjax.infer import classifier
from cxrjax.ops import guidance, sampling
from cxrjax.tasks import ddpm

DIFFUSIONS = ("ddpm", "latent_ddpm")
SOURCES = (*classifier.SOURCES, "anomaly")


class Mask(NamedTuple):
    """Where a mask comes from: the keys of `study.guidance`, and the phase whose network draws the map.

    Attributes:
      phase: a classification phase; not read by `anomaly`.
      hard: 1 above the threshold and 0 elsewhere, instead of soft.
      source, target: see `classifier.heat`; `anomaly` is |x - x'| of a uniform pass to `anomaly_lambda`.
      blur, power, floor, threshold: see `cam.to_mask`.
      lungs: 0 outside the lungs.
    """

    phase: str
    hard: bool
    source: str
    target: str
    blur: float
    power: float
    floor: float
    threshold: float
    lungs: bool
    anomaly_lambda: int


class Arm(NamedTuple):
    """One way of treating films.

    Attributes:
      name: of its files and rows.
      mode: a mode of `guidance.MODES`.
      mask: where it treats.
      diffusion: the phase whose network generates.
      sampler: how, its noise left to the diffusion.
      every: used times after which the mask is made anew; 0 keeps it.
      widens: a mask made anew is added to the old one.
      paste: in latent space, known pixels are pasted back through the mask.
      pool: how a mask comes to the latent grid: `max` or `mean`.
      options: what it sets of `guidance.options_of`, sorted.
    """

    name: str
    mode: str
    mask: Mask
    diffusion: str
    sampler: sampling.Sampler
    every: int
    widens: bool
    paste: bool
    pool: str
    options: tuple[tuple[str, Any], ...] = ()


def split(mode: str) -> tuple[str, bool]:
    """`time_gated_hard` -> (`time_gated`, True): the sampler's mode, and whether the mask is thresholded."""
    return mode.removesuffix("_hard"), mode.endswith("_hard")


def told(arm: Arm) -> dict[str, Any]:
    """What results.json tells of an arm, for pages that know no mode: who it is from, and what a map has to do with it.

    `masked` says that a mask says where it treats, `guided` that a classifier's does while it walks.
    """
    mode = guidance.MODES[arm.mode]
    guided = mode.guided and not (mode.pastes or mode.rival) and arm.mask.source != "anomaly"
    return {"mode": arm.mode, "masked": mode.guided, "guided": guided, "rival": mode.rival}


_OWN = ("mode", "hard", "map_phase", "diffusion_phase", "sampler")
_SAMPLER = ("stride", "spacing", "variance", "eta", "clip", "resamples")


def sampler_of(config: Any, **changes: Any) -> sampling.Sampler:
    """`study.sampler` as the walk reads it; a `clip` of 0 leaves the estimate free."""
    values = {**config.to_dict(), **changes}
    return sampling.Sampler(**{**values, "clip": values["clip"] or None})


def of(study: Any, names: Sequence[str] = ()) -> tuple[Arm, ...]:
    """The arms of these names, by default `study.modes`: a mode, a mode + `_hard`, or a key of `study.arms`.

    Raises:
      UserError: an unknown name, mode or key.
    """
    return tuple(_arm(study, name) for name in names or study.modes)


def _arm(study: Any, name: str) -> Arm:
    known = (*guidance.MODES, *study.arms)
    given: dict[str, Any] = dict(zip(("mode", "hard"), split(name), strict=True))
    if name in study.arms:
        given = dict(study.arms[name])
    if given.get("mode") not in guidance.MODES:
        what = f"study.arms.{name}.mode" if name in study.arms else "study.modes"
        raise UserError(
            f"{what} has {given.get('mode')!r}: expected {', '.join(known)}, or a mode + _hard"
            f"{did_you_mean(str(given.get('mode')), known)}"
        )
    g, options = study.guidance.to_dict(), guidance.options_of(given["mode"])
    keys = (*_OWN, *_SAMPLER, *g, *options)
    for key in given:
        if key not in keys:
            raise UserError(f"study.arms.{name} has {key!r}{did_you_mean(key, keys)}")
    g |= {key: value for key, value in given.items() if key in g and key not in options}
    changes = {key: given[key] for key in _SAMPLER if key in given and key not in options}
    if "sampler" in given:
        changes["name"] = given["sampler"]
    own = {key: g[key] for key in Mask._fields if key in g}
    mask = Mask(phase=given.get("map_phase", study.cam_phase), hard=given.get("hard", False), **own)
    phase = given.get("diffusion_phase", study.diffusion_phase)
    return Arm(
        name, given["mode"], mask, phase, sampler_of(study.sampler, **changes), g["every"], g["widens"], g["paste"],
        g["pool"], tuple(sorted((key, value) for key, value in given.items() if key in options)),
    )  # fmt: skip


def check(config: Any) -> None:
    """Refuses before any training an arm that could not be run.

    Raises:
      UserError: names the arm, the key and what was expected.
    """
    study = config.study
    for arm in of(study):
        where = f"study.modes: {arm.name}"
        if arm.diffusion not in config.phases or config[arm.diffusion].task not in DIFFUSIONS:
            raise UserError(
                f"{where}: diffusion_phase {arm.diffusion!r} is no diffusion among {', '.join(config.phases)}"
            )
        phase, mode = config[arm.diffusion], guidance.MODES[arm.mode]
        wanted = "map" if mode.by_pixel else "scalar"
        if phase.time != wanted:
            raise UserError(
                f"{where}: mode {arm.mode} needs a diffusion trained with time = {wanted!r}, and "
                f"{arm.diffusion}.time is {phase.time!r}; told the other kind of time, a network answers "
                "nonsense without a sign of it"
            )
        if (mode.own or mode.by_hand) and phase.task != "ddpm":
            raise UserError(f"{where}: mode {arm.mode} treats films, and {arm.diffusion} is of latents")
        if mode.told:
            _check_told(phase, arm, where)
        top = ddpm.longest(phase)
        if not study.lambdas or min(study.lambdas) < 1 or max(study.lambdas) > top:
            raise UserError(
                f"study.lambdas = {tuple(study.lambdas)}: each must lie in 1 ... {top}, the times that "
                f"{arm.diffusion} is trained for; change them, or {arm.diffusion}.t_max"
            )
        _check_sampler(arm, where)
        _check_mask(config, arm, where)


def _check_told(phase: Any, arm: Arm, where: str) -> None:
    if not phase.net.get("told", 0):
        raise UserError(f"{where}: mode {arm.mode} asks a diffusion that is told the class, and {arm.diffusion}.net "
                        "has no `told`; set it to the number of data.classes, and only to ''")  # fmt: skip
    lookup(dict.fromkeys(("healthy", "diseased")), dict(arm.options).get("toward", "healthy"), f"{where}: toward")


def _check_sampler(arm: Arm, where: str) -> None:
    try:
        mode = guidance.MODES[arm.mode]
        arm.sampler.check(arm.mode if mode.by_pixel or mode.own else "")
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if arm.pool not in ("max", "mean"):
        raise UserError(f"{where}: pool = {arm.pool!r}; expected max or mean")


def _check_mask(config: Any, arm: Arm, where: str) -> None:
    mask, mode = arm.mask, guidance.MODES[arm.mode]
    if mask.source not in SOURCES:
        raise UserError(f"{where}: source = {mask.source!r}{did_you_mean(mask.source, SOURCES)}")
    if arm.every and (mask.source == "anomaly" or not mode.renews):
        able = ", ".join(name for name, row in guidance.MODES.items() if row.renews)
        raise UserError(f"{where}: every = {arm.every} makes a mask anew of a classifier, in {able} alone; set it to 0")
    if mask.source == "anomaly" and mode.by_pixel:
        raise UserError(f"{where}: source 'anomaly' walks uniformly first, which a diffusion told maps of times cannot")
    if mask.source == "anomaly":
        top = ddpm.longest(config[arm.diffusion])
        if not 1 <= mask.anomaly_lambda <= top:
            raise UserError(f"{where}: anomaly_lambda = {mask.anomaly_lambda}: expected 1 ... {top}, the times that "
                            f"{arm.diffusion} is trained for")  # fmt: skip
        if not mode.sees:
            return
    if mask.phase not in config.phases:
        raise UserError(f"{where}: map_phase {mask.phase!r} is none of the phases {', '.join(config.phases)}")
    phase = config[mask.phase]
    classifier.check_normal(phase, tuple(config.data.classes))
    if mode.sees and phase.task != "classify":
        raise UserError(f"{where}: mode {arm.mode} asks a classifier of films, and map_phase {mask.phase} has the task "
                        f"{phase.task!r}")  # fmt: skip
    if mask.source == "anomaly":
        return
    if (mask.source == "latent_gradcam") != (phase.task == "latent_classify"):
        raise UserError(f"{where}: source {mask.source!r} does not go with {mask.phase}, whose task is {phase.task!r}")
    full = phase.net.name.startswith("fcn_")
    if mask.source == "cam" and (phase.net.get("hidden") or full):
        raise UserError(f"{where}: source 'cam' needs a head without hidden layers, and {mask.phase}.net is "
                        f"{phase.net.to_dict()}; use gradcam")  # fmt: skip
    if mask.source == "fcn_map" and not full:
        raise UserError(f"{where}: source 'fcn_map' needs a fully convolutional classifier, and {mask.phase}.net.name "
                        f"is {phase.net.name!r}; use gradcam, or an fcn_ network")  # fmt: skip
