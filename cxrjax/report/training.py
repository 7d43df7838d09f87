"""Training curves: each phase's loss and evaluations, the members of one system in one panel; both sides of a GAN."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cxrjax.report.draw.style import FLOOR_LOOK, STYLE, SYSTEM_COLORS, cut, legend, smooth, thinned
from cxrjax.report.read.classification import system_of
from cxrjax.report.read.workdir import Run, is_number

_COLORS = STYLE["axes.prop_cycle"].by_key()["color"]
_MOST_LOGGED = 1000  # points of a training curve that are drawn
_GENERATOR, _DISCRIMINATORS = "#d55e00", ("#1a4f8b", "#009e73", "#56b4e9", "#b0568c")
_SIDES = re.compile(r"loss_(?:g|d(\d*))")
# Measures of an evaluation that have a line a class, and a figure of their own: of samples, and of films.
_ALIKE = ("ms_ssim/", "ms_ssim_films/")
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
    grid = figure.subplots(len(groups), 2, squeeze=False, sharex="row")
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
            if key not in ("phase", "step", "eval") and not key.startswith(_ALIKE) and is_number(value):
                yield f"{row['eval']} {key}", value


def adversarial(run: Run) -> Figure | None:
    """A row a GAN: the losses of the generator and of each discriminator, and how alike its samples are by class."""
    phases: dict[str, Rows] = {}
    for row in run.metrics:
        if "phase" in row and "step" in row:
            phases.setdefault(str(row["phase"]), []).append(row)
    gans = {phase: rows for phase, rows in phases.items() if any(_is_gan(row) for row in rows)}
    if not gans:
        return None
    evaluated = any(key.startswith(_ALIKE) for rows in gans.values() for row in rows for key in row)
    figure = Figure(figsize=(11.5 if evaluated else 6.5, 3.3 * len(gans)))
    grid = figure.subplots(len(gans), 1 + evaluated, squeeze=False)
    for (phase, rows), axes in zip(gans.items(), grid, strict=True):
        _sides(axes[0], rows)
        axes[0].set_title(f"{phase}: losses")
        if evaluated:
            _alike(axes[1], rows)
            axes[1].set_title(f"{phase}: MS-SSIM by class (dashed: of real films)")
    return figure


def _is_gan(row: dict[str, Any]) -> bool:
    return "eval" not in row and is_number(row.get("loss_g"))


def _sides(axes: Axes, rows: Rows) -> None:
    """Every loss as logged, and over all of them their running means."""
    matches = [match for match in map(_SIDES.fullmatch, {key for row in rows for key in row}) if match]
    matches.sort(key=lambda match: -1 if match[1] is None else int(match[1] or 0))
    logged = []
    for place, match in enumerate(matches):
        points = [(row["step"], row[match[0]]) for row in rows if "eval" not in row and is_number(row.get(match[0]))]
        if not points:
            continue
        step, loss = np.array(points, float).T
        generator = match[1] is None
        name = "generator" if generator else "discriminator" + (f", {match[1]} pixels" if match[1] else "")
        color = _GENERATOR if generator else _DISCRIMINATORS[(place - 1) % len(_DISCRIMINATORS)]
        axes.plot(*thinned(step, loss, _MOST_LOGGED), color=color, linewidth=0.6, alpha=0.28)
        mean = smooth(loss, max(1, len(loss) // 15))
        axes.plot(*thinned(step, mean, _MOST_LOGGED), color=color, label=name, zorder=3)
        logged.append(loss)
    every = np.concatenate(logged)
    if every.min() > 0 and every.max() > 30 * np.median(every):
        axes.set_yscale("log")
    axes.set(xlabel="batch", ylabel="loss")
    legend(axes)


def _alike(axes: Axes, rows: Rows) -> None:
    """A color a class: its samples solid, its films dashed."""
    names = list(dict.fromkeys(key[len(p) :] for row in rows for key in row for p in _ALIKE if key.startswith(p)))
    colored = [name for name in names if name != "Normal"]
    colors = {name: SYSTEM_COLORS[i % len(SYSTEM_COLORS)] for i, name in enumerate(colored)}
    for name in names:
        for prefix, style in zip(_ALIKE, ("-", "--"), strict=True):
            points = [(row["step"], row[prefix + name]) for row in rows if is_number(row.get(prefix + name))]
            if points:
                look: Any = {"marker": "o", "markersize": 3} if style == "-" else {"linewidth": 1.0}
                axes.plot(*zip(*points, strict=True), style, color=colors.get(name, FLOOR_LOOK[0]), **look)
    lines = [Line2D([], [], color=colors.get(name, FLOOR_LOOK[0]), label=cut(name, 18)) for name in names]
    axes.legend(handles=lines, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set(xlabel="batch", ylabel="MS-SSIM")
    if not names:
        axes.set_visible(False)
