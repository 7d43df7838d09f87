"""How the systems of a study separate the classes, how far their probabilities hold, and what they confuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics as sk

from cxrjax.metrics import bootstrap, calibration
from cxrjax.report.draw.style import across, cut, legend_below, looks, panels, thinned
from cxrjax.report.read.classification import Classification, Member, System

MOST_PANELS = 16
_MOST_CONFUSED = 16  # classes beyond which a confusion matrix cannot be read
_MOST_LISTED = 5  # systems whose areas are written into a panel
_GRID = np.linspace(0.0, 1.0, 200)
MACRO = "macro average"
Curve = tuple[np.ndarray, np.ndarray, float]


def roc(run: Classification) -> Figure | None:
    """Sensitivity against the false positive rate, a panel a class and one of their mean."""
    return _by_class(run, _roc_curve, ("1 − specificity", "sensitivity"), chance=True)


def precision_recall(run: Classification) -> Figure | None:
    """Precision against recall, a panel a class and one of their mean; dotted, the share of films with the class."""
    return _by_class(run, _precision_curve, ("recall", "precision"), chance=False)


def _roc_curve(truth: np.ndarray, score: np.ndarray) -> Curve:
    false, true, _ = sk.roc_curve(truth, score)
    return false, true, float(sk.auc(false, true))


def _precision_curve(truth: np.ndarray, score: np.ndarray) -> Curve:
    precision, recall, _ = sk.precision_recall_curve(truth, score)
    return recall[::-1], precision[::-1], float(sk.average_precision_score(truth, score))


def _by_class(
    run: Classification, curve: Callable[[np.ndarray, np.ndarray], Curve], axis: tuple[str, str], chance: bool
) -> Figure | None:
    names = _panels(run.systems)
    if not names:
        return None
    look = looks([system.name for system in run.systems])
    columns = across(len(names), 4)
    wide = 2.6 if columns > 2 else 3.3
    figure, every = panels(len(names), 4, wide, wide + 0.1, extra=0.45)
    for name, axes in zip(names, every, strict=True):
        written: list[tuple[str, str]] = []
        for system in run.systems:
            curves = [_curve_of(member, system, name, curve) for member in system.members]
            found = [one for one in curves if one is not None]
            if not found:
                continue
            color, style = look[system.name]
            thin = 0.8 if len(found) > 1 else 1.5
            for x, y, _ in found:
                axes.plot(*thinned(x, y), color=color, linestyle=style, linewidth=thin, alpha=0.9)
            written.append((f"{np.mean([one[2] for one in found]):.3f}", color))
        if chance:
            axes.plot([0, 1], [0, 1], color="#bdc1c6", linewidth=0.8, linestyle=":")
        elif name != MACRO:
            share = _share(run.systems, name)
            axes.axhline(share, color="#9aa0a6", linewidth=0.8, linestyle=":")
        listed = len(written) <= _MOST_LISTED
        axes.set_title(cut(name.replace("_", " "), 28), pad=17 if listed else 6)
        for i, (text, color) in enumerate(written if listed else []):
            axes.text(0.2 * i, 1.03, text, color=color, fontsize=7.5, transform=axes.transAxes)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    for i, axes in enumerate(every):
        if i % columns == 0:
            axes.set_ylabel(axis[1])
        if i + columns >= len(every):
            axes.set_xlabel(axis[0])
    legend_below(figure, look)
    return figure


def _panels(systems: list[System]) -> list[str]:
    """The classes that can be drawn, the commonest where there are too many, and their mean where there are several."""
    count: dict[str, float] = {}
    for system in systems:
        label, _ = system.pooled()
        for j, name in enumerate(system.classes):
            known = label[:, j][np.isfinite(label[:, j])]
            if len(np.unique(known)) == 2:
                count[name] = max(count.get(name, 0.0), float(known.sum()))
    two = all(system.exclusive and len(system.classes) == 2 for system in systems)
    names = list(count)
    if two and len(names) == 2:  # the second class is the first one mirrored
        return names[1:]
    most = sorted(names, key=lambda name: -count[name])[: MOST_PANELS - 1]
    return ([MACRO] if len(names) > 2 else []) + [name for name in names if name in most]


def _curve_of(
    member: Member, system: System, name: str, curve: Callable[[np.ndarray, np.ndarray], Curve]
) -> Curve | None:
    if name == MACRO:
        every = [_class_curve(member, j, curve) for j in range(len(system.classes))]
        found = [one for one in every if one is not None]
        if not found:
            return None
        height = np.mean([np.interp(_GRID, *_rising(x, y)) for x, y, _ in found], axis=0)
        return _GRID, height, float(np.mean([one[2] for one in found]))
    return _class_curve(member, system.classes.index(name), curve) if name in system.classes else None


def _class_curve(member: Member, column: int, curve: Callable[[np.ndarray, np.ndarray], Curve]) -> Curve | None:
    known = np.isfinite(member.label[:, column])
    truth = member.label[known, column]
    return curve(truth, member.probability[known, column]) if len(np.unique(truth)) == 2 else None


def _rising(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve with the upper end of each vertical step, so that it can be read off at any x."""
    places, where = np.unique(x, return_inverse=True)
    height = np.full(len(places), -np.inf)
    np.maximum.at(height, where, y)
    return places, height


def _share(systems: list[System], name: str) -> float:
    system = next(system for system in systems if name in system.classes)
    label, _ = system.pooled()
    return float(np.nanmean(label[:, system.classes.index(name)]))


def reliability(run: Classification) -> Figure | None:
    """What came true against what was said, a panel a system, in the bins of the ECE with Wilson's intervals."""
    if not run.systems:
        return None
    look = looks([system.name for system in run.systems])
    figure, every = panels(len(run.systems), 4, 2.55, 2.6, sharex=True, sharey=True)
    columns = across(len(run.systems), 4)
    for i, (system, axes) in enumerate(zip(run.systems, every, strict=True)):
        said, true = _said(system)
        axes.plot([0, 1], [0, 1], color="#bdc1c6", linewidth=0.8, linestyle=":")
        rows = calibration.reliability(said, true)
        middle, width = [(row.low + row.high) / 2 for row in rows], [0.8 * (row.high - row.low) for row in rows]
        axes.bar(middle, [0.3 * row.count / len(said) for row in rows], width=width, color="#e3e6ea")
        color = look[system.name][0]
        axes.plot([row.confidence for row in rows], [row.accuracy for row in rows], color=color, linewidth=1)
        for row in rows:
            _, low, high = bootstrap.wilson(round(row.accuracy * row.count), row.count)
            axes.plot([row.confidence] * 2, [low, high], color=color, linewidth=0.9, alpha=0.6)
            axes.plot([row.confidence], [row.accuracy], "o", color=color, markersize=3.5)
        axes.set_title(cut(system.name, 30))
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        if i % columns == 0:
            axes.set_ylabel("observed share")
        if i + columns >= len(every):
            axes.set_xlabel("predicted probability")
            axes.tick_params(labelbottom=True)
    return figure


def _said(system: System) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities to judge and whether they came true.

    Of two exclusive classes the second's, of more the top one's (Guo et al. 2017), of findings that may go together
    every film's every known one.
    """
    label, probability = system.pooled()
    if system.exclusive and label.shape[1] == 2:
        return probability[:, 1], label[:, 1]
    if system.exclusive:
        top = probability.argmax(axis=1)
        return probability.max(axis=1), (label.argmax(axis=1) == top).astype(np.float64)
    known = np.isfinite(label)
    return probability[known], label[known]


def confusion(run: Classification) -> Figure | None:
    """True class by row, called class by column, a panel a system: counts, and the share of the row as the shade."""
    systems = [s for s in run.systems if s.exclusive and len(s.classes) <= _MOST_CONFUSED]
    if not systems:
        return None
    k = max(len(system.classes) for system in systems)
    side = max(2.2, 0.42 * k + 1.3)
    most = max(1, min(4, int(11.5 // side)))
    figure, every = panels(len(systems), most, side, side)
    columns = across(len(systems), most)
    for i, (system, axes) in enumerate(zip(systems, every, strict=True)):
        label, probability = system.pooled()
        called = probability.argmax(axis=1)
        size = range(len(system.classes))
        count = sk.confusion_matrix(label.argmax(axis=1), called, labels=size)
        share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*count.shape):
            ink = "white" if share[row, column] > 0.55 else "#202124"
            axes.text(column, row, f"{count[row, column]}", ha="center", va="center", color=ink, fontsize=8)
        names = [cut(name.replace("_", " "), 14) for name in system.classes]
        axes.set_xticks(size, names, rotation=40, ha="right", fontsize=7.5)
        axes.set_yticks(size, names if i % columns == 0 else [""] * len(names), fontsize=7.5)
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        pooled = f"\n{len(system.members)} seeds pooled" if len(system.members) > 1 else ""
        axes.set_title(f"{cut(system.name, 26)}{pooled}", fontsize=9)
    return figure
