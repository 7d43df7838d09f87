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
from cxrjax.studies.tables import Table, ends, table
from cxrjax.studies.treatment import classifiers, sources, sweep
from cxrjax.studies.treatment import study as studies
from cxrjax.studies.treatment.outside import order_words as words
from cxrjax.studies.treatment.sources import INSIDE
from cxrjax.types import Results

HEALTHY = "healthy"  # folder of healthy films below that of the located ones
MAP = "map of "  # before the name of an arm: its mask itself
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
    keep, truth = located(config, name, films)
    where, asked = sources.where(name, films.held_out), _counts(config, name).num_diseased
    where = f"{where[0].upper()}{where[1:]}"
    few = [f"{where} has {len(keep)} such films, fewer than the {asked} asked for."] * (len(keep) < asked)
    if truth.any():
        return few
    if not len(controls(config, name, films, keep)):
        most = _counts(config, name).num_controls
        raise UserError(f"{where} has neither masks nor boxes nor, with num_controls = {most}, healthy films of other "
                        "patients; give it one of them")  # fmt: skip
    return [f"{where} has no masks and no boxes: diseased films are told from healthy ones, and not where.", *few]


def _counts(config: Any, name: str) -> Any:
    return config.study if name == INSIDE else config.study.outside


def located(config: Any, name: str, films: data.Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) of a source's films whose lesion is known to have a place, and the lesions (n, s, s).

    Where no film has a mask or a box, diseased films whose lesions are empty: they are told from healthy ones as a
    whole.

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
        patients = films.table(split)["patient"]
        pool = sources.one_each(sources.labels(config, name, films)[:, 1 - normal] == 1, patients, config.seed)
        keep = np.sort(pool[:most])
        truth = np.zeros((len(keep), config.data.size, config.data.size), bool)
    if not len(keep):
        raise UserError(f"no film of {sources.where(name, split)} has a mask, a box or the disease; give films that do")
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
    parts = studies.parts_of(context, every, "anomaly")
    well = [source.read(controls(config, source.name, source.films, source.keep)) for source in every]
    key = "pixel_auroc" if all(truth.any() for truth in truths) else "film_auroc"  # what arms are ordered by
    image = np.concatenate([*(films["image"] for films in read), *(films["image"] for films in well)])
    whole = studies.shared(context, image, (*parts, *_beside(parts, well)))
    names, disease = tuple(whole.classifiers), 1 - context.classes.index(data.labels.NORMAL)
    out = classifiers.score_all(context, names, disease)
    masks = sweep.run(whole, arms.of(study), tuple(study.lambdas))
    out["tables"], out["healthy"] = [], {}
    best: dict[str, str] = {}
    for source, films, truth, part, healthy in zip(every, read, truths, parts, well, strict=True):
        inside = source.name == INSIDE
        patients = np.asarray(films["patient"], dtype=str)
        own = {mode: part.of(mask) for mode, mask in masks.items()}
        scores, found = _score(config, part.folder, films["image"][..., 0], own, truth, patients)
        if len(healthy["image"]):
            listed = read_arrays(part.folder / HEALTHY / "masks.npz")
            mild = _maps(study, part.folder / HEALTHY, healthy["image"][..., 0], listed)
            groups = np.concatenate([patients, np.asarray(healthy["patient"], dtype=str)])
            for name, figures in _detected(scores, mild, groups, config.seed).items():
                found[name] |= figures
        elif key == "film_auroc":
            raise UserError(f"{sources.where(source.name, source.split)} has no healthy film of other patients, by "
                            "which arms are ordered where a source has no masks; set num_controls above 0")  # fmt: skip
        if inside:  # what is chosen is chosen here
            best = {mode: _best(found, mode, tuple(study.lambdas), key) for mode in study.modes}
        base = scores[best[study.against]]
        for mode, name in best.items():
            if mode != study.against and truth.any():
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
        out["tables"] += [_table(found, study, share, source.films.has_truth, title)] if truth.any() else []
        out["tables"] += _film_table(found, len(truth), len(healthy["image"]), title)
    out["warnings"] = sources.warnings(out["healthy"])
    out["tables"] += [sources.judges_table(out["healthy"]), *classifiers.tables_of(out, names, context.films.held_out)]
    told = [_headline(out["anomaly"], best, study, key), *sources.sentences(out["healthy"], "cam_network")]
    out["headline"] = " ".join([*told, *_outside(out, best, key)])
    return out


def _score(
    config: Any, folder: Path, image: np.ndarray, masks: dict[str, np.ndarray], truth: np.ndarray, patients: np.ndarray
) -> tuple[dict[str, np.ndarray], Results]:
    """The residuals (n, h, w) of every arm and lambda on one source's films, and every row's figures."""
    scores, options = _maps(config.study, folder, image, masks), {"groups": patients, "seed": config.seed}
    # A map has its own scale, half of which is its level.
    if not truth.any():
        return scores, {name: {} for name in scores}
    found = {
        name: anomaly.score(s, truth, threshold=0.5 if name.startswith(MAP) else config.study.threshold, **options)
        for name, s in scores.items()
    }
    return scores, found


def _maps(study: Any, folder: Path, image: np.ndarray, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The maps (n, h, w) of every row: squared residuals of each arm and lambda, then masks themselves."""
    out = {}
    for name in study.modes:
        for lam in study.lambdas:
            treated = read_arrays(folder / f"{name}_{lam:04d}.npz")["image"]
            out[f"{name}, lambda {lam}"] = np.square(2.0 * (treated - image))
    return out | {MAP + name: masks[name] for name in study.modes if name in study.maps}


def controls(config: Any, name: str, films: data.Prepared, keep: np.ndarray) -> np.ndarray:
    """Positions of healthy films that arms are to tell from those at `keep`: one a patient, of other patients."""
    normal = tuple(config.data.classes).index(data.labels.NORMAL)
    label, patients = sources.labels(config, name, films), films.table(films.held_out)["patient"]
    pool = sources.one_each(label[:, normal] == 1, patients, config.seed)
    free = pool[~np.isin(patients[pool], patients[keep])]
    return np.sort(free[: _counts(config, name).num_controls])


def _beside(parts: tuple[sweep.Part, ...], well: list[dict[str, Any]]) -> tuple[sweep.Part, ...]:
    """The parts of the healthy films, which lie behind all others: each source's in a folder below its own."""
    ends = np.cumsum([parts[-1].stop, *(len(films["image"]) for films in well)]).tolist()
    return tuple(
        sweep.Part(part.folder / HEALTHY, start, stop)
        for part, start, stop in zip(parts, ends[:-1], ends[1:], strict=True) if stop > start
    )  # fmt: skip


def _detected(
    sick: Mapping[str, np.ndarray], healthy: Mapping[str, np.ndarray], patients: np.ndarray, seed: int
) -> dict[str, Results]:
    """How well the mean of each row's map tells diseased films (n, h, w) from healthy ones (m, h, w), by row."""
    out = {}
    for name, maps in sick.items():
        scores = np.concatenate([maps.mean(axis=(1, 2)), healthy[name].mean(axis=(1, 2))])
        truth = np.repeat([True, False], [len(maps), len(healthy[name])])
        out[name] = anomaly.detection(scores, truth, patients, seed=seed)
    return out


def _film_table(found: Results, sick: int, healthy: int, outside: str = "") -> list[Table]:
    """Detection film by film; none where no healthy film was treated."""
    if not healthy:
        return []
    rows = [(name, [entry["film_auroc"], entry["film_average_precision"]]) for name, entry in found.items()]
    note = (
        f"{sick} diseased films against {healthy} healthy ones of other patients by the mean of the squared residual, "
        f"or of the map, over the whole film; {sick / (sick + healthy):.1%} are diseased, the AUPRC of guessing. "
        "It rewards a film that the model cannot draw again, for whatever reason: a lesion, but a wire or another "
        "exposure too. Intervals by resampling patients."
    )
    title = "Anomaly detection, film by film" + f", on films from elsewhere: {outside}" * bool(outside)
    return [table(title, note, ["AUROC", "AUPRC"], rows)]


KEYS = {"pixel_auroc": "Pixel AUROC", "film_auroc": "AUROC of films"}


def _outside(out: Results, best: dict[str, str], key: str = "pixel_auroc") -> list[str]:
    """Whether the arms, each at the lambda that is best inside, are in another order elsewhere by a key of `KEYS`."""

    def order(found: Results) -> list[str]:
        return sorted(best.values(), key=lambda name: -(found["anomaly"][name][key]["value"] or 0.0))

    return [
        f"By {KEYS[key][0].lower()}{KEYS[key][1:]} on {name}, {words(order(out), order(found), INSIDE, name)}"
        for name, found in out.get("external", {}).items()
    ]


def _best(found: Results, mode: str, lambdas: tuple[int, ...], key: str = "pixel_auroc") -> str:
    """The row of a mode whose AUROC, of pixels or films, is highest."""
    names = [f"{mode}, lambda {lam}" for lam in lambdas]
    return max(names, key=lambda name: found[name][key]["value"] or 0.0)


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


def _headline(found: Results, best: dict[str, str], study: Any, key: str = "pixel_auroc") -> str:
    first = max(best.values(), key=lambda name: found[name][key]["value"] or 0.0)
    lines = [f"{KEYS[key]}: {ends(found[first][key])} for {first}, the best of the residuals."]
    if best[study.against] != first:
        lines.append(f"{best[study.against]}: {ends(found[best[study.against]][key])}.")
    return " ".join(lines)
