"""Every figure of a classifier on held-out films, each with its 95 % interval, as nested dicts of entries.

Intervals resample patients 1,000 times; all figures of a model, and the two models of a difference, meet the same
resamples. Shares of films are Wilson's where no patient has two. An interval of no width claims what no sample can
promise (every film right, say) and is left out. The calibration error's interval is the pivotal one, because chance
alone raises that error in every resample (Efron & Tibshirani 1993, section 13.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from cxrjax.metrics import bootstrap, calibration, classification, entries, operating, thresholds, triage, weighted
from cxrjax.metrics.entries import Name, Results
from cxrjax.metrics.operating import Validation

DRAWS = 1000


def exclusive(
    label: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    classes: Sequence[str],
    *,
    validation: Validation | None = None,
    logits: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Results:
    """Figures of a model of exclusive classes.

    Args:
      label: (n, k) one-hot; a film with an unknown takes no part.
      probability: (n, k), summing to 1.
      patients: (n,) names; films of one patient are resampled together.
      classes: k names. The AUROC of two is the second's; of more it is the mean of one against the rest.
      validation: (label, logits) or (label, logits, probability) of the validation films, each (m, k): they choose the
        triage threshold and, with `logits`, the temperature.
      logits: (n, k).
      draws: resamples of the patients.
      seed: of the resampling.

    Returns:
      Entries `accuracy`, `balanced_accuracy`, `macro_precision`, `macro_recall`, `macro_f1`, `auroc`,
      `average_precision`, `brier` (mean over classes), `ece`, and `auroc_delong` of two classes where each patient has
      one film; with validation and logits `temperature`, `ece_after_temperature`, `brier_after_temperature`. Where a
      class is called Normal, or there are two: `sensitivity_at_95_specificity`, `triage_share`, `triage_sensitivity`
      of disease (not Normal, or the second class). `per_class` {class: entries}, `confusion` (rows the truth),
      `reliability` (rows of a table), `notes` (sentences).

    Raises:
      UserError: shapes differ, or a known row is not one-hot.
    """
    label, probability, patients, logits = entries.rows(label, probability, patients, classes, logits, whole=True)
    truth, predicted, k = label.argmax(axis=1), probability.argmax(axis=1), len(classes)
    sick = operating.disease(label, probability, classes)
    parts = {"ece": calibration.ece_parts(*calibration.confidence(label, probability))}
    squares = {"brier": ((probability - label) ** 2).mean(axis=1)}
    t = operating.temperature(validation, logits, "softmax")
    if logits is not None and t is not None:
        cooled = special.softmax(logits / t, axis=1)
        parts["ece_after_temperature"] = calibration.ece_parts(*calibration.confidence(label, cooled))
        squares["brier_after_temperature"] = ((cooled - label) ** 2).mean(axis=1)

    def figures(weights: np.ndarray) -> dict[Name, np.ndarray]:
        found = thresholds.from_confusion(weighted.confusion(truth, predicted, k, weights))
        each, mean = thresholds.scores(found), thresholds.macro(found)
        out: dict[Name, np.ndarray] = {
            ("accuracy",): weighted.mean(truth == predicted, weights),
            ("balanced_accuracy",): mean.recall,
            ("macro_precision",): mean.precision,
            ("macro_recall",): mean.recall,
            ("macro_f1",): mean.f1,
        }
        ranked = entries.ranked(label, probability, weights)
        for measure, values in ranked.items():
            out[(measure,)] = values[:, 1] if k == 2 else thresholds.mean_defined(values)
        out |= {(name,): weighted.mean(value, weights) for name, value in squares.items()}
        out |= {(name,): calibration.ece_of(*part, weights) for name, part in parts.items()}
        if sick is not None:
            curve = weighted.curve(*sick, weights)
            out[("sensitivity_at_95_specificity",)] = weighted.sensitivity_at_specificity(curve)
        for measure, values in (ranked | each._asdict()).items():
            out |= {("per_class", name, measure): values[:, c] for c, name in enumerate(classes)}
        return out

    out = entries.nested(figures, patients, draws, seed)
    alone = not entries.repeated(patients)
    if alone:
        right = bootstrap.wilson(int((truth == predicted).sum()), len(truth))
        out["accuracy"] = entries.entry(*right, n=len(truth), unit="fraction")
    notes = []
    for c, name in enumerate(classes):
        out["per_class"][name]["n_positive"] = entries.plain(label[:, c].sum(), len(label), "films")
        if alone:
            out["per_class"][name]["auroc_delong"] = entries.delong(label[:, c], probability[:, c])
    if alone and k == 2:
        out["auroc_delong"] = entries.delong(label[:, 1], probability[:, 1])
    missing = [name for c, name in enumerate(classes) if not 0 < label[:, c].sum() < len(label)]
    if missing:
        notes.append(f"Left out of means, for want of films with or without it: {', '.join(missing)}.")
    if t is not None:
        out["temperature"] = entries.plain(t, len(label), "1")
    if sick is not None:
        held = None if validation is None else operating.disease(*operating.validated(validation, "softmax"), classes)
        at = float("nan") if held is None else triage.threshold(*held)
        found, said = operating.set_aside(sick, patients, None if np.isnan(at) else at, draws, seed)
        out, notes = out | found, notes + said
    out["confusion"] = classification.confusion(truth, predicted, k).tolist()
    out["reliability"] = entries.reliability(*calibration.confidence(label, probability))
    return out | {"notes": notes}


def multilabel(
    label: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    classes: Sequence[str],
    *,
    validation: Validation | None = None,
    logits: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Results:
    """Figures of a model of findings, each present or not.

    Args:
      label: (n, k) 1, 0 or NaN; an unknown takes no part in its finding.
      probability: (n, k) in [0, 1].
      patients: (n,) names; films of one patient are resampled together.
      classes: k names.
      validation: (label, logits) or (label, logits, probability) of the validation films, each (m, k): they choose
        the thresholds of the greatest F1 and, with `logits`, the temperature. Without them the threshold of a film is
        chosen on the films of other patients, in five folds.
      logits: (n, k).
      draws: resamples of the patients.
      seed: of the resampling and the folds.

    Returns:
      Entries `auroc`, `average_precision`, `sensitivity_at_95_specificity`, `f1_at_half` and `f1` (means over the
      findings that have films with and without), `macro_precision`, `macro_recall`, `micro_precision`,
      `micro_recall`, `micro_f1` (at the thresholds of `f1`), `brier`, `ece`; with validation and logits `temperature`,
      `ece_after_temperature`, `brier_after_temperature`. `per_class` {class: entries}, where `auroc_delong` is there if
      each patient has one film; `left_out` (the findings of one class), `reliability`, `notes`.

    Raises:
      UserError: shapes differ.

    Source: mean AUROC and F1, Rajpurkar et al. 2017; thresholds of the greatest F1, Lipton et al. 2014.
    """
    label, probability, patients, logits = entries.rows(label, probability, patients, classes, logits, whole=False)
    known = ~np.isnan(label)
    kept = np.array([{0.0, 1.0} <= set(label[known[:, c], c]) for c in range(len(classes))], dtype=bool)
    names = [name for name, there in zip(classes, kept, strict=True) if there]
    cut, notes = operating.cuts(label, probability, patients, validation, seed)
    if not kept.all():
        lost = ", ".join(name for name, there in zip(classes, kept, strict=True) if not there)
        notes.append(f"Left out of means, for want of films with or without it: {lost}.")
    scored, called = label[:, kept], (probability >= cut)[:, kept]
    half = probability[:, kept] >= 0.5

    def squares(stated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(known, (stated - label) ** 2, 0.0).sum(axis=1), known.sum(axis=1)

    parts, errors = {"ece": calibration.ece_parts(probability, label)}, {"brier": squares(probability)}
    t = operating.temperature(validation, logits, "sigmoid")
    if logits is not None and t is not None:
        cooled = special.expit(logits / t)
        parts["ece_after_temperature"] = calibration.ece_parts(cooled, label)
        errors["brier_after_temperature"] = squares(cooled)

    def figures(weights: np.ndarray) -> dict[Name, np.ndarray]:
        ranked = entries.ranked(scored, probability[:, kept], weights, sensitivity=True)
        at, at_half = thresholds.counts(scored, called, weights), thresholds.counts(scored, half, weights)
        each, mean, pooled = thresholds.scores(at), thresholds.macro(at), thresholds.micro(at)
        by_class = ranked | {"f1_at_half": thresholds.scores(at_half).f1} | each._asdict()
        out: dict[Name, np.ndarray] = {
            (measure,): thresholds.mean_defined(by_class[measure]) for measure in (*ranked, "f1_at_half", "f1")
        }
        out |= {("macro_precision",): mean.precision, ("macro_recall",): mean.recall}
        out |= {(f"micro_{measure}",): values for measure, values in pooled._asdict().items()}
        out |= {(name,): weighted.mean(total, weights, count) for name, (total, count) in errors.items()}
        out |= {(name,): calibration.ece_of(*part, weights) for name, part in parts.items()}
        for measure, values in by_class.items():
            out |= {("per_class", name, measure): values[:, c] for c, name in enumerate(names)}
        return out

    counts = {name: int(known[:, c].sum()) for c, name in enumerate(classes)}
    out = entries.nested(figures, patients, draws, seed, counts)
    per_class = out.pop("per_class", {})
    out["per_class"] = {name: per_class.get(name, {}) for name in classes}
    for c, name in enumerate(classes):
        out["per_class"][name]["positives"] = entries.plain((label[:, c] == 1).sum(), counts[name], "films")
        if kept[c] and not entries.repeated(patients):
            out["per_class"][name]["auroc_delong"] = entries.delong(label[:, c], probability[:, c])
    if t is not None:
        out["temperature"] = entries.plain(t, len(label), "1")
    out["left_out"] = [name for name, there in zip(classes, kept, strict=True) if not there]
    out["reliability"] = entries.reliability(probability, label)
    return out | {"notes": notes}


def difference(
    label: np.ndarray,
    ours: np.ndarray,
    other: np.ndarray,
    patients: np.ndarray,
    *,
    exclusive: bool,
    draws: int = DRAWS,
    seed: int = 0,
) -> Results:
    """Ours less the other's on the same films, with the interval of the paired patient bootstrap.

    Args:
      label: (n, k) 1, 0 or NaN.
      ours: (n, k) probabilities.
      other: (n, k) probabilities of the same films.
      patients: (n,) names.
      exclusive: whether each film has one class.
      draws: resamples of the patients.
      seed: of the resampling.

    Returns:
      Entries `auroc`, the mean AUROC over findings, or as `exclusive` defines it, and for exclusive classes `accuracy`.

    Raises:
      UserError: shapes differ.
    """
    names = [str(c) for c in range(np.shape(label)[-1])]
    known, ours, groups, other_rows = entries.rows(label, ours, patients, names, other, whole=exclusive)
    assert other_rows is not None

    def figures(weights: np.ndarray) -> dict[Name, np.ndarray]:
        out = {}
        for sign, scores in ((1, ours), (-1, other_rows)):
            columns = [1] if exclusive and known.shape[1] == 2 else range(known.shape[1])
            areas = [weighted.auroc(weighted.curve(known[:, c], scores[:, c], weights)) for c in columns]
            out[sign, "auroc"] = thresholds.mean_defined(np.stack(areas, axis=1))
            right = known.argmax(axis=1) == scores.argmax(axis=1) if exclusive else np.zeros(len(known))
            out[sign, "accuracy"] = weighted.mean(right, weights)
        measures = ("auroc", "accuracy") if exclusive else ("auroc",)
        return {(measure,): out[1, measure] - out[-1, measure] for measure in measures}

    return entries.nested(figures, groups, draws, seed, signed=True)
