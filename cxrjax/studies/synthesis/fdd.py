"""Distances between real and generated films by class, each with its floor and its interval; no network in here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cxrjax.metrics import bootstrap, entries, frechet, generative
from cxrjax.metrics.classification import auroc_per_class, macro
from cxrjax.types import Results

Features = dict[str, np.ndarray]
ALL = "all films"
WIDEST = 512  # features over which an interval, hundreds of distances, is not tried


class Sets(NamedTuple):
    """Films as features and conditions.

    Attributes:
      features: by layer, (n, d).
      condition: (n,) position of the class in the classes with Normal last.
      patients: (n,) of real films; each generated film stands alone.
    """

    features: Features
    condition: np.ndarray
    patients: np.ndarray

    def of(self, layer: str, number: int) -> np.ndarray:
        """(n', d) the features of one class's films, of all for -1."""
        return self.features[layer] if number < 0 else self.features[layer][self.condition == number]


def _value(value: float, n: int, unit: str = "") -> Results:
    return entries.plain(value, n, unit)


def by_class(
    real: Sets, made: Mapping[str, Sets], layer: str, classes: tuple[str, ...], draws: int, seed: int
) -> tuple[Results, Results, list[str]]:
    """Every class's distance of every model to the real films, in one layer, and each model's mean over classes.

    Args:
      real: held-out films of patients.
      made: by model, as many films of each class.
      layer: of the feature network.
      classes: the conditions, Normal last.
      draws: halvings for an interval.
      seed: of the halvings.

    Returns:
      {class: {"floor": entry, model: {"fdd", "debiased", "infinity", "kid", "ratio": entry}}}, `ALL` for the films of
      all classes together; {model: entry}, the mean over the classes that have a distance; and notes on those that have
      too few films for so many features.
    """
    out: Results = {}
    notes = []
    classwise: dict[str, list[frechet.Estimate]] = {model: [] for model in made}
    drawn: dict[str, list[np.ndarray]] = {model: [] for model in made}
    for i, name in [*enumerate(classes), (-1, ALL)]:
        own, patients = real.of(layer, i), real.patients if i < 0 else real.patients[real.condition == i]
        n, d = own.shape
        if not frechet.enough(n, d):
            notes.append(
                f"{name}: {n} films are fewer than twice the {d} features of layer {layer}; no distance given."
            )
            continue
        floor = frechet.floor(own, seed=seed, groups=patients)
        entry: Results = {"floor": _value(floor, n)}
        for model, films in made.items():
            theirs = films.of(layer, i)
            value = frechet.distance(own, theirs)
            halves = frechet.draws(own, theirs, draws, seed + i + 1, patients) if d <= WIDEST else np.full(2, np.nan)
            found = frechet.from_draws(value, halves)
            if i >= 0:
                classwise[model].append(found)
                drawn[model].append(halves)
            entry[model] = {
                "fdd": entries.entry(found.value, found.low, found.high, n=n),
                "debiased": entries.entry(found.debiased, found.debiased_low, found.debiased_high, n=n),
                "infinity": _value(frechet.to_infinity(own, theirs, seed=seed), n),
                "kid": entries.entry(*generative.kid_interval(own, theirs), n=n),
                "ratio": _value(found.value / floor, n, "1"),
            }
        out[name] = entry
    means = {}
    for model, some in classwise.items():
        if not some:
            means[model] = _value(float("nan"), 0)
            continue
        overall = frechet.from_draws(float(np.mean([e.value for e in some])), np.mean(drawn[model], axis=0))
        means[model] = entries.entry(overall.value, overall.low, overall.high, n=len(some))
    return out, means, notes


def mean_difference(
    real: Sets, a: Sets, b: Sets, layer: str, classes: tuple[str, ...], draws: int, seed: int
) -> Results:
    """The mean over classes of model a's distance less model b's: an entry, below 0 where a is nearer to real films."""
    values, found = [], []
    for i, _ in enumerate(classes):
        own = real.of(layer, i)
        if not frechet.enough(*own.shape):
            continue
        if own.shape[1] > WIDEST:
            values.append(frechet.distance(own, a.of(layer, i)) - frechet.distance(own, b.of(layer, i)))
            continue
        some, value = frechet.difference(
            own, a.of(layer, i), b.of(layer, i), draws, seed + i, groups=real.patients[real.condition == i]
        )
        values.append(value)
        found.append(some)
    if not found:
        return _value(float(np.mean(values)) if values else float("nan"), len(values))
    interval = frechet.reflected(float(np.mean(values)), np.mean(found, axis=0))
    return entries.entry(*interval, n=len(values))


def asked(made: Sets, classes: tuple[str, ...], columns: list[int], draws: int, seed: int) -> Results:
    """Whether the network finds in a generated film the finding that was asked for.

    Args:
      made: films of every class, Normal last.
      classes: the conditions, Normal last.
      columns: of the network's probabilities, one a finding.

    Returns:
      Entries `macro` and by finding: the AUROC of its probability, films asked to show it against all others.
    """
    label = (made.condition[:, None] == np.arange(len(columns))[None]).astype(np.float64)
    score = made.features["prob"][:, columns]
    each = auroc_per_class(label, score)
    found = bootstrap.auroc_draws(label, score, draws=draws, seed=seed)
    n = len(label)
    out = {"macro": entries.entry(*bootstrap.area(macro(each), found.mean(axis=1)), n=n)}
    for i, name in enumerate(classes[: len(columns)]):
        out[name] = entries.entry(*bootstrap.area(float(each[i]), found[:, i]), n=n)
    return out


def inception(sets: Mapping[str, Sets]) -> Results:
    """The Inception Score of each set over the network's probabilities (eq. 7, with our classifier for Inception)."""
    return {
        name: _value(generative.inception_score(found.features["prob"]), len(found.condition))
        for name, found in sets.items()
    }
