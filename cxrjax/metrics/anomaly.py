"""How well a map of anomaly scores finds the true lesion, pixel by pixel; on the host.

Scores are (n, h, w), 0 or more, in any unit: AnoDDPM (Wyatt et al. 2022) takes the squared difference of film and
reconstruction in [-1, 1] units and calls a pixel anomalous above 0.5. Truth is (n, h, w), true (or above 0.5) inside
the lesion; `localization.masks` makes it of boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, entries, weighted

_BINS = 512  # of the lesions' pixels, and as many of the others: resamples share these bins, so that none is sorted
Leaf = dict[str, float | int | str | None]


class _Sorted(NamedTuple):
    """The scores of all films' pixels in rising order: of the m in lesions and of the k outside."""

    lesion: np.ndarray
    rest: np.ndarray


class _Counts(NamedTuple):
    """Pixels above each threshold, which falls from none to all: (n, u) float64 by film.

    Attributes:
      true: in the lesion.
      false: outside it.
    """

    true: np.ndarray
    false: np.ndarray


def at_threshold(scores: ArrayLike, truth: ArrayLike, threshold: float) -> dict[str, np.ndarray]:
    """Overlap and error rates of the pixels whose score exceeds a threshold, film by film.

    With TP, FP, FN and TN the film's pixels called rightly, called wrongly, missed and rightly left: dice is
    2 TP / (2 TP + FP + FN), iou TP / (TP + FP + FN), precision TP / (TP + FP), recall TP / (TP + FN) and fpr
    FP / (FP + TN). AnoDDPM's published code has TP / (TP + FN) for precision, TP / (TP + FP) for recall and
    FN / (FN + TN) for fpr, so its figures of these names are not comparable.

    Args:
      scores: (n, h, w), 0 or more.
      truth: (n, h, w), true inside.
      threshold: in the unit of the scores; a score of just this much is not called.

    Returns:
      dice, iou, precision, recall and fpr, each (n,) in [0, 1]. NaN where undefined: dice, iou and recall of a film
      without a lesion, precision where nothing is called, fpr where all is lesion.

    Raises:
      UserError: shapes differ, a score is negative or not finite, or the threshold is.
    """
    scores, truth = _pair(scores, truth)
    called = scores > _limit(threshold)
    both = (called & truth).sum(axis=(1, 2)).astype(np.float64)
    detected = called.sum(axis=(1, 2)).astype(np.float64)
    lesion = truth.sum(axis=(1, 2)).astype(np.float64)
    there = lesion > 0
    return {
        "dice": np.where(there, weighted.ratio(2 * both, detected + lesion), np.nan),
        "iou": np.where(there, weighted.ratio(both, detected + lesion - both), np.nan),
        "precision": weighted.ratio(both, detected),
        "recall": weighted.ratio(both, lesion),
        "fpr": weighted.ratio(detected - both, np.prod(truth.shape[1:]) - lesion),
    }


def score(
    scores: ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    threshold: float,
    seed: int = 0,
    draws: int = 1000,
) -> dict[str, Leaf]:
    """Every figure of a set of films, with its percentile interval over resamples of the patients.

    Args:
      scores: (n, h, w), 0 or more.
      truth: (n, h, w), true inside.
      groups: (n,) patient of each film; without it each film stands alone.
      threshold: of `at_threshold`, chosen on other films.
      seed: of the resampling.
      draws: resamples.

    Returns:
      Entries (see `entries.entry`), n counting the films where the figure is defined: dice, iou, precision, recall and
      fpr, means over films of `at_threshold`; dice_oracle, the greatest mean Dice that one threshold gives these same
      films, an upper bound that no one reaches without their truth (found anew in each resample, among about a thousand
      thresholds); pixel_auroc and pixel_average_precision, over the pixels of all films. The values are exact; the
      resamples of the last two bin the scores and are moved by what binning does to the value. None where undefined.

    Raises:
      UserError: shapes or lengths differ, no film, a score is negative or not finite, or the threshold is.
    """
    scores, truth = _pair(scores, truth)
    names = _groups(groups, len(scores))
    by_film = at_threshold(scores, truth, threshold)
    pooled = _sorted(scores, truth)
    counts = _counts(scores, truth, _edges(pooled, threshold))
    lesion = counts.true[:, -1:]
    there = lesion[:, 0] > 0
    # A film without a lesion has no true pixel and so 0 here; it is not counted either.
    dice = 2 * counts.true / np.maximum(counts.true + counts.false + lesion, 1.0)  # (n, u)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = {k: weighted.mean(np.nan_to_num(v), weights, ~np.isnan(v)) for k, v in by_film.items()}
        oracle = weighted.ratio((dice.T @ weights).max(axis=0), there @ weights)
        return {**means, "dice_oracle": oracle, **_ranked(counts, weights)}

    value = {name: float(found[0]) for name, found in figures(np.ones((len(scores), 1))).items()}
    drawn = bootstrap.resampled(figures, names, draws, seed)
    exact = {"pixel_auroc": _auroc(pooled), "pixel_average_precision": _average_precision(pooled)}
    for name in exact:
        drawn[name] = np.clip(drawn[name] + (exact[name] - value[name]), 0.0, 1.0)
    films = {name: int((~np.isnan(found)).sum()) for name, found in by_film.items()} | {"dice_oracle": int(there.sum())}
    return {
        name: entries.entry(*bootstrap.percentiles(found, drawn[name]), n=films.get(name, len(scores)), unit="1")
        for name, found in (value | exact).items()
    }


def detection(
    scores: ArrayLike, sick: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0, draws: int = 1000
) -> dict[str, Leaf]:
    """How well one score a film tells diseased films from healthy ones, with intervals by resampling the patients.

    Args:
      scores: (n,), higher for diseased.
      sick: (n,) bool.
      groups: (n,) patient of each film; without it each film stands alone.
      seed: of the resampling.
      draws: resamples.

    Returns:
      Entries `film_auroc` and `film_average_precision`; None where there are films of one kind only.

    Raises:
      UserError: lengths differ, no film, or a score is not finite.
    """
    scores, sick = np.asarray(scores, np.float64), np.asarray(sick, np.float64)
    names = _groups(groups, len(scores))

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        curve = weighted.curve(sick, scores, weights)
        return {"film_auroc": weighted.auroc(curve), "film_average_precision": weighted.average_precision(curve)}

    value = {name: float(found[0]) for name, found in figures(np.ones((len(scores), 1))).items()}
    drawn = bootstrap.resampled(figures, names, draws, seed)
    found = {
        "film_auroc": bootstrap.area(value["film_auroc"], drawn["film_auroc"]),
        "film_average_precision": bootstrap.percentiles(
            value["film_average_precision"], drawn["film_average_precision"]
        ),
    }
    return {name: entries.entry(*interval, n=len(scores), unit="1") for name, interval in found.items()}


def difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
) -> Leaf:
    """Pixel AUROC of method a less that of method b on the same films, with its paired percentile interval.

    Args:
      scores_a: (n, h, w), 0 or more, of the first method.
      scores_b: (n, h, w), of the second; its unit may be another.
      truth: (n, h, w), true inside.
      groups: (n,) patient of each film; without it each film stands alone.
      seed: of the resampling.
      draws: resamples of the patients, the same for both methods.

    Returns:
      An entry (see `entries.entry`) in [-1, 1]; exact in its value, binned in its ends as in `score`.

    Raises:
      UserError: shapes or lengths differ, no film, or a score is negative or not finite.
    """
    counts, exact = [], []
    for scores in (scores_a, scores_b):
        maps, inside = _pair(scores, truth)
        pooled = _sorted(maps, inside)
        counts.append(_counts(maps, inside, _edges(pooled)))
        exact.append(_auroc(pooled))
    names = _groups(groups, len(counts[0].true))

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        a, b = (_ranked(found, weights)["pixel_auroc"] for found in counts)
        return {"gap": a - b}

    value = exact[0] - exact[1]
    shift = value - figures(np.ones((len(names), 1)))["gap"][0]
    drawn = bootstrap.resampled(figures, names, draws, seed)["gap"] + shift
    return entries.entry(*bootstrap.percentiles(value, np.clip(drawn, -1.0, 1.0)), n=len(names), unit="1")


def _sorted(scores: np.ndarray, truth: np.ndarray) -> _Sorted:
    return _Sorted(np.sort(scores[truth]), np.sort(scores[~truth]))


def _auroc(pooled: _Sorted) -> float:
    """The share of pairs of a lesion's pixel and another that are ranked rightly, half of the ties."""
    lesion, rest = pooled
    if not len(lesion) or not len(rest):
        return float("nan")
    pairs = sum(int(np.searchsorted(rest, lesion, side).sum()) for side in ("left", "right"))
    return pairs / (2 * len(lesion) * len(rest))


def _average_precision(pooled: _Sorted) -> float:
    """The area under the precision-recall steps; of blind scores the lesions' share of the pixels, not one half."""
    lesion, rest = pooled
    if not len(lesion) or not len(rest):
        return float("nan")
    levels, count = np.unique(lesion, return_counts=True)
    true = np.cumsum(count[::-1])[::-1]  # at or above each level
    false = len(rest) - np.searchsorted(rest, levels, "left")
    return float((count * (true / (true + false))).sum() / len(lesion))


def _edges(pooled: _Sorted, *more: float) -> np.ndarray:
    """Rising scores that part the lesions' pixels into even shares, and the others'.

    A lesion is rare and ranks high: even shares of all pixels would lay it into a few bins. Its edges lie just below
    its pixels, so that a pixel shares its bin with what ranks above it, as a step of average precision counts.
    """
    lesion, rest = (part[np.linspace(0, len(part) - 1, min(_BINS, len(part))).astype(np.int64)] for part in pooled)
    below = np.nextafter(lesion, lesion.dtype.type(-1))
    return np.unique(np.concatenate([below, rest, np.asarray(more, rest.dtype)]))


def _counts(scores: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> _Counts:
    """Pixels above each edge from the highest down, then all of them."""
    bins = len(edges) + 1
    histogram = np.empty((2, len(scores), bins))
    for i, (film, inside) in enumerate(zip(scores, truth, strict=True)):
        place = np.searchsorted(edges, film, "left") + bins * inside  # as many edges lie below the score
        histogram[:, i] = np.bincount(place.ravel(), minlength=2 * bins).reshape(2, bins)
    false, true = np.cumsum(histogram[:, :, ::-1], axis=2)
    return _Counts(true, false)


def _ranked(counts: _Counts, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Binned AUROC and average precision of weighted films: weights (n, d); (d,) each."""
    true, false = counts.true.T @ weights, counts.false.T @ weights  # (u, d)
    none = np.zeros((1, weights.shape[1]))
    curve = weighted.Curve(np.concatenate([none, true]), np.concatenate([none, false]))
    return {"pixel_auroc": weighted.auroc(curve), "pixel_average_precision": weighted.average_precision(curve)}


def _groups(groups: ArrayLike | None, n: int) -> np.ndarray:
    names = np.arange(n) if groups is None else np.asarray(groups)
    if names.shape != (n,) or not n:
        raise UserError(f"anomaly: {n} films and groups {names.shape}; expected a film or more, and one patient a film")
    return names


def _limit(threshold: float) -> float:
    if not (np.isfinite(threshold) and threshold >= 0):
        raise UserError(f"anomaly: threshold {threshold}; expected 0 or more, in the unit of the scores")
    return float(threshold)


def _pair(scores: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores in their own float type, for half a thousand large films are many pixels, and truth as bool."""
    scores, truth = np.asarray(scores), np.asarray(truth) > 0.5
    if scores.ndim != 3 or scores.shape != truth.shape:
        raise UserError(f"anomaly: scores {scores.shape} and truth {truth.shape}; expected one shape (n, h, w)")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float64)
    if scores.size and not (scores.min() >= 0 and np.isfinite(scores.max())):  # a NaN fails the first
        raise UserError("anomaly: a score is negative or not finite; expected 0 or more, such as a squared difference")
    return scores, truth
