"""Triage: how many films could be set aside unread while almost no disease is missed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxrjax.metrics import bootstrap, weighted
from cxrjax.metrics.classification import Interval, _known, _two_classes


class Triage(NamedTuple):
    """Films set aside, and what that costs.

    Attributes:
      share: of all films that fall below the threshold, in [0, 1].
      sensitivity: share of the positives that do not.
      threshold: of the score; films at or above it are read.
      own: whether the films themselves chose the threshold, which flatters both figures.
    """

    share: Interval
    sensitivity: Interval
    threshold: float
    own: bool


def threshold(labels: ArrayLike, scores: ArrayLike, sensitivity: float = 0.99) -> float:
    """The highest score at which `sensitivity` of the positives are still found.

    Args:
      labels: (n,) 1, 0 or NaN.
      scores: (n,), higher for present.
      sensitivity: in [0, 1].

    Returns:
      One of the positives' scores; NaN where only one class is known.
    """
    truth, values = _known(labels, scores)
    if not _two_classes(truth):
        return float("nan")
    found = np.sort(values[truth == 1])[::-1]
    return float(found[max(int(np.ceil(sensitivity * len(found) - 1e-9)), 1) - 1])


def triage(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    sensitivity: float = 0.99,
    chosen: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Triage:
    """Share of films set aside at a sensitivity, with 95 % intervals.

    Args:
      labels: (n,) 1, 0 or NaN; an unknown takes no part.
      scores: (n,), higher for present.
      groups: (n,) patient of each film; without it each film stands alone.
      sensitivity: to keep, in [0, 1].
      chosen: the threshold from validation films; without it these films choose, and each resample anew.
      draws: resamples of the patients.
      seed: of the resampling.

    Returns:
      Wilson's intervals where the threshold is given and no patient has two films, else the patient bootstrap's.
      The sensitivity has no interval where the films chose the threshold. All NaN where only one class is known.
    """
    truth, values = _known(labels, scores)
    known = ~np.isnan(np.asarray(labels, dtype=np.float64))
    patients = np.arange(len(truth)) if groups is None else np.asarray(groups)[known]
    own = chosen is None
    at = threshold(truth, values, sensitivity) if chosen is None else float(chosen)
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    if not _two_classes(truth) or np.isnan(at):
        return Triage(nothing, nothing, at, own)
    aside = (values < at).astype(np.float64)
    found = float(1 - aside[truth == 1].mean())
    if own:
        drawn = bootstrap.resampled(
            lambda w: {"share": weighted.set_aside_at_sensitivity(weighted.curve(truth, values, w), sensitivity)},
            patients, draws, seed,
        )  # fmt: skip
        share = bootstrap.percentiles(float(aside.mean()), drawn["share"])
        return Triage(share, Interval(found, float("nan"), float("nan")), at, own)
    if len(np.unique(patients)) == len(patients):
        sick = int(truth.sum())
        missed = int(aside[truth == 1].sum())
        return Triage(
            bootstrap.wilson(int(aside.sum()), len(aside)), bootstrap.wilson(sick - missed, sick), at, own
        )  # fmt: skip
    drawn = bootstrap.resampled(
        lambda w: {"share": weighted.mean(aside, w), "found": weighted.mean(truth * (1 - aside), w, truth)},
        patients, draws, seed,
    )  # fmt: skip
    return Triage(
        bootstrap.percentiles(float(aside.mean()), drawn["share"]),
        bootstrap.percentiles(found, drawn["found"]),
        at,
        own,
    )
