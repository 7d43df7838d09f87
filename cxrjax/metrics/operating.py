"""What is chosen on other films than those reported on: a temperature, thresholds, the films to set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy import special

from cxrjax.errors import UserError
from cxrjax.metrics import calibration, entries, thresholds, triage
from cxrjax.metrics.entries import Results

Validation = Sequence[np.ndarray]  # (label, logits) or (label, logits, probability), each (m, k)
Kind = Literal["softmax", "sigmoid"]

NORMAL = ("normal", "no finding", "no_finding")
FOLDS = 5


def temperature(validation: Validation | None, logits: np.ndarray | None, kind: Kind) -> float | None:
    """Fitted on the validation films; None where they or the logits to cool are not given, or no label is known."""
    if validation is None or logits is None:
        return None
    found = calibration.temperature(validation[0], validation[1], kind)
    return None if np.isnan(found) else found


def validated(validation: Validation, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of the validation films."""
    label, logits = (np.asarray(a, dtype=np.float64) for a in validation[:2])
    if label.shape != logits.shape:
        raise UserError(f"scoring: validation labels {label.shape} and logits {logits.shape}; expected one shape")
    if len(validation) > 2:
        return label, np.asarray(validation[2], dtype=np.float64)
    return label, special.softmax(logits, axis=1) if kind == "softmax" else special.expit(logits)


def disease(label: np.ndarray, probability: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """(label, score) of disease: of not Normal, or of the second of two classes; None where neither is to be had."""
    for c, name in enumerate(classes):
        if name.lower() in NORMAL:
            return 1 - label[:, c], 1 - probability[:, c]
    return (label[:, 1], probability[:, 1]) if len(classes) == 2 else None


def set_aside(
    sick: tuple[np.ndarray, np.ndarray], patients: np.ndarray, chosen: float | None, draws: int, seed: int
) -> tuple[Results, list[str]]:
    """Entries of the films set aside at 99 % sensitivity, and where the threshold is from."""
    found = triage.triage(*sick, patients, chosen=chosen, draws=draws, seed=seed)
    n = len(patients)
    by = "these films themselves, which flatters them" if found.own else "the validation films"
    return {
        "triage_share": entries.entry(*found.share, n=n, unit="fraction"),
        "triage_sensitivity": entries.entry(*found.sensitivity, n=int(np.nansum(sick[0])), unit="fraction"),
    }, [f"The triage threshold, for a sensitivity of 99 %, was chosen on {by}."]


def cuts(
    label: np.ndarray, probability: np.ndarray, patients: np.ndarray, validation: Validation | None, seed: int
) -> tuple[np.ndarray, list[str]]:
    """(n, k) thresholds of the greatest F1, chosen on other films than they are used on; 0.5 where none can be."""
    if validation is not None:
        others, stated = validated(validation, "sigmoid")
        best = [thresholds.best_f1_threshold(others[:, c], stated[:, c]) for c in range(label.shape[1])]
        cut = np.broadcast_to(np.array(best)[None], label.shape)
        note = "Thresholds of the greatest F1 were chosen on the validation films."
    else:
        cut = folded(label, probability, patients, seed, thresholds.best_f1_threshold)
        note = f"The threshold of the greatest F1 was chosen for each film on those of other patients ({FOLDS} folds)."
    return np.where(np.isnan(cut), 0.5, cut), [note]


def folded(
    label: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    seed: int,
    choose: Callable[[np.ndarray, np.ndarray], float],
) -> np.ndarray:
    """(n, k) thresholds, each film's chosen on the films of other patients, in five folds; NaN where none can be.

    Args:
      label, probability: (n, k).
      patients: (n,).
      seed: of the folds.
      choose: labels (m,), scores (m,) -> threshold.
    """
    names, patient = np.unique(patients, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[patient] % FOLDS
    cut = np.full(label.shape, np.nan)
    for f in range(FOLDS):
        rest = fold != f
        for c in range(label.shape[1]):
            cut[~rest, c] = choose(label[rest, c], probability[rest, c])
    return cut
