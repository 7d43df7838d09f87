"""How a trained classifier does on films that it has not seen, beside a logistic regression on 32x32 films."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxrjax.metrics import bootstrap, classification

Results = dict[str, Any]


def repeated(patients: np.ndarray) -> bool:
    """Whether some patient has more than one film."""
    return len(np.unique(patients)) < len(patients)


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
        accuracy = bootstrap.interval(np.mean, (right,), groups=patients)
        auroc = bootstrap.interval(classification.auroc, pair, groups=patients)
    else:
        accuracy = bootstrap.wilson(int(right.sum()), len(right))
        auroc = bootstrap.Interval(*classification.delong_interval(*pair))
        if auroc.low == auroc.high:  # classes apart altogether: DeLong's variance is 0, which no sample can promise
            auroc = auroc._replace(low=float("nan"), high=float("nan"))
    return {
        "accuracy": bootstrap.leaf(*accuracy, n=len(label), unit="fraction"),
        "auroc": bootstrap.leaf(*auroc, n=len(label), unit="1"),
    }


def small(image: np.ndarray) -> np.ndarray:
    """(n, h, w, 1) films -> (n, 1024), area-averaged to 32x32."""
    return np.stack([cv2.resize(film[..., 0], (32, 32), interpolation=cv2.INTER_AREA).ravel() for film in image])


def logreg32(
    train: np.ndarray, train_label: np.ndarray, films: np.ndarray, seed: int, penalties: Sequence[float] = (0.01,)
) -> np.ndarray:
    """The floor of every table: probabilities (n, k) of a logistic regression on 32x32 films.

    Args:
      train: (m, 1024), as `small` makes them.
      train_label: (m, k) one-hot.
      films: (n, 1024) to score.
      seed: of the solver.
      penalties: inverse L2 strengths; with several, 5-fold cross-validation on the training films chooses.
    """
    target = train_label.argmax(axis=1)
    base = LogisticRegression(C=penalties[0], max_iter=500, random_state=seed)
    model: Any = make_pipeline(StandardScaler(), base)
    if len(penalties) > 1:
        grid = {"logisticregression__C": list(penalties)}
        model = GridSearchCV(model, grid, scoring="roc_auc_ovr", cv=5, n_jobs=1)
    return model.fit(train, target).predict_proba(films)


def compare(label: np.ndarray, ours: np.ndarray, floor: np.ndarray, patients: np.ndarray, positive: int = 1) -> Results:
    """The paired AUROC difference to the floor on the same films; intervals as in `score`."""
    columns = label[:, positive], ours[:, positive], floor[:, positive]
    if repeated(patients):

        def statistic(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
            return classification.auroc(y, a) - classification.auroc(y, b)

        difference = bootstrap.interval(statistic, columns, groups=patients)
    else:
        difference = bootstrap.Interval(*classification.delong_difference(*columns)[:3])
    return {"auroc": bootstrap.leaf(*difference, n=len(label), unit="1")}
