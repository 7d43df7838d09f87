"""How a trained classifier does on films that it has not seen, beside a logistic regression on 32x32 films."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrjax.metrics import bootstrap, classification, weighted
from cxrjax.studies.floor import logreg32, small
from cxrjax.studies.leaves import repeated

__all__ = ["Results", "compare", "logreg32", "repeated", "score", "small"]

Results = dict[str, Any]


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
        "accuracy": bootstrap.leaf(*accuracy, n=len(label), unit="fraction"),
        "auroc": bootstrap.leaf(*auroc, n=len(label), unit="1"),
    }


def compare(label: np.ndarray, ours: np.ndarray, floor: np.ndarray, patients: np.ndarray, positive: int = 1) -> Results:
    """The paired AUROC difference to the floor on the same films; intervals as in `score`."""
    columns = label[:, positive], ours[:, positive], floor[:, positive]
    if repeated(patients):
        y, *pair = (column[:, None] for column in columns)
        drawn = [bootstrap.auroc_draws(y, scores, patients)[:, 0] for scores in pair]  # of one set of resamples
        value = classification.auroc(*columns[:2]) - classification.auroc(columns[0], columns[2])
        difference = bootstrap.percentiles(value, drawn[0] - drawn[1])
    else:
        difference = bootstrap.Interval(*classification.delong_difference(*columns)[:3])
    return {"auroc": bootstrap.leaf(*difference, n=len(label), unit="1")}
