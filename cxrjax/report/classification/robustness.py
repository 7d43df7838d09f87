"""How classifiers hold on damaged films: a figure against strength, a column a kind of damage."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cxrjax.report.draw.style import legend_below, looks
from cxrjax.report.read.classification import Classification, titles
from cxrjax.report.read.workdir import is_number

WORDS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "accuracy_at_threshold": "accuracy at a threshold",
    "f1": "macro F1",
    "ece": "ECE",
}
_WHOLE = ("clean", "mean", "drop", "minus_logreg32")  # parts of a system that are no kind of damage
MEAN = "mean over kinds"


def robustness(run: Classification) -> Figure | None:
    """AUROC, accuracy or F1, and ECE (rows) under each kind of damage and over all (columns), 0 being no damage."""
    tree = run.results.get("robustness")
    if not isinstance(tree, dict) or not tree:
        return None
    given = titles(run.study)
    shown = {name: str(given.get(name, name)) for name in tree}
    look = looks(list(dict.fromkeys([*(system.name for system in run.systems), *shown.values()])))
    first = next(iter(tree.values()))
    kinds = [kind for kind in first if kind not in _WHOLE]
    measures = [measure for measure in WORDS if measure in first["clean"]]
    most = max(_strengths(first, kinds))
    figure = Figure(figsize=(1.18 * (len(kinds) + 1) + 0.7, 1.45 * len(measures) + 0.9))
    every = figure.subplots(len(measures), len(kinds) + 1, squeeze=False, sharex=True, sharey="row")
    for row, measure in zip(every, measures, strict=True):
        for axes, kind in zip(row, (*kinds, MEAN), strict=True):
            for name, found in tree.items():
                color, style = look[shown[name]]
                axes.plot(*_curve(found, kinds if kind == MEAN else [kind], measure), color=color, linestyle=style,
                          linewidth=1.3)  # fmt: skip
            axes.set_xticks(range(most + 1), [str(i) if i in (0, most) else "" for i in range(most + 1)])
            axes.tick_params(labelsize=7.5)
        row[0].set_ylabel(WORDS[measure])
    for axes, kind in zip(every[0], (*kinds, MEAN), strict=True):
        axes.set_title(kind, fontsize=9, fontweight="bold" if kind == MEAN else "normal")
    # Of one panel: a label of the whole figure would lie under the legend.
    every[-1][len(kinds) // 2].set_xlabel("strength of the damage", fontsize=9)
    legend_below(figure, {title: look[title] for title in shown.values()})
    return figure


def _strengths(found: dict[str, Any], kinds: list[str]) -> list[int]:
    """How many strengths each kind has."""
    return [len(found[kind]) - 1 for kind in kinds]


def _curve(found: dict[str, Any], kinds: list[str], measure: str) -> tuple[np.ndarray, np.ndarray]:
    """A figure at no damage and at every strength that all these kinds have, their mean."""
    steps = range(1, min(_strengths(found, kinds)) + 1)
    values = [found["clean"][measure]["value"]]
    values += [np.mean([_number(found[kind][str(i)][measure]["value"]) for kind in kinds]) for i in steps]
    return np.arange(len(values)), np.array([_number(value) for value in values])


def _number(value: Any) -> float:
    return float(value) if is_number(value) else float("nan")
