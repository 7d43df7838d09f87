"""The floor of every table: a logistic regression on 32x32 films, trained and scored on the same split."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.metrics import classification
from cxrjax.phases import Context

PENALTIES = (0.0001, 0.001, 0.01, 0.1)
FOLDS = 5
_ITERATIONS = 2000

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, Sequence[float]], list[np.ndarray]]


def small(image: np.ndarray) -> np.ndarray:
    """(n, h, w, c) films -> (n, 1024) float32, area-averaged to 32x32; of several channels, their mean."""
    gray = np.asarray(image).mean(axis=-1) if image.shape[-1] > 1 else np.asarray(image)[..., 0]
    if not len(gray):
        return np.zeros((0, 1024), np.float32)
    return np.stack([cv2.resize(film, (32, 32), interpolation=cv2.INTER_AREA).ravel() for film in gray])


class Method(NamedTuple):
    """How rows are learned from, of exclusive classes and of findings; each fit takes several settings at once."""

    exclusive: Fit
    independent: Fit


def learned(
    method: Method,
    train: np.ndarray,
    train_label: np.ndarray,
    asked: np.ndarray,
    seed: int,
    settings: Sequence[float],
    patients: np.ndarray | None = None,
    exclusive: bool | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Probabilities (n, k) of rows, by a method whose setting is chosen where there are several.

    Args:
      method: `LINEAR` or `NEAREST`.
      train: (m, d).
      train_label: (m, k) 1, 0 or NaN; a film with an unknown takes no part in that finding, or, of exclusive classes,
        at all.
      asked: (n, d) to score.
      seed: of the folds.
      settings: inverse L2 strengths, or numbers of neighbors. Of several the one of the greatest mean AUROC over the
        classes is taken, one for all of them: on the validation rows, or by 5-fold cross-validation on the training
        films.
      patients: (m,) of the training films; none is in two folds.
      exclusive: whether each film has one class; without it, whether every known row has.
      validation: rows (v, d) and labels (v, k), or None.

    Returns:
      In [0, 1]. A finding of one class in training gives its rate, and 0.5 where no label is known.

    Raises:
      UserError: no training film, or exclusive classes of which one alone is there.
    """
    from sklearn.exceptions import ConvergenceWarning

    keep, exclusive = check(train_label, settings if validation is None else (), patients, exclusive)
    train, label = np.asarray(train, dtype=np.float32)[keep], np.asarray(train_label, dtype=np.float64)[keep]
    groups = None if patients is None else np.asarray(patients)[keep]
    fit = method.exclusive if exclusive else method.independent
    asked = np.asarray(asked, dtype=np.float32)
    # One thread: the products are small, and threads that wait for one another took forty times as long.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Rare classes miss from folds, which the mean leaves out; a penalty that weak on few films may not settle.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        ordered, best = sorted(settings), 0  # each penalty starts from the stronger one before it
        if len(settings) > 1:
            if validation is None:
                best = int(np.argmax(_validated(fit, train, label, _folds(label, groups, exclusive, seed), ordered)))
            else:
                m, v = len(train), len(validation[0])
                whole, truth = (np.concatenate(pair) for pair in zip((train, label), validation, strict=True))
                best = int(np.argmax(_validated(fit, whole, truth, [(np.arange(m), m + np.arange(v))], ordered)))
        return fit(train, label, asked, ordered[best : best + 1])[0]


def logreg32(
    train: np.ndarray,
    train_label: np.ndarray,
    films: np.ndarray,
    seed: int,
    penalties: Sequence[float] = (0.01,),
    patients: np.ndarray | None = None,
    exclusive: bool | None = None,
) -> np.ndarray:
    """Probabilities (n, k) of a logistic regression on 32x32 films: softmax of exclusive classes, else one a finding.

    Rows are as `small` makes them, `penalties` inverse L2 strengths; all else as in `learned`.
    """
    return learned(LINEAR, train, train_label, films, seed, penalties, patients, exclusive)


def check(
    train_label: np.ndarray, penalties: Sequence[float], patients: np.ndarray | None, exclusive: bool | None = None
) -> tuple[np.ndarray, bool]:
    """The rows (m,) bool that `logreg32` learns from, and whether classes exclude each other; arguments as there.

    Raises:
      UserError: as `logreg32`, which needs the labels alone to tell.
    """
    label = np.asarray(train_label, dtype=np.float64)
    if exclusive is None:
        rows = label[~np.isnan(label).any(axis=1)]
        exclusive = label.shape[1] > 1 and len(rows) > 0 and bool((rows.sum(axis=1) == 1).all())
    keep = np.asarray(~np.isnan(label).any(axis=1) if exclusive else ~np.isnan(label).all(axis=1))
    label = label[keep]
    if not len(label):
        raise UserError("logreg32: no training film has a known label")
    if exclusive and len(np.unique(label.argmax(axis=1))) < 2:
        raise UserError("logreg32: the training films hold one class only; expected two or more")
    if len(penalties) > 1:
        _kinds(label, None if patients is None else np.asarray(patients)[keep], exclusive)
    return keep, exclusive


def _kinds(label: np.ndarray, groups: np.ndarray | None, exclusive: bool) -> tuple[np.ndarray, int]:
    """(m,) what each film is stratified by, findings by the rarest that it has, and the number of folds."""
    if exclusive:
        kind = label.argmax(axis=1)
    else:
        present = label == 1
        kind = np.where(present, -present.sum(axis=0)[None], -len(label) - 1).argmax(axis=1) + 1
        kind = np.where(present.any(axis=1), kind, 0)
    units = len(label) if groups is None else len(np.unique(groups))
    count = min(FOLDS, units, int(np.bincount(kind).max()))
    if count < 2:
        raise UserError(f"logreg32: {units} patients in training, too few to choose among penalties; give one penalty")
    return kind, count


def _folds(
    label: np.ndarray, groups: np.ndarray | None, exclusive: bool, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rest, held-out) indices, alike in their classes."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind, count = _kinds(label, groups, exclusive)
    splitter: Any = StratifiedKFold if groups is None else StratifiedGroupKFold
    yield from splitter(count, shuffle=True, random_state=seed).split(label, kind, groups)


def _validated(fit: Fit, train: np.ndarray, label: np.ndarray, folds: Any, penalties: Sequence[float]) -> list[float]:
    """Of each penalty the mean AUROC over held-out folds and the classes they define; -1 where none is."""
    found = np.stack(
        [
            [
                classification.auroc_per_class(label[held], p)
                for p in fit(train[rest], label[rest], train[held], penalties)
            ]
            for rest, held in folds
        ]
    )  # (folds, penalties, k)
    means = [classification.macro(found[:, i]) for i in range(len(penalties))]
    return [-1.0 if np.isnan(mean) else mean for mean in means]


def _softmax(train: np.ndarray, label: np.ndarray, films: np.ndarray, penalties: Sequence[float]) -> list[np.ndarray]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    target = label.argmax(axis=1)
    if len(np.unique(target)) < 2:  # of a fold of a rare class
        return [np.tile(np.eye(label.shape[1])[target[0]], (len(films), 1)) for _ in penalties]
    scaler = StandardScaler().fit(train)
    train, films = scaler.transform(train), scaler.transform(films)
    model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    out = []
    for penalty in penalties:
        found = np.zeros((len(films), label.shape[1]))
        model.set_params(C=penalty).fit(train, target)
        found[:, model.classes_] = model.predict_proba(films)
        out.append(found / found.sum(axis=1, keepdims=True))  # in float64: the solver's own sums are of float32
    return out


def _sigmoid(train: np.ndarray, label: np.ndarray, films: np.ndarray, penalties: Sequence[float]) -> list[np.ndarray]:
    out = np.empty((len(penalties), len(films), label.shape[1]))
    for c in range(label.shape[1]):
        known = ~np.isnan(label[:, c])
        rate = label[known, c].mean() if known.any() else 0.5
        if known.any() and 0 < rate < 1:
            pair = np.stack([1 - label[known, c], label[known, c]], axis=1)
            out[:, :, c] = [found[:, 1] for found in _softmax(train[known], pair, films, penalties)]
        else:
            out[:, :, c] = rate
    return list(out)


def _nearest(train: np.ndarray, label: np.ndarray, films: np.ndarray, counts: Sequence[float]) -> list[np.ndarray]:
    """The share of the nearest films of known label that have the class, by the cosine of standardized rows."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    most = min(int(max(counts)), len(train))
    model = NearestNeighbors(n_neighbors=most, metric="cosine").fit(scaler.transform(train))
    near = label[model.kneighbors(scaler.transform(films), return_distance=False)]  # (n, most, k)
    known, every = ~np.isnan(label), ~np.isnan(near)
    rate = np.where(known, label, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    rate = np.where(known.any(axis=0), rate, 0.5)
    out = []
    for count in counts:
        here = every[:, : int(count)]
        total = here.sum(axis=1)
        share = np.where(here, near[:, : int(count)], 0).sum(axis=1) / np.maximum(total, 1)
        out.append(np.where(total > 0, share, rate[None]))
    return out


LINEAR = Method(_softmax, _sigmoid)
NEAREST = Method(_nearest, _nearest)


def films_of(context: Context, split: str, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A split as (n, 1024) rows of 32x32 films and (n, k) labels, without ever holding its films at full size."""
    rows, labels = [], []
    read_batches = partial(data.eval_batches, context.films, split, classes=context.classes)
    for batch in read_batches(batch_size=256, keep=keep):
        valid = batch.valid > 0
        rows.append(small(batch.image[valid]))
        labels.append(batch.label[valid])
    return np.concatenate(rows), np.concatenate(labels)


def rows_of(films: data.Prepared, split: str) -> np.ndarray:
    """A split as (n, 1024) rows of 32x32 films, whatever its labels are."""
    read = data.eval_batches(films, split, classes=(), batch_size=256)
    return np.concatenate([small(batch.image[batch.valid > 0]) for batch in read])
