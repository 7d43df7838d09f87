"""Systems on films from elsewhere: inside, outside and the drop, at thresholds and temperatures chosen inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from cxrjax import data
from cxrjax.data import external
from cxrjax.data.external import PART
from cxrjax.errors import UserError
from cxrjax.infer.finished import member_names
from cxrjax.metrics import entries, shift
from cxrjax.phases import Context
from cxrjax.studies import arrays
from cxrjax.studies.classification import external_tables, predictions, probes
from cxrjax.studies.classification.predictions import System
from cxrjax.tasks import classify
from cxrjax.types import Arrays, Results

# What a system says of all films of a set: `probability` and `logits` (n, k) of each of its networks.
Predict = Callable[[Context, data.Prepared], list[Arrays]]

NONE = (
    "They are a part of the set that was trained on, whose scores flatter: this run has no films from elsewhere "
    "(data.external)."
)


class Tried(NamedTuple):
    """A system that was scored on both sets.

    Attributes:
      system: with its predictions inside.
      frame: what is scored.
      point: thresholds and temperature, chosen inside, that are used outside.
      outside: what it says of the films from elsewhere.
      scores: its figures inside, outside, and the drop.
    """

    system: System
    frame: shift.Frame
    point: shift.Point
    outside: shift.Said
    scores: dict[str, shift.Scored]


def check(config: Any, outside: Mapping[str, data.Prepared]) -> list[str]:
    """Refuses, before any training, films from elsewhere that cannot be scored; tells what of them is left out.

    Raises:
      UserError: no film of a set is left, or the films left are all of one kind.
    """
    notes = []
    for name, films in outside.items():
        taken = external.take(config, name, films, _exclusive(config))
        if not any({0.0, 1.0} <= {*column} for column in taken.label.T):
            here = [c for c, some in zip(config.data.classes, (taken.label == 1).any(axis=0), strict=True) if some]
            raise UserError(
                f"data.external.{name}: its films are all of {', '.join(here) or 'none of the classes'}, which nothing "
                "can be told from; give films of two kinds, or mend class_map"
            )
        notes += [f"data.external.{name}: {taken.words}."] if taken.words else []
    return notes


def _exclusive(config: Any) -> bool:
    return classify.options_of(config[config.study.systems[0][0]]).exclusive  # all systems agree, see `comparison`


def of_phase(phase: str) -> Predict:
    """The networks of a phase: each fold's, or the mean of its seeds as one."""

    def predict(context: Context, films: data.Prepared) -> list[Arrays]:
        bound, there = context.phases[phase], dataclasses.replace(context, films=films)
        program, found = jax.jit(classify.make(bound.config, len(bound.classes)).predict), []
        for name in member_names(context.config, phase):
            rows = there.evaluate(
                program, context.states[name], PART, bound.config.eval_batch, field=bound.field, classes=()
            )
            probability = classify.scores(classify.options_of(bound.config), rows["logits"])
            found.append({"probability": probability, "logits": rows["logits"].astype(np.float64)})
        return found if bound.config.folds > 1 or len(found) == 1 else [predictions.mean_of(found)]

    return predict


def add(out: Results, context: Context, systems: list[System], base: System, *more: tuple[System, Predict]) -> None:
    """Adds to a comparison's results what each system does on films from elsewhere, with the tables and their words.

    Args:
      out: results with `tables`; that of the systems gets a sentence where there are no such films.
      context: of the run.
      systems: phases.
      base: the floor.
      more: other systems, which are no phases, and how they predict.
    """
    place = next(i for i, one in enumerate(out["tables"]) if one["title"] == "Systems")
    out["external"] = {}
    if not context.external:
        out["tables"][place]["note"] += f" {NONE}"
        return
    beside = probes.outside(probes.logreg32(context.config))
    every = [*((system, of_phase(system.name)) for system in systems), (base, beside), *more]
    titles = {system.name: system.title for system, _ in every}
    for name, films in context.external.items():
        taken = external.take(context.config, name, films, _exclusive(context.config))
        tried = {system.name: _try(context, name, taken, system, predict) for system, predict in every}
        found = {
            "systems": {key: _figures(context.config, one, tried[base.name]) for key, one in tried.items()},
            "pairs": {f"{a} minus {b}": _minus(tried[a], tried[b]) for a, b in context.config.study.pairs},
        }
        patients = len({*films.table(PART)["patient"][taken.keep]})
        words = f"{name}, {len(taken.keep):,} films of {patients:,} patients" + f" ({taken.words})" * bool(taken.words)
        if (networks := len(tried[base.name].outside.probability)) > 1:
            words += f"; each of {networks} folds' networks is scored by itself, and figures are their means"
        shown = external_tables.make(name, words, found, titles, base.name, tried[base.name].frame)
        out["external"][name] = found | {"titles": [list(pair) for pair in titles.items()]}
        out["tables"][place + 1 : place + 1] = shown
        place += len(shown)


def _try(context: Context, name: str, taken: external.Taken, system: System, predict: Predict) -> Tried:
    """One system on one set."""
    exclusive, classes, seen = _exclusive(context.config), context.classes, system.found
    label = seen["label"].astype(np.float64)
    both = [classes.index(c) for c in taken.classes]
    # Of exclusive classes films of those that both sets can have.
    keep = np.flatnonzero((label[:, both] == 1).any(axis=1) if exclusive else ~np.isnan(label).all(axis=1))
    probability, logits = _said(context, name, system.name, predict)
    patients = context.external[name].table(PART)["patient"]
    there = taken.label.astype(np.float64)
    outside = shift.Said(there, probability[:, taken.keep], logits[:, taken.keep], patients[taken.keep])
    every = shift.Said(label, seen["probability"][None], seen["logits"][None], seen["patient"])
    frame = shift.frame(classes, label[keep], there, exclusive)
    if (val := system.validation) is not None:
        point = here = shift.choose(frame, val["label"], val["probability"], val["logits"])
    else:
        point, here = shift.choose(frame, label, seen["probability"], None), shift.choose_folded(frame, every)
    inside = shift.score(frame, every.rows(keep), here.rows(keep), seed=0)
    scores = {"inside": inside, "outside": shift.score(frame, outside, point, seed=shift.OUTSIDE_SEED)}
    return Tried(system, frame, point, outside, scores | {"drop": shift.minus(inside, scores["outside"])})


def _said(context: Context, name: str, system: str, predict: Predict) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and logits (m, n, k) of every film of a set, from a file of these very films."""
    films = context.external[name]
    path = context.workdir / "predictions" / "external" / f"{name}-{films.fingerprint[:12]}" / f"{system}.npz"
    if not arrays.exists(path):
        context.log.say(f"{system}: {films.count(PART):,} films from elsewhere, {name}")
        found = predict(context, films)
        both = {key: np.stack([one[key] for one in found]) for key in ("probability", "logits")}
        arrays.write_arrays(path, **both, key=films.table(PART)["key"], classes=np.array(context.classes))
    kept = arrays.read_arrays(path)
    return kept["probability"], kept["logits"]


def _figures(config: Any, one: Tried, base: Tried) -> Results:
    """Every entry of a system on one set."""
    out: Results = {side: shift.side(one.scores[side]) for side in ("inside", "outside")}
    out["drop"] = shift.difference(one.scores["drop"])
    if one.system.name != base.system.name:
        out["minus_logreg32"] = _minus(one, base)
    out["chosen"] = _chosen(one)
    regained = {str(k): shift.recalibrated(one.frame, one.outside, one.point, k) for k in config.study.recalibrate}
    out["recalibrated"] = {k: found for k, found in regained.items() if found}
    return out


def _minus(a: Tried, b: Tried) -> Results:
    """System a less system b outside, and the difference of their drops, paired by patient.

    Raises:
      UserError: they did not predict the same films inside.
    """
    if not np.array_equal(a.system.found["key"], b.system.found["key"]):
        raise UserError(f"{a.system.title} and {b.system.title} did not predict the same films; delete predictions/")
    return {side: shift.difference(shift.minus(a.scores[side], b.scores[side])) for side in ("outside", "drop")}


def _chosen(one: Tried) -> Results:
    """The thresholds, by the class that they call, and the temperature."""
    names = ["disease"] if one.frame.exclusive else [one.frame.classes[c] for c in one.frame.shared]
    found = one.system.validation if one.system.validation is not None else one.system.found
    n = len(found["label"])
    out = {name: entries.plain(cut, n, "1") for name, cut in zip(names, one.point.cut, strict=False)}
    t = one.point.temperature
    return {"threshold": out} | ({} if t is None else {"temperature": entries.plain(t, n, "1")})
