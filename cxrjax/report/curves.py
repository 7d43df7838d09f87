"""Training curves: each phase's loss and evaluations, the members of one system in one panel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrjax.report.read import Run, is_number
from cxrjax.report.study import system_of
from cxrjax.report.style import STYLE, legend, smooth, thinned

_COLORS = STYLE["axes.prop_cycle"].by_key()["color"]
_MOST_LOGGED = 1000  # points of a training curve that are drawn
Rows = list[dict[str, Any]]


def losses(run: Run) -> Figure | None:
    """Training loss of each phase against the step, and what its evaluations measured."""
    phases = list(dict.fromkeys(str(row["phase"]) for row in run.metrics if "phase" in row))
    rows = {phase: [row for row in run.metrics if row.get("phase") == phase and "step" in row] for phase in phases}
    groups: dict[str, list[Rows]] = {}
    for phase, some in rows.items():
        if some:
            groups.setdefault(system_of(phase, set(rows)), []).append(some)
    if not groups:
        return None
    height = 2.5 if len(groups) <= 6 else 2.1
    figure = Figure(figsize=(8.4, height * len(groups)))
    grid = figure.subplots(len(groups), 2, squeeze=False)
    for (group, members), (left, right) in zip(groups.items(), grid, strict=True):
        _training(left, members)
        _evaluations(left, right, members)
        several = f", {len(members)} members" if len(members) > 1 else ""
        left.set_title(f"{group}{several}: loss{' (running means)' if several else ''}")
        right.set_title(f"{group}{several}: evaluations")
        for axes in (left, right):
            axes.set_xlabel("step")
            legend(axes)
        if not right.lines:
            right.set_visible(False)
    return figure


def _training(axes: Axes, members: list[Rows]) -> None:
    """The loss as logged beneath its running mean; of several members, the running means alone."""
    lowest, highest = np.inf, -np.inf
    for number, some in enumerate(members):
        train = [row for row in some if "eval" not in row and is_number(row.get("loss"))]
        if not train:
            continue
        step = np.array([row["step"] for row in train])
        loss = np.array([row["loss"] for row in train], float)
        mean = smooth(loss, max(1, len(loss) // 15))
        label = "training" if number == 0 else None
        if len(members) == 1:
            axes.plot(*thinned(step, loss, _MOST_LOGGED), color="#9db7d5", linewidth=0.8)
            axes.plot(*thinned(step, mean, _MOST_LOGGED), color="#1a4f8b", label=label)
        else:
            axes.plot(*thinned(step, mean, _MOST_LOGGED), color="#1a4f8b", linewidth=0.7, alpha=0.8, label=label)
        lowest, highest = min(lowest, loss.min()), max(highest, loss.max())
    if lowest > 0 and highest > 30 * lowest:
        axes.set_yscale("log")


def _evaluations(left: Axes, right: Axes, members: list[Rows]) -> None:
    """What was measured along the way: losses beside the training loss, the rest on the right; a color a measure."""
    seen: dict[tuple[Axes, str], str] = {}
    for some in members:
        evaluated: dict[str, list[tuple[int, float]]] = {}
        for row in some:
            for name, value in _measured(row):
                evaluated.setdefault(name, []).append((row["step"], value))
        for name, points in evaluated.items():
            axes = left if name.endswith("loss") else right
            first = (axes, name) not in seen
            color = seen.setdefault((axes, name), _COLORS[sum(a is axes for a, _ in seen) % len(_COLORS)])
            thin: Any = {"linewidth": 0.7, "alpha": 0.85} if len(members) > 1 else {"marker": "o", "markersize": 3}
            axes.plot(*zip(*points, strict=True), "-", color=color, label=name if first else None, **thin)


def _measured(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if "eval" in row:
        for key, value in row.items():
            if key not in ("phase", "step", "eval") and is_number(value):
                yield f"{row['eval']} {key}", value
