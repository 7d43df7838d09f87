"""Metric entries: a value with its interval, what it counts and its unit; and how figures of films become them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, calibration, classification, weighted
from cxrjax.metrics.classification import Interval
from cxrjax.types import Results

Name = tuple[str, ...]
Figures = Callable[[np.ndarray], dict[Name, np.ndarray]]


def repeated(patients: np.ndarray) -> bool:
    """Whether some patient has more than one film."""
    return len(np.unique(patients)) < len(patients)


def rows(
    label: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    classes: Sequence[str],
    other: np.ndarray | None,
    whole: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Label, probability, patients and `other` (logits, or a second model's) of the films that take part, in float64.

    Args:
      label: (n, k) 1, 0 or NaN.
      probability: (n, k).
      patients: (n,).
      classes: k names.
      other: (n, k), or None.
      whole: exclusive classes, where a row is one-hot or unknown; else a row takes part where any label is known.

    Raises:
      UserError: shapes differ, a known row is not one-hot, no label is known, or a number is not finite.
    """
    label, probability = np.asarray(label, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    patients = np.asarray(patients)
    second = probability if other is None else np.asarray(other, dtype=np.float64)
    shape = (len(patients), len(classes))
    if not label.shape == probability.shape == second.shape == shape:
        raise UserError(
            f"scoring: labels {label.shape}, probabilities {probability.shape}, logits or a second model's "
            f"{second.shape}, {shape[0]} patients and {shape[1]} classes; expected (films, classes) throughout"
        )
    unknown = np.isnan(label)
    keep = ~(unknown.any(axis=1) if whole else unknown.all(axis=1))
    label, probability, patients, second = label[keep], probability[keep], patients[keep], second[keep]
    if not len(label):
        raise UserError("scoring: no film has a known label")
    if whole and not ((label.sum(axis=1) == 1).all() and np.isin(label, (0, 1)).all()):
        raise UserError("scoring: a film has none or several of the exclusive classes; expected one-hot labels")
    if not (np.isfinite(probability).all() and np.isfinite(second).all()):
        raise UserError("scoring: a probability or logit is not finite; look for a diverged run or a bad film")
    return label, probability, patients, None if other is None else second


def ranked(label: np.ndarray, score: np.ndarray, weights: np.ndarray, sensitivity: bool = False) -> dict[str, Any]:
    """AUROC, average precision and, where asked, sensitivity at 95 % specificity of each column: (d, k) each."""
    out: dict[str, list[np.ndarray]] = {"auroc": [], "average_precision": []}
    if sensitivity:
        out["sensitivity_at_95_specificity"] = []
    for c in range(label.shape[1]):
        curve = weighted.curve(label[:, c], score[:, c], weights)
        out["auroc"].append(weighted.auroc(curve))
        out["average_precision"].append(weighted.average_precision(curve))
        if sensitivity:
            out["sensitivity_at_95_specificity"].append(weighted.sensitivity_at_specificity(curve, 0.95))
    none = np.zeros((weights.shape[1], 0))
    return {name: np.stack(columns, axis=1) if columns else none for name, columns in out.items()}


def nested(
    figures: Figures,
    patients: np.ndarray,
    draws: int,
    seed: int,
    counts: Mapping[str, int] | None = None,
    signed: bool = False,
) -> Results:
    """Every figure on the films as they are, with its interval over resamples of the patients.

    Args:
      figures: film weights (n, d) -> {(name, ...): (d,)}.
      patients: (n,).
      draws: resamples.
      seed: of the resampling.
      counts: films of known label by class, the second of a three-part name; all films where it is not given.
      signed: the figures are differences; else an interval of no width is left out.
    """
    values = figures(np.ones((len(patients), 1)))
    drawn = bootstrap.resampled(figures, patients, draws, seed)
    out: Results = {}
    for name, value in values.items():
        found = interval("" if signed else name[-1], float(value[0]), drawn[name])
        if not signed and found.low == found.high:
            found = Interval(found.value, float("nan"), float("nan"))
        films = (counts or {}).get(name[1], len(patients)) if len(name) == 3 else len(patients)
        place = out
        for part in name[:-1]:
            place = place.setdefault(part, {})
        place[name[-1]] = entry(*found, n=films, unit=_unit(name[-1]))
    return out


def interval(measure: str, value: float, drawn: np.ndarray) -> Interval:
    """Percentile interval; of an AUROC that of its logit; of a calibration error the pivotal one, held at 0 and about
    the value."""
    if measure == "auroc":
        return bootstrap.area(value, drawn)
    found = bootstrap.percentiles(value, drawn)
    if not measure.startswith("ece"):
        return found
    return Interval(value, max(min(2 * value - found.high, value), 0.0), max(2 * value - found.low, value))


def entry(value: float, low: float, high: float, n: int, unit: str = "") -> Results:
    """A metric entry as JSON can hold it: value, low, high (None where not finite), films counted, unit."""
    shown = [float(x) if math.isfinite(x) else None for x in (value, low, high)]
    return {"value": shown[0], "low": shown[1], "high": shown[2], "n": int(n), "unit": unit}


def plain(value: float, n: int, unit: str = "") -> Results:
    """An entry without an interval."""
    return entry(value, math.nan, math.nan, n, unit)


def mean(values: np.ndarray, unit: str, seed: int = 0) -> Results:
    """Mean over films with a percentile-bootstrap interval; those without a finite value are left out of `n`."""
    values = values[np.isfinite(values)].astype(np.float64)
    if not len(values):
        return plain(math.nan, 0, unit)
    draws = np.random.default_rng(seed).integers(len(values), size=(1000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return entry(values.mean(), low, high, len(values), unit)


def rate(yes: np.ndarray) -> Results:
    """Share of the films of which something is so, (n,) bool, with Wilson's interval."""
    return entry(*bootstrap.wilson(int(yes.sum()), len(yes)), len(yes), "fraction")


def t_mean(values: np.ndarray, unit: str) -> Results:
    """Mean of a few seeds with Student's interval; without one for a single seed."""
    center = float(values.mean())
    if len(values) < 2:
        return plain(center, len(values), unit)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return entry(center, center - half, center + half, len(values), unit)


def delong(label: np.ndarray, score: np.ndarray) -> Results:
    """AUROC of one column with DeLong's interval; without one where the classes are apart altogether."""
    found = classification.delong_interval(label, score)
    if found.low == found.high:
        found = found._replace(low=float("nan"), high=float("nan"))
    return entry(*found, n=int((~np.isnan(label)).sum()), unit="1")


def reliability(stated: np.ndarray, correct: np.ndarray) -> list[Results]:
    """The reliability table as rows of a JSON file."""
    return [dataclasses.asdict(row) for row in calibration.reliability(stated, correct)]


def _unit(measure: str) -> str:
    return "fraction" if measure in {"accuracy", "balanced_accuracy"} or "sensitivity" in measure else "1"
