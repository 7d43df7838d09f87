"""The films of which a system is most surely wrong, for the page."""

from __future__ import annotations

import numpy as np
from scipy import special

from cxrjax import data
from cxrjax.infer import classifier
from cxrjax.phases import Context
from cxrjax.studies import arrays
from cxrjax.studies.classification import predictions
from cxrjax.studies.classification.predictions import System
from cxrjax.types import Results

SHOWN = 12


def write(context: Context, out: Results, systems: list[System], exclusive: bool) -> None:
    """Writes `failures.npz`: the worst films of the system whose maps are looked at, or of the best, without maps.

    It holds `image` (m, s, s) in [0, 1], `error` (m,) in [0, 1], `key`, `truth` and `said` (m,) in words and, of a
    system with maps, `map` (m, s, s) of what was said.
    """
    mapped = context.config.study.maps
    system = next((one for one in systems if one.name == mapped), None) or predictions.best(out, systems)
    path = context.workdir / "failures.npz"
    if system is None or arrays.exists(path):
        return
    found = system.found
    t = out["systems"][system.name].get("temperature", {}).get("value") or 1.0
    cooled = found["logits"].astype(np.float64) / t
    probability = special.softmax(cooled, axis=1) if exclusive else special.expit(cooled)
    rows, column, error = worst(found["label"].astype(np.float64), probability, exclusive)
    if not len(rows):
        return
    split = "train" if str(found["split"]) == "folds" else str(found["split"])
    place = {key: i for i, key in enumerate(context.films.table(split)["key"])}
    key = found["key"][rows]
    image = data.films(context.films, split, np.array([place[name] for name in key], int))["image"]
    names, label = np.array(context.classes), found["label"][rows]
    if exclusive:
        truth = names[label.argmax(axis=1)]
    else:
        truth = np.array([("" if row[c] else "no ") + names[c] for row, c in zip(label, column, strict=True)])
    said = np.array([f"{names[c]} {probability[i, c]:.2f}" for i, c in zip(rows, column, strict=True)])
    heat = {"map": _maps(context, system.name, key, image, column)} if system.name == mapped else {}
    arrays.write_arrays(path, image=image[..., 0], error=error, key=key, truth=truth, said=said, **heat)


def worst(label: np.ndarray, probability: np.ndarray, exclusive: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Films that were called wrong, the surest first: rows (m,), the class that was wrong (m,), error (m,) in [0, 1].

    Args:
      label: (n, k) 1, 0 or NaN.
      probability: (n, k), calibrated.
      exclusive: of exclusive classes the error is 1 less the true one's probability and the class the one called; of
        findings the greatest error over those known.
    """
    if exclusive:
        column, known = probability.argmax(axis=1), ~np.isnan(label).any(axis=1)
        error = 1 - (np.nan_to_num(label) * probability).sum(axis=1)
        wrong = known & (column != label.argmax(axis=1))
    else:
        each = np.where(np.isnan(label), 0.0, np.abs(probability - label))
        column, error = each.argmax(axis=1), each.max(axis=1)
        wrong = error > 0.5
    rows = np.argsort(np.where(wrong, -error, 1.0), kind="stable")[: min(SHOWN, int(wrong.sum()))]
    return rows, column[rows], error[rows]


def _maps(context: Context, phase: str, key: np.ndarray, image: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The map of each film by the network that predicted it, of seeds by the first."""
    out = np.zeros(image.shape[:3], np.float32)
    for member in context.phases[phase].members[: max(context.config[phase].folds, 1)]:
        mine = np.isin(key, arrays.read_arrays(predictions.path_of(context.workdir, member.name))["key"])
        seeing = predictions.network(context, phase, context.states[member.name]).compiled(classifier.class_map)
        for i in np.flatnonzero(mine):  # one at a time, as `localization` compiled it
            out[i] = np.asarray(seeing(image[i : i + 1], int(column[i]))[0][0])
    return out
