"""How a trained classifier does on films that it has not seen, beside a logistic regression on 32x32 films."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from cxrjax import data
from cxrjax.metrics import bootstrap, classification, entries, weighted
from cxrjax.metrics.entries import repeated
from cxrjax.phases import Context
from cxrjax.studies import floor, tables
from cxrjax.studies.treatment import sources
from cxrjax.tasks import TASKS, classify
from cxrjax.types import Results


def score(label: np.ndarray, probability: np.ndarray, patients: np.ndarray, positive: int = 1) -> Results:
    """Accuracy and AUROC of an exclusive-class model.

    Where a patient has several films, the intervals come from resampling patients; where each has one, they are
    Wilson's and DeLong's.

    Args:
      label: (n, k) one-hot.
      probability: (n, k).
      patients: (n,) names; films of one patient are resampled together.
      positive: the class whose probability is the AUROC's score.
    """
    right = (label.argmax(axis=1) == probability.argmax(axis=1)).astype(np.float64)
    pair = label[:, positive], probability[:, positive]
    if repeated(patients):
        drawn = bootstrap.resampled(
            lambda w: {"right": weighted.mean(right, w), "auroc": weighted.auroc(weighted.curve(*pair, w))}, patients
        )
        accuracy = bootstrap.percentiles(float(right.mean()), drawn["right"])
        auroc = bootstrap.area(classification.auroc(*pair), drawn["auroc"])
    else:
        accuracy = bootstrap.wilson(int(right.sum()), len(right))
        auroc = bootstrap.Interval(*classification.delong_interval(*pair))
        if auroc.low == auroc.high:  # classes apart altogether: DeLong's variance is 0, which no sample can promise
            auroc = auroc._replace(low=float("nan"), high=float("nan"))
    return {
        "accuracy": entries.entry(*accuracy, n=len(label), unit="fraction"),
        "auroc": entries.entry(*auroc, n=len(label), unit="1"),
    }


def compare(label: np.ndarray, ours: np.ndarray, base: np.ndarray, patients: np.ndarray, positive: int = 1) -> Results:
    """The paired AUROC difference to the floor on the same films; intervals as in `score`."""
    columns = label[:, positive], ours[:, positive], base[:, positive]
    if repeated(patients):
        y, *pair = (column[:, None] for column in columns)
        drawn = [bootstrap.auroc_draws(y, scores, patients)[:, 0] for scores in pair]  # of one set of resamples
        value = classification.auroc(*columns[:2]) - classification.auroc(columns[0], columns[2])
        difference = bootstrap.percentiles(value, drawn[0] - drawn[1])
    else:
        difference = bootstrap.Interval(*classification.delong_difference(*columns)[:3])
    return {"auroc": entries.entry(*difference, n=len(label), unit="1")}


def tables_of(out: Results, names: tuple[str, ...], split: str) -> list[tables.Table]:
    """The figures of the classifiers `names` beside the floor's, as `score_all` found them, source by source."""
    sets = out.get("external", {}).items()
    return [_table(out, names, split), *(_outside(found["classifiers"], names, name) for name, found in sets)]


def _table(out: Results, names: tuple[str, ...], split: str) -> tables.Table:
    rows: list[tuple[str, list[Any]]] = [
        (
            name.replace("_", " "),
            [
                *(out[name][split][key] for key in ("accuracy", "auroc")),
                out[name].get("minus_logreg32", {}).get("auroc"),
            ],
        )
        for name in (*names, "logreg32")
    ]
    gaps = {title: cells[-1] for title, cells in rows[:-1]}
    note = f"On the films of the {split} part. {tables.not_above(gaps)}".strip()
    return tables.table("Classifiers beside the floor", note, ["accuracy", "AUROC", "minus logreg32, paired"], rows)


def _outside(found: Results, names: tuple[str, ...], source: str) -> tables.Table:
    keys = {"accuracy": "accuracy", "auroc": "AUROC", "minus_logreg32": "minus logreg32, paired",
            "drop": "AUROC inside minus outside"}  # fmt: skip
    rows = [(name.replace("_", " "), [found[name].get(key) for key in keys]) for name in (*names, "logreg32")]
    note = (
        "Trained and chosen on this run's own films alone. The drop resamples each set by its own patients; above 0 a "
        f"classifier does worse here. {tables.not_above({title: cells[2] for title, cells in rows[:-1]})}"
    )
    return tables.table(f"Classifiers on films from elsewhere: {source}", note.strip(), [*keys.values()], rows)


class _Tested(NamedTuple):
    """A source's films of known class."""

    films: data.Prepared
    rows: np.ndarray
    label: np.ndarray
    patients: np.ndarray


def _tested(config: Any, name: str, films: data.Prepared) -> _Tested:
    rows, label = sources.known(config, name, films)
    single = (label == 1).sum(axis=1) == 1  # a film of another finding is neither Normal nor diseased
    rows, label = rows[single], label[single]
    return _Tested(films, rows, label, films.table(films.held_out)["patient"][rows])


def score_all(context: Context, phases: tuple[str, ...], disease: int) -> Results:
    """Every classifier on the whole held-out part, beside the floor trained and scored on the same films.

    Under `external`, for each set from elsewhere, their `classifiers` on all its films, and how much they drop.
    """
    config, films, study = context.config, context.films, context.config.study
    tested = {name: _tested(config, name, one) for name, one in sources.every(context).items()}
    probability: dict[str, dict[str, np.ndarray]] = {name: {} for name in tested}
    for phase in phases:
        predict = jax.jit(TASKS[config[phase].task](config[phase], context.classes).predict)
        for name, one in tested.items():
            there = dataclasses.replace(context, films=one.films)  # of its own labels, which are no part of a batch
            rows = there.evaluate(predict, context.states[phase], one.films.held_out, study.batch, classes=())
            probability[name][phase] = classify.scores(classify.options_of(config[phase]), rows["logits"])[one.rows]
    train, train_label = floor.films_of(context, "train")
    known = (train_label == 1).sum(axis=1) == 1
    asked = [floor.rows_of(one.films, one.films.held_out)[one.rows] for one in tested.values()]
    base = floor.logreg32(
        train[known], train_label[known], np.concatenate(asked), config.seed, study.penalties,
        patients=films.table("train")["patient"][known],
    )  # fmt: skip
    ends = np.cumsum([len(rows) for rows in asked])
    for name, part in zip(tested, np.split(base, ends[:-1]), strict=True):
        probability[name]["logreg32"] = part

    inside = tested[sources.INSIDE]
    out: Results = {}
    for name, one in tested.items():
        for phase, ours in probability[name].items():
            found = score(one.label, ours, one.patients, disease)
            gap = {}
            if phase != "logreg32":
                versus = compare(one.label, ours, probability[name]["logreg32"], one.patients, disease)
                gap = {"minus_logreg32": versus if one is inside else versus["auroc"]}
            if one is inside:
                out[phase] = {films.held_out: found, **gap}
                continue
            before = inside.label, probability[sources.INSIDE][phase], inside.patients
            fall = drop(before, (one.label, ours, one.patients), disease)
            place = out.setdefault("external", {}).setdefault(name, {"classifiers": {}})
            place["classifiers"][phase] = {**found, **gap, "drop": fall}
    return out


def drop(inside: tuple[np.ndarray, ...], outside: tuple[np.ndarray, ...], positive: int = 1) -> Results:
    """AUROC on one set less that on another, each (label, probability, patients) as in `score`; an entry."""
    values, drawn = [], []
    for seed, (label, probability, patients) in enumerate((inside, outside)):
        y, scores = label[:, [positive]], probability[:, [positive]]
        values.append(classification.auroc(y[:, 0], scores[:, 0]))
        drawn.append(bootstrap.auroc_draws(y, scores, patients, seed=seed)[:, 0])
    found = bootstrap.percentiles(values[0] - values[1], drawn[0] - drawn[1])
    return entries.entry(*found, n=min(len(inside[0]), len(outside[0])), unit="1")
