"""Several classifiers on the same films: their figures beside the floor's and the paper's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cxrjax import data
from cxrjax.data import corruptions
from cxrjax.data.lungs import lungs
from cxrjax.errors import UserError, lookup
from cxrjax.infer.finished import member_names
from cxrjax.metrics import scoring
from cxrjax.phases import Context, members
from cxrjax.studies import floor, footing, tables
from cxrjax.studies.classification import (
    curve,
    ensembles,
    external,
    failures,
    localization,
    predictions,
    probes,
    robustness,
    subgroups,
)  # fmt: skip
from cxrjax.studies.classification.predictions import System
from cxrjax.studies.published import PAPERS
from cxrjax.tasks import classify
from cxrjax.types import Arrays, Results

FLOOR = probes.LOGREG
LOOKED_AT = 200  # films in which lungs are sought for the note on the border control


def exclusive(config: Any) -> bool:
    """Whether a film has exactly one class, as all systems' losses must agree.

    Raises:
      UserError: they do not.
    """
    kinds = {name: classify.options_of(config[name]).exclusive for name, _ in config.study.systems}
    if len(set(kinds.values())) > 1:
        raise UserError(f"study.systems compares exclusive with independent classes: {kinds}; give them losses alike")
    return next(iter(kinds.values()))


def check(config: Any) -> None:
    """Refuses before any training what could not be compared.

    Raises:
      UserError: a system, pair, map or paper that is not there; classes that are exclusive for some only.
    """
    study = config.study
    phases = {name: name for name in config.phases}
    if not study.systems:
        raise UserError("study.systems is empty: name the phases to compare")
    for name, _ in study.systems:
        lookup(phases, name, "study.systems")
        if config[name].task != "classify":
            raise UserError(f"study.systems has {name!r}, whose task is {config[name].task!r}: expected a classifier")
    for pair in study.pairs:
        for name in pair:
            lookup({n: n for n, _ in study.systems}, name, "study.pairs")
    if study.maps:
        lookup({n: n for n, _ in study.systems}, study.maps, "study.maps")
        if config[study.maps].border:
            raise UserError(f"study.maps = {study.maps!r}: a border-only control has no map of lesions")
    if study.paper:
        lookup(PAPERS, study.paper, "study.paper")
    curve.check(config)
    corruptions.check(study.robustness.kinds, "study.robustness.kinds")
    folds = {config[name].folds for name, _ in study.systems}
    if len(folds) > 1:
        raise UserError(f"study.systems have folds {sorted(folds)}: compared are systems that predict the same films")
    probes.check(config)
    ensembles.check(config)
    exclusive(config)


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses before any training films that could not be scored; returns what a reader has to know.

    Raises:
      UserError: an unknown class, no part to report on or no known label in it, too few patients for the folds, or
        training films that the floor cannot learn from.
    """
    classes = tuple(config.data.classes)
    for part in films.splits:
        table = films.table(part)
        label = data.labels.select(table["labels"], films.columns, classes)
        wrong = np.flatnonzero(~np.isnan(label).any(axis=1) & (label.sum(axis=1) != 1))
        if exclusive(config) and len(wrong):
            found = [name for name, value in zip(classes, label[wrong[0]], strict=True) if value == 1]
            raise UserError(
                f"{len(wrong)} films of the {part} part have none or several of the classes {', '.join(classes)}, such "
                f"as {table['key'][wrong[0]]} ({', '.join(found) or 'none'}); use loss sigmoid, or other classes"
            )
    notes = [config.study.caution] if config.study.caution else []
    notes += footing.notes(sides(config, config.study.pairs))
    folds = config[config.study.systems[0][0]].folds
    _check_labels(config, films, folds)
    notes += curve.check_films(config, films)
    if folds > 1:
        notes.append(
            f"Every figure is of {folds} patient-grouped folds: a film is scored by a network that saw no film of its "
            "patient."
        )
    elif not films.splits.get("test"):
        if not films.splits.get("val"):
            raise UserError("the films have no test and no validation part to report on; set folds, or data.carve")
        notes.append("There is no test part: figures are of the validation part, which phases may have selected by.")
    if any(config[name].border for name, _ in config.study.systems):
        part = "train" if folds > 1 else films.held_out
        some = np.arange(min(films.splits[part], LOOKED_AT))
        seen = lungs(data.films(films, part, some)["image"][..., 0]).found
        notes.append(
            "A border-only control sees the frame with found lungs blank. A rim of lung is left, and all of it in the "
            f"frame of films whose lungs are not found ({(~seen).sum()} of {len(some)} films looked at): its score is "
            "an upper bound of what the source tells."
        )
    return notes


def sides(config: Any, pairs: Iterable[tuple[str, str]]) -> list[tuple[footing.Side, footing.Side]]:
    """Pairs of phases as `footing` reads them."""
    return [(footing.Side(a, config, a), footing.Side(b, config, b)) for a, b in pairs]


def _check_labels(config: Any, films: data.Prepared, folds: int) -> None:
    """Raises UserError where labels alone tell that the floor or the report will find nothing to go by."""
    classes, table = tuple(config.data.classes), films.table("train")
    label = data.labels.select(table["labels"], films.columns, classes)
    number = members.folds_of(config, films, folds) if folds > 1 else np.zeros(len(label), int)
    for fold in range(folds) if folds > 1 else (-1,):
        rest = number != fold
        floor.check(label[rest], tuple(config.study.penalties), table["patient"][rest])
    part = "train" if folds > 1 else films.held_out
    if films.splits.get(part):
        unknown = np.isnan(data.labels.select(films.table(part)["labels"], films.columns, classes))
        if (unknown.any(axis=1) if exclusive(config) else unknown.all(axis=1)).all():
            raise UserError(f"no film of the {part} part has a known label of {', '.join(classes)}: nothing to report")


def seeds_of(context: Context, phase: str) -> list[Arrays]:
    """The predictions of each seed of a phase."""
    return predictions.gather(context.workdir, member_names(context.config, phase), folds=False)


def systems_of(context: Context) -> list[System]:
    """Every system with its predictions: one of folds is all of them together, one of seeds their mean."""
    return [predictions.system_of(context, phase, title) for phase, title in context.config.study.systems]


def add_floor(context: Context) -> System:
    """logreg32, trained on the films that the systems were trained on, with its predictions of theirs."""
    return probes.system(context, probes.logreg32(context.config))


def score(system: System, classes: tuple[str, ...], is_exclusive: bool) -> Results:
    """Every figure of one system."""
    found, val = system.found, system.validation
    validation = None if val is None else (val["label"], val["logits"])
    function = scoring.exclusive if is_exclusive else scoring.multilabel
    return function(
        found["label"], found["probability"], found["patient"], classes, validation=validation, logits=found["logits"]
    )


def difference(a: System, b: System, is_exclusive: bool) -> Results:
    """System a less system b on the same films, paired by patient.

    Raises:
      UserError: they did not predict the same films.
    """
    predictions.check_same(a, b)
    return scoring.difference(
        a.found["label"], a.found["probability"], b.found["probability"], a.found["patient"], exclusive=is_exclusive
    )


def run(context: Context) -> Results:
    """Scores every system and the floors, their paired differences, maps against truth; and the tables of the page."""
    config = context.config
    classes, kind = tuple(config.data.classes), exclusive(config)
    trained, base = systems_of(context), add_floor(context)
    floors = [(probes.system(context, method), method) for method in probes.of(config)]
    averaged = ensembles.systems(context, trained)
    systems = [*trained, *averaged]
    every = [*systems, base, *(system for system, _ in floors)]
    by_name = {system.name: system for system in every}
    out: Results = {"systems": {}}
    for system in every:
        out["systems"][system.name] = score(system, classes, kind)
        if system is not base:
            out["systems"][system.name]["minus_logreg32"] = difference(system, base, kind)
    for system in systems if floors else []:
        out["systems"][system.name]["minus_probe"] = difference(system, by_name[probes.PROBE], kind)
    pairs = [*config.study.pairs, *ensembles.pairs(config)]
    out["pairs"] = {f"{a} minus {b}": difference(by_name[a], by_name[b], kind) for a, b in pairs}
    out["localization"] = localization.run(context, config.study.maps) if config.study.maps else {}
    if config.study.enh_figure:
        localization.write_enh(context)
    films = describe(context, base)
    titles = {system.name: system.title for system in every}
    out["tables"] = tables.make(out, titles, classes, kind, films, PAPERS.get(config.study.paper))
    subgroups.add(out, context, systems, kind)
    failures.write(context, out, systems, kind)
    outside = [(system, probes.outside(method)) for system, method in floors]
    external.add(out, context, trained, base, *outside, *ensembles.outside(config, averaged))
    curve.add(out, context, base, *floors)
    robustness.add(out, context, systems, base, *floors)
    out["headline"] = headline(out, [system for system in every if system is not base], films)
    return out


def describe(context: Context, base: System) -> str:
    """The films that the figures are of, in words."""
    split, n = str(base.found["split"]), len(base.found["label"])
    patients = len(np.unique(base.found["patient"]))
    name = context.config.data.name
    what = (
        "phantoms (drawn, no patients)"
        if context.films.has_truth
        else f"{name}, label version {context.films.label_version}"
    )
    part = "all films, each by the fold that left it out" if split == "folds" else f"the {split} part"
    return f"{what}: {part}, {n:,} films of {patients:,} patients at {context.config.data.size} px"


def headline(out: Results, systems: list[System], films: str) -> str:
    """The best system against the floor, and on films from elsewhere, in words; the best was named after looking."""
    best = predictions.best(out, systems)
    if best is None:
        return ""
    auroc, gap = out["systems"][best.name]["auroc"], out["systems"][best.name]["minus_logreg32"]["auroc"]
    said = f"{best.title} ranks highest: AUROC {tables.ends(auroc)}"
    if gap["low"] is not None and auroc["low"] is not None:
        words = "above it" if gap["low"] > 0 else "below it" if gap["high"] < 0 else "not distinguishable from it"
        said += f"; minus a logistic regression on 32x32 films {tables.ends(gap, '+')}, {words}"
    tried = {name: found["systems"].get(best.name) for name, found in out["external"].items()}
    there = [f"{name} {tables.ends(one['outside']['auroc'])}" for name, one in tried.items() if one]
    elsewhere = f"On films from elsewhere: {'; '.join(there)}." if there else "Not tried on films from elsewhere."
    return f"{said}. Measured on {films}. {elsewhere}"
