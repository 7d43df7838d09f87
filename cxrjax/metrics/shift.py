"""What a score does from one set of films to another: the drop with its interval, and what a few new films give back.

Inside are films of the set that was trained on, outside those of another. Thresholds and temperatures are chosen inside
and used outside. The two sets share no patient, so a drop resamples each by itself; two systems meet the same resamples
of both, so that the difference of their drops is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cxrjax.metrics import bootstrap, calibration, entries, operating, thresholds, weighted
from cxrjax.metrics.entries import Results

DRAWS = 1000
CHOICES = 100  # draws of the films that a threshold is chosen on anew
OUTSIDE_SEED = 1  # of the resamples outside, which are not those inside
REGAINED = ("balanced_accuracy", "accuracy_at_threshold", "ece_after_temperature")  # what is chosen anew decides
Measure = Callable[[np.ndarray], dict[str, np.ndarray]]  # film weights (n, d) -> {measure: (d,)}


class Said(NamedTuple):
    """What a system says of films.

    Attributes:
      label: (n, k) 1, 0 or NaN.
      probability, logits: (m, n, k), of each of m networks; figures are means over networks, not of their mean.
      patients: (n,) names.
    """

    label: np.ndarray
    probability: np.ndarray
    logits: np.ndarray
    patients: np.ndarray

    def rows(self, keep: np.ndarray) -> Said:
        """Some of the films, by position or mask (n,)."""
        return Said(self.label[keep], self.probability[:, keep], self.logits[:, keep], self.patients[keep])


class Frame(NamedTuple):
    """What is scored.

    Attributes:
      classes: k names.
      shared: columns of the classes that have films with and without them in both sets.
      exclusive: whether each film has one class.
    """

    classes: tuple[str, ...]
    shared: tuple[int, ...]
    exclusive: bool

    @property
    def ranked(self) -> tuple[int, ...]:
        """The columns whose AUROCs are averaged; of two exclusive classes the second alone."""
        return self.shared[-1:] if self.exclusive and len(self.classes) == 2 else self.shared


class Point(NamedTuple):
    """What was chosen on other films: thresholds (c,) of the `judged` columns, or (n, c) a film, and a temperature."""

    cut: np.ndarray
    temperature: float | None

    def rows(self, keep: np.ndarray) -> Point:
        """For some of the films."""
        return self._replace(cut=self.cut[keep]) if self.cut.ndim > 1 else self


class Scored(NamedTuple):
    """Figures of one system on one set: by measure the value, and those of every resample (d,); films counted."""

    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    n: int


def frame(classes: Sequence[str], inside: np.ndarray, outside: np.ndarray, exclusive: bool) -> Frame:
    """The frame of two sets of labels (n, k) and (m, k)."""
    both = [{0.0, 1.0} <= {*inside[:, c]} & {*outside[:, c]} for c in range(len(classes))]
    return Frame(tuple(classes), tuple(np.flatnonzero(both).tolist()), exclusive)


def judged(frame: Frame, label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth and score (n, c) of what a threshold calls: disease where classes exclude each other, else each finding."""
    if not frame.exclusive:
        return label[:, frame.shared], probability[:, frame.shared]
    sick = operating.disease(label, probability, frame.classes)
    none = np.zeros((len(label), 0))
    return (none, none) if sick is None else (sick[0][:, None], sick[1][:, None])


def choose(frame: Frame, label: np.ndarray, probability: np.ndarray, logits: np.ndarray | None) -> Point:
    """The point chosen on films (n, k): thresholds of the greatest sensitivity + specificity, NaN where there is none,
    and with logits the temperature."""
    truth, score = judged(frame, label, probability)
    cut = [thresholds.best_balanced_threshold(truth[:, c], score[:, c]) for c in range(truth.shape[1])]
    if logits is None:
        return Point(np.array(cut), None)
    t = calibration.temperature(label, logits, "softmax" if frame.exclusive else "sigmoid")
    return Point(np.array(cut), None if np.isnan(t) else t)


def choose_folded(frame: Frame, said: Said, seed: int = 0) -> Point:
    """A film's thresholds chosen on those of other patients, for films that no other part chooses for."""
    cuts = []
    for probability in said.probability:
        truth, score = judged(frame, said.label, probability)
        cuts.append(operating.folded(truth, score, said.patients, seed, thresholds.best_balanced_threshold))
    return Point(np.mean(cuts, axis=0), None)


def score(frame: Frame, said: Said, point: Point, seed: int, draws: int = DRAWS) -> Scored:
    """Figures with those of resamples of the patients, which follow from patients and seed alone."""
    measure = figures(frame, said, point)
    values = measure(np.ones((len(said.label), 1)))
    drawn = bootstrap.resampled(measure, said.patients, draws, seed)
    return Scored({name: float(value[0]) for name, value in values.items()}, drawn, len(said.label))


def figures(frame: Frame, said: Said, point: Point) -> Measure:
    """Every figure of a system, of its networks the mean, as a function of film weights."""
    networks = [(_ranking(frame, said.label, p), _calls(frame, said.label, p, z, point))
                for p, z in zip(said.probability, said.logits, strict=True)]  # fmt: skip

    def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = [ranking(weights) | calls(weights) for ranking, calls in networks]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}

    return mean


def _ranking(frame: Frame, label: np.ndarray, probability: np.ndarray) -> Measure:
    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas = [weighted.auroc(weighted.curve(label[:, c], probability[:, c], weights)) for c in frame.ranked]
        none = np.full((weights.shape[1], 1), np.nan)
        return {"auroc": thresholds.mean_defined(np.stack(areas, axis=1) if areas else none)}

    return figures


def _calls(frame: Frame, label: np.ndarray, probability: np.ndarray, logits: np.ndarray, point: Point) -> Measure:
    """Every figure of what is called and stated, of one network."""
    truth, scored = judged(frame, label, probability)
    cut = np.where(np.isnan(point.cut), 0.5, point.cut)
    called, ill, well = scored >= cut, truth == 1, truth == 0  # (n, c)
    parts = {"ece": calibration.ece_parts(*_stated(frame, label, probability))}
    if point.temperature is not None:
        cooled = logits / point.temperature
        cooled = special.softmax(cooled, axis=1) if frame.exclusive else special.expit(cooled)
        parts["ece_after_temperature"] = calibration.ece_parts(*_stated(frame, label, cooled))
    right = label.argmax(axis=1) == probability.argmax(axis=1)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        out = {name: calibration.ece_of(*part, weights) for name, part in parts.items()}
        if frame.exclusive:
            out["accuracy"] = weighted.mean(right, weights)
            if len(frame.classes) == 2:
                out["accuracy_at_threshold"] = weighted.mean((called == ill)[:, 0], weights)
        if truth.shape[1]:
            found = weighted.ratio(weights.T @ (ill & called), weights.T @ ill.astype(float))  # (d, c)
            spared = weighted.ratio(weights.T @ (well & ~called), weights.T @ well.astype(float))
            out["sensitivity"], out["specificity"] = map(thresholds.mean_defined, (found, spared))
            out["balanced_accuracy"] = thresholds.mean_defined((found + spared) / 2)
        return out

    return figures


def _stated(frame: Frame, label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and whether they came true."""
    if frame.exclusive:
        return calibration.confidence(label, probability)
    return probability[:, frame.shared], label[:, frame.shared]


def side(found: Scored) -> Results:
    """The entries of one set."""
    out = {}
    for name, value in found.values.items():
        ends = entries.interval(name, value, found.drawn[name])
        low, high = (float("nan"),) * 2 if ends.low == ends.high else ends[1:]
        out[name] = entries.entry(value, low, high, found.n, _unit(name))
    return out


def minus(a: Scored, b: Scored) -> Scored:
    """Figures of a less those of b, draw by draw: of two systems paired, of two sets each resampled by itself."""
    names = [name for name in a.values if name in b.values]
    values = {name: a.values[name] - b.values[name] for name in names}
    return Scored(values, {name: a.drawn[name] - b.drawn[name] for name in names}, min(a.n, b.n))


def difference(found: Scored) -> Results:
    """The entries of a difference; of a calibration error, which resampling raises, with the pivotal interval."""
    out = {}
    for name, value in found.values.items():
        ends = bootstrap.percentiles(value, found.drawn[name])
        low, high = (2 * value - ends.high, 2 * value - ends.low) if name.startswith("ece") else ends[1:]
        out[name] = entries.entry(value, low, high, found.n, _unit(name))
    return out


def recalibrated(frame: Frame, said: Said, point: Point, films: int, seed: int = 0, draws: int = CHOICES) -> Results:
    """What so many outside films give back on the rest, when threshold and temperature are chosen on them anew.

    Args:
      frame: what is scored.
      said: of the outside films.
      point: chosen inside; what the drawn films cannot choose, for want of a class, stays as it is there.
      films: to choose on, in whole patients, so that it may be a few more.
      seed: of the drawing.
      draws: of the films; means over them, with the range of 95 % of them.

    Returns:
      `films` and `patients` that were drawn (means), and `before`, `after` and `gain` {measure: entry}. Empty where
      less than as many films would be left.
    """
    names, patient = np.unique(said.patients, return_inverse=True)
    size = np.bincount(patient)
    if 2 * films > len(patient):
        return {}
    point = point._replace(temperature=point.temperature or 1.0)
    rng = np.random.default_rng(seed)
    taken: list[tuple[float, float]] = []
    before: list[list[float]] = []
    after: list[list[float]] = []
    for _ in range(draws):
        order = rng.permutation(len(names))
        count = int(np.searchsorted(np.cumsum(size[order]), films)) + 1
        drawn = np.isin(patient, order[:count])
        taken.append((drawn.sum(), count))
        few, rest, once = said.rows(drawn), said.rows(~drawn), np.ones((int((~drawn).sum()), 1))
        for m in range(len(said.probability)):
            for place, at in ((before, point), (after, _chosen_anew(frame, few, m, point))):
                found = _calls(frame, rest.label, rest.probability[m], rest.logits[m], at)(once)
                place.append([float(found[name][0]) if name in found else np.nan for name in REGAINED])
    out: Results = {
        unit: entries.plain(mean, draws, unit)
        for unit, mean in zip(("films", "patients"), np.mean(taken, axis=0), strict=True)
    }
    old, new = np.array(before), np.array(after)
    for key, values in (("before", old), ("after", new), ("gain", new - old)):
        out[key] = {name: _over_draws(values[:, i], len(patient) - films, name) for i, name in enumerate(REGAINED)}
    return out


def _chosen_anew(frame: Frame, drawn: Said, m: int, point: Point) -> Point:
    """The point that a few films choose for network m, the given one where they cannot."""
    truth, _ = judged(frame, drawn.label, drawn.probability[m])
    both = bool(((truth == 1).any(axis=0) & (truth == 0).any(axis=0)).any()) or not truth.shape[1]
    logits = drawn.logits[m] if both and point.temperature is not None else None
    now = choose(frame, drawn.label, drawn.probability[m], logits)
    cut = np.where(np.isnan(now.cut), point.cut, now.cut)
    return Point(cut, point.temperature if now.temperature is None else now.temperature)


def _over_draws(values: np.ndarray, n: int, measure: str) -> Results:
    values = values[~np.isnan(values)]
    if not len(values):
        return entries.plain(float("nan"), n, _unit(measure))
    low, high = np.quantile(values, [0.025, 0.975])
    return entries.entry(values.mean(), low, high, n, _unit(measure))


def _unit(measure: str) -> str:
    return "1" if measure == "auroc" or measure.startswith("ece") else "fraction"
