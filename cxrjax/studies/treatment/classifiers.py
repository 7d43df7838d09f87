"""How a trained classifier does on films that it has not seen, beside a logistic regression on 32x32 films."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from cxrjax import data
from cxrjax.metrics import bootstrap, classification, entries, weighted
from cxrjax.metrics.entries import repeated
from cxrjax.phases import Context
from cxrjax.studies import floor, tables
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


def table(out: Results, names: tuple[str, ...], split: str) -> tables.Table:
    """The figures of the classifiers `names` beside the floor's, as `score_all` found them."""
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


def score_all(context: Context, phases: tuple[str, ...], disease: int) -> Results:
    """Every classifier on the whole held-out part, beside the floor trained and scored on the same films."""
    config, films = context.config, context.films
    classes, split = context.classes, films.held_out
    table = films.table(split)
    label = data.labels.select(table["labels"], films.columns, classes)
    single = (label == 1).sum(axis=1) == 1  # a film of another finding is neither Normal nor diseased
    label, patient = label[single], table["patient"][single]
    out: Results = {}
    probability = {}
    for name in phases:
        task = TASKS[config[name].task](config[name], classes)
        rows = context.evaluate(jax.jit(task.predict), context.states[name], split, config.study.batch)
        probability[name] = classify.scores(classify.options_of(config[name]), rows["logits"])[single]
        out[name] = {split: score(label, probability[name], patient, disease)}
    train, train_label = floor.films_of(context, "train")
    test, _ = floor.films_of(context, split)
    patients = films.table("train")["patient"]
    known = (train_label == 1).sum(axis=1) == 1
    base = floor.logreg32(
        train[known], train_label[known], test[single], config.seed, config.study.penalties, patients=patients[known]
    )
    out["logreg32"] = {split: score(label, base, patient, disease)}
    for name in probability:
        out[name]["minus_logreg32"] = compare(label, probability[name], base, patient, disease)
    return out
