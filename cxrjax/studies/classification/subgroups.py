"""Systems by age, sex, view and site, where the films' records know them."""

from __future__ import annotations

from functools import partial

import numpy as np

from cxrjax.metrics import shift, subgroups
from cxrjax.metrics.shift import Frame, Point, Said
from cxrjax.phases import Context
from cxrjax.studies import tables
from cxrjax.studies.classification import predictions
from cxrjax.studies.classification.predictions import System
from cxrjax.types import Arrays, Results

MEASURES = {"auroc": "AUROC", "tpr": "TPR", "fpr": "FPR", "ece": "ECE"}
_HOW = (
    "TPR and FPR at thresholds of the greatest sensitivity + specificity, chosen on {chosen}; groups of {least} films "
    "or more. {means}{unknown}A gap may come of who is ill, and how, as well as of the network."
)
_GAPS = (
    "Of each measure the highest group less the lowest, resampled together by patient. The two were named after "
    "looking, so that the interval flatters a gap."
)


def add(out: Results, context: Context, systems: list[System], exclusive: bool) -> None:
    """Adds to a comparison's results each system by every attribute, and the tables of the best one.

    Nothing is added where records know none of them, and no table where no attribute has two groups of enough films.
    """
    groups = who(context, systems[0].found)
    if not groups:
        return
    out["subgroups"] = {system.name: _score(system, context.classes, exclusive, groups) for system in systems}
    best = predictions.best(out, systems)
    if best is not None and out["subgroups"][best.name]:
        out["tables"] += _tables(out["subgroups"][best.name], best, groups, exclusive)


def who(context: Context, found: Arrays) -> dict[str, np.ndarray]:
    """By attribute that some film's record knows, the group (n,) str of each predicted film; "" where unknown."""
    table = context.films.table("train" if str(found["split"]) == "folds" else str(found["split"]))
    place = {key: i for i, key in enumerate(table["key"])}
    rows = np.array([place[key] for key in found["key"]])
    every = {"age": subgroups.bands(table["age"]), **{name: table[name] for name in ("sex", "view", "site")}}
    return {name: group[rows] for name, group in every.items() if (group[rows] != "").any()}


def _score(system: System, classes: tuple[str, ...], exclusive: bool, groups: dict[str, np.ndarray]) -> Results:
    found = system.found
    label = found["label"].astype(np.float64)
    known = ~np.isnan(label)
    keep = np.flatnonzero(known.all(axis=1) if exclusive else known.any(axis=1))
    said = Said(label, found["probability"][None], found["logits"][None].astype(np.float64), found["patient"]).rows(
        keep
    )
    mine = {name: group[keep] for name, group in groups.items()}
    return subgroups.score(said, partial(_choose, system.validation, said), classes, exclusive, mine)


def _choose(validation: Arrays | None, said: Said, frame: Frame) -> Point:
    """On the validation part, or each film's on films of other patients."""
    if validation is None:
        return shift.choose_folded(frame, said)
    label = validation["label"].astype(np.float64)
    return shift.choose(frame, label, validation["probability"], validation["logits"].astype(np.float64))


def _tables(found: Results, system: System, groups: dict[str, np.ndarray], exclusive: bool) -> list[tables.Table]:
    chosen = "the validation part" if system.validation is not None else "films of other patients"
    lost = ", ".join(f"{name} of {n:,}" for name in found if (n := int((groups[name] == "").sum())))
    over = ", ".join(f"by {name} {len(one['classes'])}" for name, one in found.items())
    how = _HOW.format(
        chosen=chosen, least=subgroups.LEAST, unknown=f"Not known: {lost} films. " if lost else "",
        means="" if exclusive else f"Means over the findings that every group has with and without: {over}. ",
    )  # fmt: skip
    rows = [
        (f"{name}: {group}", [f"{entries['ece']['n']:,}", *(entries[measure] for measure in MEASURES)])
        for name, one in found.items()
        for group, entries in one["groups"].items()
    ]
    gaps = [
        (f"{name}: {words}", [" minus ".join(gap["between"]), gap])
        for name, one in found.items()
        for measure, words in MEASURES.items()
        if (gap := one["gaps"][measure])["between"]
    ]
    return [
        tables.table(f"Subgroups: {system.title}", how, ["films", *MEASURES.values()], rows),
        tables.table("Largest gaps between subgroups", _GAPS, ["between", "gap"], gaps),
    ]
