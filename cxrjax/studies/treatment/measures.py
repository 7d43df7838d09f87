"""The treatment-progress study: how normal a treated film looks, and how much of the patient is left (ETRI deck).

On phantoms the healthy twin is the truth; the judge that did not make the map is the one to believe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cxrjax.metrics import counterfactual, entries, identity, similarity
from cxrjax.studies.arrays import read_arrays
from cxrjax.studies.treatment import drawn, ranking, realism
from cxrjax.studies.treatment.judging import ANATOMY
from cxrjax.studies.treatment.sources import OWN
from cxrjax.types import Results

TWIN = "twin_"  # before what was asked of twins
BLOCK = 32  # films whose pixels are in memory in float64


def measures(films: dict[str, np.ndarray], run: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Per-film likeness to the own film in and out of the mask, and to the twin, if any, in and out of the lesion.

    Args:
      films: of `films.npz`, with the judge's features `pooled` of the untreated films, and what else was asked of them,
        see `judging.judged`, under `own_` and its name; of their twins, under `twin_` and its name.
      run: `image` (n, h, w), its `pooled` features, and what else was asked.

    Returns:
      By measure and region, (n,). The mask is the same for every arm, the soft map of the first CAM above 0.5, so that
      arms of other masks are judged on the same pixels.
    """
    pixels = [name for name in ("image", "cam", "lungs", "twin", "lesion") if name in films]
    blocks = [slice(i, i + BLOCK) for i in range(0, max(1, len(films["image"])), BLOCK)]
    found = [_of_pixels({name: films[name][block] for name in pixels}, run["image"][block]) for block in blocks]
    out = {
        name: {where: np.concatenate([each[name][where] for each in found]) for where in parts}
        for name, parts in found[0].items()
    }
    twin_error = out.pop("twin_error", None)
    asked = [name.removeprefix(ANATOMY) for name in run if name.startswith(ANATOMY)]
    if twin := {name: films[f"{TWIN}{ANATOMY}{name}"] for name in asked if f"{TWIN}{ANATOMY}{name}" in films}:
        out["anatomy"] = drawn.changed(twin, {name: run[f"{ANATOMY}{name}"] for name in twin})
    paths = {name.removeprefix("path_"): path for name, path in run.items() if name.startswith("path_")}
    if paths:  # of two exclusive classes
        out["cout"] = {judge: counterfactual.cout(path, 1 - path) for judge, path in paths.items()}
    if "own_lungs" in films and "lungs" in run:
        before, after = (
            np.unpackbits(bits, axis=-1, count=films["image"].shape[2]).astype(bool)
            for bits in (films["own_lungs"], run["lungs"])
        )
        same = counterfactual.dice(before, after & run["lungs_found"][:, None, None])  # 0 where they are found no more
        out["lungs"] = {"dice": np.where(films["own_lungs_found"], same, np.nan)}
    if "own_findings" in films and "findings" in run:
        out["attributes"] = {"changed": counterfactual.attributes_changed(films["own_findings"], run["findings"])}
    out["cosine"] = {"features": identity.cosine(films["pooled"], run["pooled"])}
    if "own_embedding" in films and "embedding" in run:
        out["cosine"]["embedding"] = identity.cosine(films["own_embedding"], run["embedding"])
        ranks = identity.ranks_in(identity.similarity(run["embedding"], films["own_embedding"]))
    else:
        ranks = identity.ranks(run["image"], films["image"])
    out["reidentified"] = {"first": (ranks == 1).astype(np.float64)}
    return out | ({"twin_error": twin_error} if twin_error else {})


def _of_pixels(films: dict[str, np.ndarray], treated: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """What of `measures` is told of each film alone."""
    image, mask = films["image"], films["cam"] > 0.5
    alike = similarity.ssim_map(image, treated)
    regions: dict[str, np.ndarray | None] = {"inside": mask, "outside": ~mask, "whole": None}
    out = {
        "mae": {where: similarity.mae(image, treated, region) for where, region in regions.items()},
        "psnr": {where: similarity.psnr(image, treated, region) for where, region in regions.items()},
        "ssim": {where: similarity.mean_in(alike, region) for where, region in regions.items()},
    }
    regions = {"whole": None, **({"lungs": films["lungs"]} if "lungs" in films else {})}
    out["changed"] = {where: counterfactual.changed(image, treated, region) for where, region in regions.items()}
    if "twin" in films:
        lesion, twin = films["lesion"], films["twin"]
        out["twin_error"] = {
            "inside": similarity.mae(twin, treated, lesion),
            "outside": similarity.mae(twin, treated, ~lesion),
        }
    return out


def costs(run: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """What a result of our own took, (n,) equal numbers: network evaluations and seconds a film."""
    n = len(run["image"])
    return {name: {"film": np.full(n, float(run[name]))} for name in ("evaluations", "seconds") if name in run}


def seconds_of(run: dict[str, np.ndarray]) -> Results:
    """Seconds a film of a result's sampling, compilation left out."""
    return entries.plain(float(run["seconds"]), len(run["image"]), "s")


# Gray levels are shares of the range from black to white; "1" is a pure number.
UNITS = {
    "mae": "gray level", "psnr": "dB", "ssim": "1", "twin_error": "gray level", "cosine": "1", "lungs": "1",
    "attributes": "1", "reidentified": "fraction", "changed": "fraction", "cout": "1", "evaluations": "1",
    "seconds": "s", "anatomy": drawn.UNIT,
}  # fmt: skip
PIXEL = "pixel_"  # before the name of an arm: the same by the diffusion of a pixel run
ASKED = ("lungs", "lungs_found", "findings", "embedding")  # of films and treated films alike, see `judging.judged`
LEVELS = (0.5, 0.8)  # normal rates at which arms are compared


def crossing(rates: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a curve of rates first rises to `level`, by linear interpolation.

    Args:
      rates: (..., m), a rate at each of m values of lambda.

    Returns:
      left index, right index, and the weight of the right one, each (...); NaN where the level is never reached, or
      already at the first lambda.
    """
    reached = rates >= level
    right = reached.argmax(axis=-1)
    left = np.maximum(right - 1, 0)
    at_right = np.take_along_axis(rates, right[..., None], -1)[..., 0]
    at_left = np.take_along_axis(rates, left[..., None], -1)[..., 0]
    span = at_right - at_left
    weight = (level - at_left) / np.where(span == 0, 1.0, span)
    # Reached untreated, there is no treatment to compare.
    return left, right, np.where(reached.any(axis=-1) & (right > 0), weight, np.nan)


def at_rate(normal: np.ndarray, error: np.ndarray, level: float, draws: np.ndarray) -> np.ndarray:
    """Mean error where the normal rate reaches `level`, for each resample of the films.

    Args:
      normal: (m, n), called normal, by lambda and film.
      error: (m, n).
      draws: (d, n) film indices.

    Returns:
      (d,), NaN where the level is not reached.
    """
    rates = normal[:, draws].mean(axis=-1).T  # (d, m)
    drawn = error[:, draws]
    with np.errstate(invalid="ignore"):  # NaN where no film of a draw has an error
        means = (np.nansum(drawn, axis=-1) / (~np.isnan(drawn)).sum(axis=-1)).T
    left, right, weight = crossing(rates, level)
    row = np.arange(len(draws))
    return (1 - weight) * means[row, left] + weight * means[row, right]


def equal_rate(
    normal: dict[str, np.ndarray], errors: dict[str, np.ndarray], level: float, unit: str, seed: int = 0, best: str = ""
) -> Results:
    """Each mode's error at one normal rate, and the paired differences to `uniform`, to its pixel counterpart and to
    the arm `best`, where one is named.

    A draw resamples the films, finds both modes' lambda of that rate anew and compares, so that the interval holds
    the uncertainty of the rates too. A mode that misses the rate in over 5 % of the draws has no interval, and one
    that misses it on the films themselves no value.

    Args:
      normal: by mode, (m, n) called normal by lambda and film, the first lambda 0.
      errors: by mode, (m, n); a mode without one is left out.
      level: the rate.
    """
    n = next(iter(normal.values())).shape[1]
    draws = np.random.default_rng(seed).integers(n, size=(1000, n))
    draws = np.concatenate([np.arange(n)[None], draws])  # the first row is the films themselves
    values = {mode: at_rate(normal[mode], errors[mode], level, draws) for mode in normal if mode in errors}

    def entry(v: np.ndarray, unit: str) -> Results:
        rest = v[1:]
        known = np.isfinite(rest)
        sure = known.mean() > 0.95 and np.isfinite(v[0])
        low, high = np.percentile(rest[known], [2.5, 97.5]) if sure else (np.nan, np.nan)
        return entries.entry(float(v[0]), float(low), float(high), n=n, unit=unit)

    out = {}
    for mode, value in values.items():
        out[mode] = {"value": entry(value, unit)}
        if mode != "uniform" and "uniform" in values:
            out[mode]["difference"] = entry(value - values["uniform"], unit)
        if PIXEL + mode in values:
            out[mode]["minus_pixel"] = entry(value - values[PIXEL + mode], unit)
        if mode != best and best in values:
            out[mode]["minus_best"] = entry(value - values[best], unit)
    return out


def compare(
    place: Results,
    rates: dict[str, np.ndarray],
    errors: Mapping[tuple[str, str], Mapping[str, list[np.ndarray]]],
    key: tuple[str, str],
    level: float,
    best: str = "",
) -> None:
    """Puts `equal_rate` of one measure and region, `key`, into what is known of each arm at a rate."""
    name, where = key
    stacked = {mode: np.stack(values) for mode, values in errors[key].items()}
    for mode, entry in equal_rate(rates, stacked, level, UNITS[name], best=best).items():
        place.setdefault(mode, {}).setdefault(name, {})[where] = entry


def results(
    folder: Path,
    modes: tuple[str, ...],
    lambdas: tuple[int, ...] | Mapping[str, tuple[int, ...]],
    judges: tuple[str, ...],
    healthy: realism.Reference | None = None,
    cuts: Mapping[str, float] | None = None,
    guided: tuple[str, ...] = (),
) -> Results:
    """Every figure of one source's films, from the files of a finished sweep; the diseased and the controls apart.

    Args:
      folder: of the source's films.
      modes: the arms.
      lambdas: at which they were run, all alike or by arm.
      judges: by whom, the first one's features are in the files.
      healthy: what treated films are compared with; None leaves the distances out.
      cuts: by judge, the threshold set on healthy films of the source. Rates at it are told beside those at the
        judge's own, as `normal_rate_set`, and arms are compared at the first judge's too, in `equal_rate_set`.
      guided: arms of ours that a map guides; the best of them at a rate, see `ranking.best`, is what every other arm is
        compared with there, in `minus_best`.
    """
    films = read_arrays(folder / "films.npz")
    sick, cuts = films["disease"], cuts or {}

    def called_normal(run: dict[str, np.ndarray], judge: str, cut: float = OWN) -> np.ndarray:
        return run[f"normal_probability_{judge}"].astype(np.float64) > cut  # a threshold lies between two float32

    untreated = read_arrays(folder / "untreated.npz")
    films["pooled"] = untreated["pooled"]
    films |= {f"own_{name}": untreated[name] for name in ASKED if name in untreated}
    before = measures(films, untreated)

    def rates_of(run: dict[str, np.ndarray], which: np.ndarray) -> Results:
        out = {"normal_rate": {j: entries.rate(called_normal(run, j)[which]) for j in judges}}
        if cuts:
            out["normal_rate_set"] = {j: entries.rate(called_normal(run, j, cuts[j])[which]) for j in judges}
        return out

    progress: Results = {"untreated": rates_of(untreated, sick)}
    control: Results = {"untreated": rates_of(untreated, ~sick)}
    if healthy is not None:
        progress["untreated"]["fdd"] = realism.distance(healthy, untreated["pooled"][sick])
    for name in ("twin_error", "anatomy"):
        if name in before:
            progress["untreated"][name] = {
                where: entries.mean(v[sick], UNITS[name]) for where, v in before[name].items()
            }
    points = [("equal_rate", j, OWN) for j in judges] + [("equal_rate_set", j, cuts[j]) for j in judges[:1] if cuts]
    normal = {point: {m: [called_normal(untreated, *point[1:])[sick]] for m in modes} for point in points}
    errors: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {}
    for mode in modes:
        progress[mode], control[mode] = {}, {}
        for lam in lambdas[mode] if isinstance(lambdas, Mapping) else lambdas:
            run = read_arrays(folder / f"{mode}_{lam:04d}.npz")
            after = measures(films, run)
            change = np.abs(run["image"] - films["image"]).mean(axis=(1, 2))
            progress[mode][str(lam)] = (
                ({"seconds_a_film": seconds_of(run)} if "seconds" in run else {})
                | rates_of(run, sick)
                | {
                    name: {where: entries.mean(v[sick], UNITS[name]) for where, v in parts.items()}
                    for name, parts in after.items()
                }
            )
            if len(judges) > 1:  # the map's network, and one that is independent of it
                judge, own = (called_normal(run, j)[sick] for j in judges[:2])
                convinced = counterfactual.transferred(own, judge)
                progress[mode][str(lam)]["transfer"] = entries.rate(convinced)
            change_of = {"change": entries.mean(change[~sick], UNITS["mae"])}
            control[mode][str(lam)] = rates_of(run, ~sick) | change_of
            if "twin_error" in after:
                gain = after["twin_error"]["inside"] - before["twin_error"]["inside"]
                progress[mode][str(lam)]["twin_error"]["inside_minus_untreated"] = entries.mean(
                    gain[sick], UNITS["mae"]
                )
            if healthy is not None:
                progress[mode][str(lam)]["fdd"] = realism.distance(healthy, run["pooled"][sick])
            for point in points:
                normal[point][mode].append(called_normal(run, *point[1:])[sick])
            for name, parts in (after | costs(run)).items():
                for where, v in parts.items():
                    start = before[name][where] if name in before else np.zeros(len(v))  # nothing done, nothing spent
                    errors.setdefault((name, where), {}).setdefault(mode, [start[sick]]).append(v[sick])
    out: Results = {"progress": progress, "control": control, "equal_rate": {}}
    for kind, j, cut in points:
        rates = {m: np.stack(v) for m, v in normal[kind, j, cut].items()}
        for level in LEVELS:
            place = out.setdefault(kind, {}).setdefault(j, {}).setdefault(str(level), {})
            compare(place, rates, errors, ranking.RANKED, level)
            best = ranking.best(out, guided, j, str(level), kind.removeprefix("equal_rate"))
            for key in errors:
                if key[0] != "psnr":  # infinite where nothing changed
                    compare(place, rates, errors, key, level, best)
    if healthy is not None:
        out["realism"] = {"floor": entries.plain(healthy.floor, len(healthy.features))}
    return out
