"""Anomaly localization: where a treated film differs from the patient's, against true masks or radiologists' boxes.

AnoDDPM noises a film to a distance, denoises it by what was learned on healthy films, and takes the squared error in
[-1, 1] units for the anomaly (Wyatt et al. 2022, section 3). A guided arm's residual is read in the same way, and so is
its mask itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.infer import arms, classifier
from cxrjax.metrics import anomaly, entries
from cxrjax.metrics import localization as boxes_of
from cxrjax.phases import Context
from cxrjax.studies.arrays import read_arrays, write_arrays
from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import classifiers, sweep
from cxrjax.studies.treatment import study as studies
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
    classifier.check_normal(config[study.cam_phase], tuple(config.data.classes))
    arms.check(config)
    if study.against not in study.modes:
        raise UserError(f"study.against = {study.against!r} is none of study.modes, {', '.join(study.modes)}")


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses before any training films without masks or boxes; see `located`."""
    split, keep, _ = located(config, films)
    if len(keep) < config.study.num_diseased:
        return [
            f"The {split} part has {len(keep)} located films, fewer than the {config.study.num_diseased} asked for."
        ]
    return []


def located(config: Any, films: data.Prepared) -> tuple[str, np.ndarray, np.ndarray]:
    """The held-out part, the positions of its films whose lesion is known to have a place, and the lesions (n, s, s).

    Raises:
      UserError: there are none.
    """
    split = films.held_out
    disease = next(name for name in config.data.classes if name != data.labels.NORMAL)
    label = data.labels.select(films.table(split)["labels"], films.columns, (disease,))[:, 0]
    if films.has_truth:
        keep = np.flatnonzero(label == 1)[: config.study.num_diseased]
        truth = np.any(np.stack(list(data.films(films, split, keep)["masks"].values())), axis=0)
    else:
        boxes, size = films.boxes(split), config.data.size
        keep = np.array([i for i in sorted(boxes) if boxes[i]], int)[: config.study.num_diseased]
        truth = np.zeros((len(keep), size, size), bool)
        for row, i in enumerate(keep):
            sides = np.array([[x0, y0, x1 - x0, y1 - y0] for _, x0, y0, x1, y1 in boxes[i]]) * size
            truth[row] = boxes_of.masks(sides, size, size).any(axis=0)
    if not len(keep):
        raise UserError(
            f"no film of the {split} part has a mask or a box; localization cannot be measured on these films"
        )
    return split, keep, truth


def run(context: Context) -> Results:
    """Treats every located film in every arm and scores the residuals; films and results go to `anomaly/*.npz`."""
    config, workdir = context.config, context.workdir
    study = config.study
    split, keep, truth = located(config, context.films)
    chosen = data.films(context.films, split, keep)
    patients = np.asarray(chosen["patient"], dtype=str)
    shared = studies.shared(context, chosen["image"])._replace(folder=workdir / "anomaly")
    disease = 1 - tuple(config.data.classes).index("Normal")
    out = classifiers.score_all(context, tuple(shared.classifiers), disease)
    masks = sweep.run(shared, arms.of(study), tuple(study.lambdas))
    image = chosen["image"][..., 0]

    scores: dict[str, np.ndarray] = {}
    for name in study.modes:
        for lam in study.lambdas:
            treated = read_arrays(shared.folder / f"{name}_{lam:04d}.npz")["image"]
            scores[f"{name}, lambda {lam}"] = np.square(2.0 * (treated - image))
    maps = {f"map of {name}": masks[name] for name in study.modes if name in study.maps}
    options = {"groups": patients, "seed": config.seed}
    found = {name: anomaly.score(s, truth, threshold=study.threshold, **options) for name, s in scores.items()}
    # A map has its own scale, half of which is its level.
    found |= {name: anomaly.score(s, truth, threshold=0.5, **options) for name, s in maps.items()}
    best = {mode: _best(found, mode, tuple(study.lambdas)) for mode in study.modes}
    base = scores[best[study.against]]
    for mode, name in best.items():
        if mode != study.against:
            found[name]["pixel_auroc_minus"] = anomaly.difference(scores[name], base, truth, **options)
    write_arrays(
        shared.folder / "films.npz", image=image, truth=truth, key=np.asarray(chosen["key"], dtype=str),
        names=np.array(list(best.values())), scores=np.stack([scores[name] for name in best.values()]),
    )  # fmt: skip
    share = float(truth.mean())
    out["anomaly"] = found
    out["lesion_share"] = entries.plain(share, len(truth), "fraction")
    out["tables"] = [
        _table(found, best, study, share, context.films.has_truth),
        classifiers.table(out, tuple(shared.classifiers), split),
    ]
    out["headline"] = _headline(found, best, study)
    return out


def _best(found: Results, mode: str, lambdas: tuple[int, ...]) -> str:
    """The row of a mode whose pixel AUROC is highest."""
    names = [f"{mode}, lambda {lam}" for lam in lambdas]
    return max(names, key=lambda name: found[name]["pixel_auroc"]["value"] or 0.0)


def _table(found: Results, best: dict[str, str], study: Any, share: float, truth: bool) -> Table:
    columns = [*(title for _, title in MEASURES), f"AUROC minus {study.against}, each at its best lambda"]
    keys = [*(key for key, _ in MEASURES), "pixel_auroc_minus"]
    rows = [(name, [entry.get(key) for key in keys]) for name, entry in found.items()]
    source = "the phantoms' own masks" if truth else "radiologists' boxes, which hold healthy pixels too"
    note = (
        f"Squared residual in [-1, 1] units against {source}; {share:.1%} of pixels lie inside, which is the AUPRC of "
        f"guessing. Dice to FPR at threshold {study.threshold:g} (maps: 0.5), means over films. Intervals by "
        "resampling patients. The best lambda is chosen on these films."
    )
    return table("Anomaly localization", note, columns, rows)


def _headline(found: Results, best: dict[str, str], study: Any) -> str:
    def said(entry: Any) -> str:
        return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"

    first = max(best.values(), key=lambda name: found[name]["pixel_auroc"]["value"] or 0.0)
    lines = [f"Pixel AUROC: {said(found[first]['pixel_auroc'])} for {first}, the best of the residuals."]
    if best[study.against] != first:
        lines.append(f"{best[study.against]}: {said(found[best[study.against]]['pixel_auroc'])}.")
    return " ".join(lines)
