"""Many runs in one figure: the surface of a grid search, effects over seeds, and the tangent kernel against width."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import stats

from cxrjax.report.draw.style import SYSTEM_COLORS, across, cut, legend, log_scale, panels, thinned
from cxrjax.report.read.classification import Classification
from cxrjax.report.read.workdir import is_number

_BEST = 6  # cells whose curves are drawn
Cells = dict[tuple[str, str, float], dict[str, Any]]


def _measure(rows: list[dict[str, Any]]) -> str:
    """What the surface shows: AUROC where the search measured it, else accuracy."""
    return "auroc" if any(is_number(row.get("auroc")) for row in rows) else "accuracy"


def _cells(rows: list[dict[str, Any]]) -> Cells:
    """The last word on every (depth, optimizer and momentum, learning rate): the row of its highest rung."""
    cells: Cells = {}
    for row in sorted((row for row in rows if is_number(row.get("lr"))), key=lambda row: row.get("rung") or 0):
        momentum = row.get("momentum")
        name = f"{row.get('optimizer', '')} {momentum:g}" if is_number(momentum) else str(row.get("optimizer", ""))
        cells[str(row.get("depth", "")), name, float(row["lr"])] = row
    return cells


def _diverged(row: dict[str, Any], measure: str) -> bool:
    return bool(row.get("diverged")) or not is_number(row.get(measure))


def grid(run: Classification) -> Figure | None:
    """Learning rate by optimizer and momentum, a panel a depth; hatched where the training diverged."""
    cells = _cells(run.grid)
    if not cells:
        return None
    measure = _measure(run.grid)
    depths, sides = list(dict.fromkeys(key[0] for key in cells)), list(dict.fromkeys(key[1] for key in cells))
    rates = sorted({key[2] for key in cells})
    values = [row[measure] for row in cells.values() if not _diverged(row, measure)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    most = max(1, int(11.8 // (0.62 * len(rates) + 1.6)))
    columns = across(len(depths), most)
    figure, every = panels(len(depths), most, 0.62 * len(rates) + 1.6, 0.36 * len(sides) + 1.1)
    steps = {row.get("steps") for row in cells.values() if not _diverged(row, measure)}
    for i, (depth, axes) in enumerate(zip(depths, every, strict=True)):
        for (d, side, rate), row in cells.items():
            if d == depth:
                _cell(axes, rates.index(rate), sides.index(side), row, measure, (low, high), len(steps) > 1)
        axes.set(xlim=(-0.5, len(rates) - 0.5), ylim=(len(sides) - 0.5, -0.5))
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], fontsize=8)
        axes.set_yticks(range(len(sides)), sides if i % columns == 0 else [""] * len(sides), fontsize=8)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("learning rate")
        axes.set_title(f"{depth}: {'AUROC' if measure == 'auroc' else measure}".removeprefix(": "))
    return figure


def _cell(
    axes: Axes, x: int, y: int, row: dict[str, Any], measure: str, span: tuple[float, float], stepped: bool
) -> None:
    corner = (x - 0.48, y - 0.47)
    if _diverged(row, measure):
        axes.add_patch(
            Rectangle(corner, 0.96, 0.94, facecolor="#f1f3f4", edgecolor="#c5221f", hatch="////", linewidth=0)
        )
        return
    level = (row[measure] - span[0]) / (span[1] - span[0])
    color = colormaps["viridis"](0.12 + 0.88 * level)
    axes.add_patch(Rectangle(corner, 0.96, 0.94, facecolor=color, linewidth=0))
    text = f"{row[measure]:.3f}".replace("0.", ".", 1)
    if stepped and row.get("steps") is not None:
        text += f"\n{row['steps']:g} steps"
    axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if level < 0.55 else "#202124",
              linespacing=0.95)  # fmt: skip


def grid_curves(run: Classification) -> Figure | None:
    """The epoch axis: what the best cells of the search reached at each step."""
    measure = _measure(run.grid)
    rows = [(key, row) for key, row in _cells(run.grid).items() if not _diverged(row, measure)]
    rows = [(key, row) for key, row in rows if any(_points(row))]
    if not rows:
        return None
    rows.sort(key=lambda pair: -pair[1][measure])
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.subplots()
    for (depth, side, rate), row in rows[:_BEST]:
        steps, values = (np.array(axis, float) for axis in zip(*_points(row), strict=True))
        name = ", ".join(part for part in (depth, side, f"lr {rate:g}") if part)
        axes.plot(*thinned(steps, values), "-o", markersize=3, linewidth=1.3, label=name)
    axes.set(xlabel="step", ylabel="accuracy" if any(is_number(row.get("accuracy")) for _, row in rows) else "AUROC")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _points(row: dict[str, Any]) -> list[tuple[float, float]]:
    curve = row.get("curve") or []
    return [(point[0], point[1]) for point in curve if len(point) == 2 and all(map(is_number, point))]


def ntk(run: Classification) -> Figure | None:
    """What the tangent kernel does as the network widens, each on two logarithmic axes."""
    tree = run.results.get("ntk")
    if not isinstance(tree, dict) or not tree.get("width"):
        return None
    titles = {
        "change": "change of the kernel in training",
        "arc_cosine_error": "distance to the infinite-width kernel",
        "smallest_eigenvalue": "smallest eigenvalue",
        "condition": "condition number",
    }
    drawn = {}
    for name in titles:
        pairs = zip(tree["width"], tree.get(name) or [], strict=False)
        points = np.array([(w, v) for w, v in pairs if is_number(w) and is_number(v) and w > 0 and v > 0], float)
        if len(points):
            drawn[name] = points
    if not drawn:
        return None
    figure, every = panels(len(drawn), 2, 4.0, 2.7)
    for (name, pair), axes in zip(drawn.items(), every, strict=True):
        x, y = pair.T
        axes.plot(x, y, "-o", color=SYSTEM_COLORS[0], label="measured")
        if name in ("change", "arc_cosine_error"):
            axes.plot(x, y[0] * (x / x[0]) ** -0.5, ":", color="#9aa0a6", label="width$^{-1/2}$")
        axes.set_title(titles[name])
        axes.set_xlabel("width")
        log_scale(axes, "x", at=x)
        log_scale(axes, "y")
        axes.tick_params(labelsize=8)
        if len(axes.lines) > 1:
            legend(axes)
    return figure


def seeds(run: Classification) -> Figure | None:
    """Every seed's figure by arm, with the arm's mean and its 95 % t interval over seeds."""
    tree = run.results.get("seeds")
    found = {str(name): one for name, one in tree.items() if _groups(one)} if isinstance(tree, dict) else {}
    if not found:
        return None
    most = max(len(_groups(one)) for one in found.values())
    figure, every = panels(len(found), 2, 5.2, 0.36 * most + 1.2)
    for (name, one), axes in zip(found.items(), every, strict=True):
        groups = _groups(one)
        for place, values in enumerate(groups.values()):
            color = SYSTEM_COLORS[place % len(SYSTEM_COLORS)]
            jitter = place - 0.16 + 0.06 * (np.arange(len(values)) % 3 - 1)
            axes.plot(values, jitter, "o", color=color, markersize=4, alpha=0.65, markeredgewidth=0)
            mean = float(np.mean(values))
            if len(values) > 1:
                half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
                axes.plot([mean - half, mean + half], [place + 0.14] * 2, color=color, linewidth=1.6)
            axes.plot([mean], [place + 0.14], "D", color=color, markersize=6.5, markeredgecolor="white")
        axes.set_yticks(range(len(groups)), [cut(arm.replace("_", " "), 34) for arm in groups])
        axes.set_ylim(len(groups) - 0.45, -0.55)
        axes.grid(False, axis="y")
        axes.set_xlabel(str(one.get("metric", "")))
        axes.set_title(name.replace("_", " "))
    return figure


def _groups(one: Any) -> dict[str, list[float]]:
    groups = one.get("groups") if isinstance(one, dict) else None
    if not isinstance(groups, dict):
        return {}
    kept = {str(arm): [float(v) for v in values if is_number(v)] for arm, values in groups.items()}
    return {arm: values for arm, values in kept.items() if values}
