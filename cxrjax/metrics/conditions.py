"""One model on the same films under several conditions, and two models so: all meet the same resamples of patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cxrjax.metrics import bootstrap, calibration, entries, operating, thresholds, weighted
from cxrjax.metrics.classification import Interval
from cxrjax.metrics.operating import Kind, Validation
from cxrjax.types import Results

DRAWS = 1000


class Figures(NamedTuple):
    """Figures of a model, by measure: `value` (c,), each condition's, and `drawn` (draws, c), the resamples'."""

    value: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    films: int

    def at(self, chosen: int | slice) -> Results:
        """Entries of one condition by measure, or of the mean over several."""
        out = {}
        for measure, value in self.value.items():
            drawn = self.drawn[measure][:, chosen]
            found = entries.interval(measure, float(np.mean(value[chosen])), drawn.reshape(len(drawn), -1).mean(axis=1))
            if found.low == found.high:  # claims what no sample can promise
                found = Interval(found.value, float("nan"), float("nan"))
            out[measure] = _entry(measure, found, self.films)
        return out

    def difference(self, chosen: int | slice, other: Figures, than: int | slice) -> Results:
        """Entries of a condition or a mean less another's, or another model's on these films: paired by patient."""
        out = {}
        for measure, value in self.value.items():
            ours, theirs = self.drawn[measure][:, chosen], other.drawn[measure][:, than]
            drawn = ours.reshape(len(ours), -1).mean(axis=1) - theirs.reshape(len(theirs), -1).mean(axis=1)
            gap = float(np.mean(value[chosen]) - np.mean(other.value[measure][than]))
            out[measure] = _entry(measure, bootstrap.percentiles(gap, drawn), self.films)
        return out


def figures(
    label: np.ndarray,
    probability: Sequence[np.ndarray],
    patients: np.ndarray,
    *,
    exclusive: bool,
    validation: Validation | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Figures:
    """AUROC, a figure of what is called, and ECE under each condition.

    Called are, of two exclusive classes, the second at a threshold (`accuracy_at_threshold`), of more the likeliest
    (`accuracy`), and of findings each at a threshold (`f1`, the mean over those with films of both kinds: a finding
    that few have is right most often where it is never called).

    Args:
      label: (n, k) 1, 0 or NaN; of exclusive classes a film with an unknown takes no part.
      probability: c arrays (n, k); by the first, thresholds are chosen where there is no validation.
      patients: (n,) names.
      exclusive: whether each film has one class.
      validation: (label, logits) of other films, each (m, k), which no condition changes: they choose the thresholds
        (of the greatest sensitivity + specificity, of findings of the greatest F1) and the temperature that ECE is
        taken at. Without them a film's thresholds are chosen on those of other patients, and there is no temperature.
      draws: resamples of the patients.
      seed: of the resampling.
    """
    kind: Kind = "softmax" if exclusive else "sigmoid"
    names = [str(c) for c in range(label.shape[1])]
    known, first, groups, _ = entries.rows(label, probability[0], patients, names, None, whole=exclusive)
    every = [first] + [entries.rows(label, p, patients, names, None, whole=exclusive)[1] for p in probability[1:]]
    t = None if validation is None else calibration.temperature(validation[0], validation[1], kind)
    stated = every if t is None or np.isnan(t) else [_cooled(p, t, exclusive) for p in every]
    if exclusive:
        columns = [1] if known.shape[1] == 2 else list(range(known.shape[1]))
        parts = [calibration.ece_parts(*calibration.confidence(known, p)) for p in stated]
    else:
        columns = [c for c in range(known.shape[1]) if {0.0, 1.0} <= set(known[:, c])]
        parts = [calibration.ece_parts(p, known) for p in stated]
    name, called = _calls(known, first, groups, columns, exclusive, validation, seed)

    def area(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
        found = [weighted.auroc(weighted.curve(known[:, c], p[:, c], weights)) for c in columns]
        return thresholds.mean_defined(np.stack(found, axis=1) if found else np.zeros((weights.shape[1], 0)))

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = {
            "auroc": [area(p, weights) for p in every],
            name: [called(p, weights) for p in every],
            "ece": [calibration.ece_of(*part, weights) for part in parts],
        }
        return {measure: np.stack(values, axis=1) for measure, values in found.items()}  # (d, c)

    value = {measure: found[0] for measure, found in of(np.ones((len(groups), 1))).items()}
    return Figures(value, bootstrap.resampled(of, groups, draws, seed), len(groups))


def _calls(
    label: np.ndarray, first: np.ndarray, patients: np.ndarray, columns: list[int], exclusive: bool,
    validation: Validation | None, seed: int,
) -> tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:  # fmt: skip
    """The measure of what is called, and its figure (d,) of probabilities (n, k) and film weights (n, d)."""
    if exclusive and label.shape[1] > 2:
        truth = label.argmax(axis=1)
        return "accuracy", lambda p, weights: weighted.mean(truth == p.argmax(axis=1), weights)
    if exclusive:
        second = label[:, 1:]
        choose = thresholds.best_balanced_threshold
        if validation is not None:
            others, said = operating.validated(validation, "softmax")
            cut = np.full(second.shape, choose(others[:, 1], said[:, 1]))
        else:
            cut = operating.folded(second, first[:, 1:], patients, seed, choose)
        cut = np.where(np.isnan(cut), 0.5, cut)
        return "accuracy_at_threshold", lambda p, weights: weighted.mean(
            ((p[:, 1:] >= cut) == (second == 1))[:, 0], weights
        )
    cut, _ = operating.cuts(label, first, patients, validation, seed)

    def f1(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
        counted = thresholds.counts(label[:, columns], (p >= cut)[:, columns], weights)
        return thresholds.mean_defined(thresholds.scores(counted).f1)

    return "f1", f1


def _cooled(probability: np.ndarray, t: float, exclusive: bool) -> np.ndarray:
    """Probabilities (n, k) at a temperature, from their own logits."""
    clipped = np.clip(probability, 1e-12, 1)
    if exclusive:
        return special.softmax(np.log(clipped) / t, axis=1)
    return special.expit((np.log(clipped) - np.log(np.clip(1 - probability, 1e-12, 1))) / t)


def _entry(measure: str, found: Interval, films: int) -> Results:
    return entries.entry(*found, n=films, unit="fraction" if measure.startswith("accuracy") else "1")
