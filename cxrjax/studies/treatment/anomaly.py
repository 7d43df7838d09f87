"""Anomaly localization: where a treated film differs from the patient's, against true masks or radiologists' boxes.

AnoDDPM noises a film to a distance, denoises it by what was learned on healthy films, and takes the squared error in
[-1, 1] units for the anomaly (Wyatt et al. 2022, section 3). A guided arm's residual is read in the same way, and so is
its mask itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax import data
from cxrjax.data import external
from cxrjax.errors import UserError
from cxrjax.infer import arms, classifier
from cxrjax.metrics import anomaly, entries
from cxrjax.metrics import localization as boxes_of
from cxrjax.phases import Context
from cxrjax.studies.arrays import read_arrays, write_arrays
from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import classifiers, sources, sweep
from cxrjax.studies.treatment import study as studies
from cxrjax.studies.treatment.outside import order_words as words
from cxrjax.studies.treatment.sources import INSIDE
from cxrjax.types import Results

MEASURES = (
    ("pixel_auroc", "pixel AUROC"), ("pixel_average_precision", "pixel AUPRC"), ("dice", "Dice"),
    ("dice_oracle", "Dice at the best threshold for these films"), ("iou", "IoU"), ("precision", "precision"),
    ("recall", "recall"), ("fpr", "FPR"),
)  # fmt: skip


def check(config: Any) -> None:
    """Refuses before any training what could not be run.

    Raises:
      UserError: an arm that could not be run, or a comparison of arms that are not there.
    """
    study = config.study
    sources.check_names(config)
    if study.foreign:
        raise UserError("study.foreign is read by the study progress alone; take it out")
    classifier.check_normal(config[study.cam_phase], tuple(config.data.classes))
    arms.check(config)
    if study.against not in study.modes:
        raise UserError(f"study.against = {study.against!r} is none of study.modes, {', '.join(study.modes)}")


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses before any training films without masks or boxes; see `located`."""
    return _check(config, INSIDE, films)


def check_external(config: Any, sets: Mapping[str, data.Prepared]) -> list[str]:
    """As `check_films`, of the sets of `data.external`; their classifiers need films of both classes too."""
    notes = []
    for name, films in sets.items():
        taken = external.take(config, name, films, exclusive=True)
        if not (taken.label.max(axis=0) == 1).all():
            raise UserError(
                f"data.external.{name}: its films are all of one class; give films of two, or mend class_map"
            )
        notes += [f"data.external.{name}: {taken.words}."] if taken.words else []
        notes += _check(config, name, films)
    return notes


def _check(config: Any, name: str, films: data.Prepared) -> list[str]:
    keep, _ = located(config, name, films)
    if len(keep) >= (asked := _counts(config, name).num_diseased):
        return []
    where = sources.where(name, films.held_out)
    return [f"{where[0].upper()}{where[1:]} has {len(keep)} located films, fewer than the {asked} asked for."]


def _counts(config: Any, name: str) -> Any:
    return config.study if name == INSIDE else config.study.outside


def located(config: Any, name: str, films: data.Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) of a source's films whose lesion is known to have a place, and the lesions (n, s, s).

    Raises:
      UserError: there are none.
    """
    split, most = films.held_out, _counts(config, name).num_diseased
    normal = tuple(config.data.classes).index(data.labels.NORMAL)
    if films.has_truth:
        keep = np.flatnonzero(sources.labels(config, name, films)[:, 1 - normal] == 1)[:most]
        truth = np.any(np.stack(list(data.films(films, split, keep)["masks"].values())), axis=0)
    else:
        boxes, size = films.boxes(split), config.data.size
        keep = np.array([i for i in sorted(boxes) if boxes[i]], int)[:most]
        truth = np.zeros((len(keep), size, size), bool)
        for row, i in enumerate(keep):
            sides = np.array([[x0, y0, x1 - x0, y1 - y0] for _, x0, y0, x1, y1 in boxes[i]]) * size
            truth[row] = boxes_of.masks(sides, size, size).any(axis=0)
    if not len(keep):
        raise UserError(
            f"no film of {sources.where(name, split)} has a mask or a box; localization cannot be measured on them"
        )
    return keep, truth


def run(context: Context) -> Results:
    """Treats every located film in every arm and scores the residuals; films and results go to `anomaly/*.npz`."""
    config, study = context.config, context.config.study
    every, truths = [], []
    for name, known in sources.every(context).items():
        keep, truth = located(config, name, known)
        label, sick = sources.labels(config, name, known), np.ones(len(keep), bool)
        every.append(sources.with_healthy(config, name, known, keep, sick, np.arange(len(label)), label))
        truths.append(truth)
    read = [source.read(source.keep) for source in every]
    image = np.concatenate([films["image"] for films in read])
    whole = studies.shared(context, image, studies.parts_of(context, every, "anomaly"))
    names, disease = tuple(whole.classifiers), 1 - context.classes.index(data.labels.NORMAL)
    out = classifiers.score_all(context, names, disease)
    masks = sweep.run(whole, arms.of(study), tuple(study.lambdas))
    out["tables"], out["healthy"] = [], {}
    best: dict[str, str] = {}
    for source, films, truth, part in zip(every, read, truths, whole.parts, strict=True):
        inside = source.name == INSIDE
        patients = np.asarray(films["patient"], dtype=str)
        own = {mode: part.of(mask) for mode, mask in masks.items()}
        scores, found = _score(config, part.folder, films["image"][..., 0], own, truth, patients)
        if inside:  # what is chosen is chosen here
            best = {mode: _best(found, mode, tuple(study.lambdas)) for mode in study.modes}
        base = scores[best[study.against]]
        for mode, name in best.items():
            if mode != study.against:
                options = {"groups": patients, "seed": config.seed}
                found[name]["pixel_auroc_minus"] = anomaly.difference(scores[name], base, truth, **options)
        write_arrays(
            part.folder / "films.npz", image=films["image"][..., 0], truth=truth,
            key=np.asarray(films["key"], dtype=str), names=np.array(list(best.values())),
            scores=np.stack([scores[name] for name in best.values()]),
        )  # fmt: skip
        share = float(truth.mean())
        place = out if inside else out["external"][source.name]
        place["anomaly"], place["lesion_share"] = found, entries.plain(share, len(truth), "fraction")
        out["healthy"][source.name] = sources.judge(source, sweep.scorer(whole), tuple(whole.scoring)).figures
        title = "" if inside else source.name
        out["tables"].append(_table(found, study, share, source.films.has_truth, title))
    out["warnings"] = sources.warnings(out["healthy"])
    out["tables"] += [sources.judges_table(out["healthy"]), *classifiers.tables_of(out, names, context.films.held_out)]
    told = [_headline(out["anomaly"], best, study), *sources.sentences(out["healthy"], "cam_network")]
    out["headline"] = " ".join([*told, *_outside(out, best)])
    return out


def _score(
    config: Any, folder: Path, image: np.ndarray, masks: dict[str, np.ndarray], truth: np.ndarray, patients: np.ndarray
) -> tuple[dict[str, np.ndarray], Results]:
    """The residuals (n, h, w) of every arm and lambda on one source's films, and every row's figures."""
    study, scores = config.study, {}
    for name in study.modes:
        for lam in study.lambdas:
            treated = read_arrays(folder / f"{name}_{lam:04d}.npz")["image"]
            scores[f"{name}, lambda {lam}"] = np.square(2.0 * (treated - image))
    maps = {f"map of {name}": masks[name] for name in study.modes if name in study.maps}
    options = {"groups": patients, "seed": config.seed}
    found = {name: anomaly.score(s, truth, threshold=study.threshold, **options) for name, s in scores.items()}
    # A map has its own scale, half of which is its level.
    found |= {name: anomaly.score(s, truth, threshold=0.5, **options) for name, s in maps.items()}
    return scores, found


def _outside(out: Results, best: dict[str, str]) -> list[str]:
    """Whether the arms, each at the lambda that is best inside, are in another order by pixel AUROC elsewhere."""

    def order(found: Results) -> list[str]:
        return sorted(best.values(), key=lambda name: -(found["anomaly"][name]["pixel_auroc"]["value"] or 0.0))

    return [
        f"By pixel AUROC on {name}, {words(name, order(out), order(found))}"
        for name, found in out.get("external", {}).items()
    ]


def _best(found: Results, mode: str, lambdas: tuple[int, ...]) -> str:
    """The row of a mode whose pixel AUROC is highest."""
    names = [f"{mode}, lambda {lam}" for lam in lambdas]
    return max(names, key=lambda name: found[name]["pixel_auroc"]["value"] or 0.0)


def _table(found: Results, study: Any, share: float, truth: bool, outside: str = "") -> Table:
    columns = [*(title for _, title in MEASURES), f"AUROC minus {study.against}, each at its best lambda"]
    keys = [*(key for key, _ in MEASURES), "pixel_auroc_minus"]
    rows = [(name, [entry.get(key) for key in keys]) for name, entry in found.items()]
    source = "the phantoms' own masks" if truth else "radiologists' boxes, which hold healthy pixels too"
    note = (
        f"Squared residual in [-1, 1] units against {source}; {share:.1%} of pixels lie inside, which is the AUPRC of "
        f"guessing. Dice to FPR at threshold {study.threshold:g} (maps: 0.5), means over films. Intervals by "
        f"resampling patients. The best lambda is chosen on {'the films inside' if outside else 'these films'}."
    )
    return table("Anomaly localization" + f" on films from elsewhere: {outside}" * bool(outside), note, columns, rows)


def _headline(found: Results, best: dict[str, str], study: Any) -> str:
    def said(entry: Any) -> str:
        return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"

    first = max(best.values(), key=lambda name: found[name]["pixel_auroc"]["value"] or 0.0)
    lines = [f"Pixel AUROC: {said(found[first]['pixel_auroc'])} for {first}, the best of the residuals."]
    if best[study.against] != first:
        lines.append(f"{best[study.against]}: {said(found[best[study.against]]['pixel_auroc'])}.")
    return " ".join(lines)
