"""The figures of a run, each a pure function `Run -> Figure`, or None where the run lacks what it draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrjax.report.read import Leaf, Run, is_number
from cxrjax.report.strips import choose_films
from cxrjax.report.synthetic import MARKS

# Okabe & Ito (2008), readable with every common color blindness; the baseline is gray.
COLORS = {
    "uniform": "#6b7280",
    "noise_matrix": "#0072b2",
    "time_gated": "#009e73",
    "time_gated_hard": "#d55e00",
    "mask_blend": "#b0568c",
}
_SPARE_COLORS = ("#8c6d1f", "#56b4e9", "#7a3fb0", "#3d3d3d")
JUDGE_TITLES = {"independent": "independent judge", "cam_network": "CAM network"}
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.labelcolor": "#3c4043",
    "axes.grid": True,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#5f6368",
    "ytick.color": "#5f6368",
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=["#d55e00", "#0072b2", "#009e73", "#b0568c", "#8c6d1f", "#56b4e9"]),
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "figure.constrained_layout.use": True,
}
LAMBDA_LABEL = "λ (diffusion steps of noise)"


def color_of(mode: str, modes: list[str]) -> str:
    """The color of a mode, the same in every figure and on the page."""
    strangers = [name for name in modes if name not in COLORS]
    return COLORS.get(mode) or _SPARE_COLORS[strangers.index(mode) % len(_SPARE_COLORS)]


def _band(axes: Axes, x: list[float], leaves: list[Leaf], color: str, label: str, dashed: bool = False) -> None:
    """A line through values, with a band where both ends of the interval are known."""
    low = [leaf.low if is_number(leaf.low) and is_number(leaf.high) else np.nan for leaf in leaves]
    high = [leaf.high if is_number(leaf.low) and is_number(leaf.high) else np.nan for leaf in leaves]
    axes.fill_between(x, np.array(low, float), np.array(high, float), color=color, alpha=0.14, linewidth=0)
    axes.plot(x, [leaf.value for leaf in leaves], "--o" if dashed else "-o", color=color, label=label)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """A centered running mean that narrows at both ends, so that it neither lags nor invents values."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), width // 2)
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)


def losses(run: Run) -> Figure | None:
    """Training loss of each phase against the step, and what its evaluations measured."""
    phases = list(dict.fromkeys(str(row["phase"]) for row in run.metrics if "phase" in row))
    rows = {phase: [row for row in run.metrics if row.get("phase") == phase and "step" in row] for phase in phases}
    rows = {phase: some for phase, some in rows.items() if some}
    if not rows:
        return None
    figure = Figure(figsize=(8.4, 2.5 * len(rows)))
    grid = figure.subplots(len(rows), 2, squeeze=False)
    for (phase, some), (left, right) in zip(rows.items(), grid, strict=True):
        train = [row for row in some if "eval" not in row and is_number(row.get("loss"))]
        if train:
            step = np.array([row["step"] for row in train])
            loss = np.array([row["loss"] for row in train], float)
            left.plot(step, loss, color="#9db7d5", linewidth=0.8)
            left.plot(step, _smooth(loss, max(1, len(loss) // 15)), color="#1a4f8b", label="training")
            if loss.min() > 0 and loss.max() > 30 * loss.min():
                left.set_yscale("log")
        evaluated: dict[str, list[tuple[int, float]]] = {}
        for row in some:
            for key, value in row.items():
                if "eval" in row and key not in ("phase", "step", "eval") and is_number(value):
                    evaluated.setdefault(f"{row['eval']} {key}", []).append((row["step"], value))
        for name, points in evaluated.items():
            axes = left if name.endswith("loss") else right
            axes.plot(*zip(*points, strict=True), "-o", markersize=3, label=name)
        left.set_title(f"{phase}: loss")
        right.set_title(f"{phase}: evaluations")
        for axes in (left, right):
            axes.set_xlabel("step")
            _legend(axes)
        if not right.lines:
            right.set_visible(False)
    return figure


def rate(run: Run) -> Figure | None:
    """The share of diseased films that a judge calls normal, against lambda, a panel for each judge."""
    judges = [j for j in run.judges() if any(run.curve("progress", m, "normal_rate", j) for m in run.modes())]
    if not judges:
        return None
    figure = Figure(figsize=(4.6 * len(judges), 3.5))
    panels = figure.subplots(1, len(judges), squeeze=False, sharey=True)[0]
    for judge, axes in zip(judges, panels, strict=True):
        untreated = run.leaf("progress", "untreated", "normal_rate", judge)
        if untreated is not None and is_number(untreated.value):
            axes.axhline(untreated.value, color="#202124", linewidth=1, linestyle=":", label="untreated")
        for mode in run.modes():
            points = run.curve("progress", mode, "normal_rate", judge)
            if points:
                x, leaves = [float(p[0]) for p in points], [p[1] for p in points]
                _band(axes, x, leaves, color_of(mode, run.modes()), mode)
        axes.set_title(JUDGE_TITLES.get(judge, judge) + (" (guided the treatment)" if judge == "cam_network" else ""))
        axes.set_xlabel(LAMBDA_LABEL)
        axes.set_ylim(-0.02, 1.02)
    panels[0].set_ylabel("diseased films called normal")
    _legend(panels[0])
    return figure


def control(run: Run) -> Figure | None:
    """What the treatment does to healthy films: it should keep them normal and change them little."""
    judges = [j for j in run.judges() if any(run.curve("control", m, "normal_rate", j) for m in run.modes())]
    measures = [("normal_rate", judge) for judge in judges]
    if any(run.curve("control", mode, "change") for mode in run.modes()):
        measures.append(("change", ""))
    if not measures:
        return None
    figure = Figure(figsize=(4.2 * max(2, len(measures)), 3.1))
    panels = figure.subplots(1, max(2, len(measures)), squeeze=False)[0]
    for axes in panels[len(measures) :]:
        axes.set_visible(False)
    for (measure, judge), axes in zip(measures, panels, strict=False):
        for mode in run.modes():
            points = run.curve("control", mode, measure, judge) if judge else run.curve("control", mode, measure)
            if points:
                x, leaves = [float(p[0]) for p in points], [p[1] for p in points]
                _band(axes, x, leaves, color_of(mode, run.modes()), mode)
        axes.set_xlabel(LAMBDA_LABEL)
        if judge:
            axes.set_title(f"healthy films called normal: {JUDGE_TITLES.get(judge, judge)}")
            axes.set_ylim(-0.02, 1.02)
        else:
            axes.set_title("mean change of healthy films")
    _legend(panels[0])
    return figure


def _against_rate(run: Run, measures: list[tuple[str, str, str]], group: str) -> Figure | None:
    """Panels of `progress.mode.lambda.group.region` against the normal rate of the first judge at the same lambda."""
    judges = run.judges()
    measures = [m for m in measures if any(run.curve("progress", mode, m[0], m[1]) for mode in run.modes())]
    if not judges or not measures:
        return None
    figure = Figure(figsize=(4.4 * max(2, len(measures)), 3.4))
    panels = figure.subplots(1, max(2, len(measures)), squeeze=False)[0]
    for axes in panels[len(measures) :]:
        axes.set_visible(False)
    for (measure, region, title), axes in zip(measures, panels, strict=False):
        for mode in run.modes():
            rates = dict(run.curve("progress", mode, "normal_rate", judges[0]))
            points = [
                (rates[lam].value, leaf) for lam, leaf in run.curve("progress", mode, measure, region) if lam in rates
            ]
            if points:
                _band(axes, [p[0] for p in points], [p[1] for p in points], color_of(mode, run.modes()), mode)
        untreated = run.leaf("progress", "untreated", measure, region)
        start = run.leaf("progress", "untreated", "normal_rate", judges[0])
        if untreated is not None and start is not None and is_number(untreated.value) and is_number(start.value):
            axes.plot([start.value], [untreated.value], "k*", markersize=9, label="untreated")
        axes.set_title(title)
        axes.set_xlabel(f"called normal by the {JUDGE_TITLES.get(judges[0], judges[0])}")
        axes.set_xlim(-0.02, 1.02)
    panels[0].set_ylabel(group)
    _legend(panels[0])
    return figure


def tradeoff(run: Run) -> Figure | None:
    """What a higher normal rate costs in identity: change and similarity outside the CAM mask."""
    measures = [
        ("mae", "outside", "mean absolute change outside the mask (lower is better)"),
        ("ssim", "outside", "SSIM outside the mask (higher is better)"),
    ]
    return _against_rate(run, measures, "against the patient's own film")


def twin_error(run: Run) -> Figure | None:
    """On phantoms: the distance to the same patient's healthy film, inside and outside the true lesion."""
    measures = [
        ("twin_error", "inside", "inside the true lesion (lower is better)"),
        ("twin_error", "outside", "outside the true lesion (lower is better)"),
    ]
    return _against_rate(run, measures, "error against the healthy twin")


def cam(run: Run) -> Figure | None:
    """Films with their class activation maps, and the true lesion's outline where it is known."""
    films = run.films
    if films is None:
        return None
    chosen = choose_films(films, diseased=8, controls=2)
    figure = Figure(figsize=(1.5 * len(chosen), 3.3))
    grid = figure.subplots(2, len(chosen), squeeze=False)
    for column, index in enumerate(chosen):
        for axes in grid[:, column]:
            axes.imshow(films.image[index], cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
        grid[1, column].imshow(films.cam[index], cmap="inferno", vmin=0, vmax=1, alpha=0.55 * films.cam[index])
        if films.lesion is not None and films.lesion[index].any():
            grid[1, column].contour(films.lesion[index], levels=[0.5], colors="#7fffd4", linewidths=0.8)
        severity = films.severity[index]
        note = f"severity {severity:.2f}" if films.disease[index] and np.isfinite(severity) else ""
        grid[0, column].set_title(note or ("disease" if films.disease[index] else "healthy"), fontsize=8)
    return figure


def strips(run: Run) -> Figure | None:
    """Few films, one row for each film and mode, columns by rising lambda: the page's strips on paper."""
    films = run.films
    if films is None or not run.treated:
        return None
    lambdas = sorted({lam for by_lambda in run.treated.values() for lam in by_lambda})
    lambdas = [
        lambdas[i] for i in np.unique(np.linspace(0, len(lambdas) - 1, min(7, len(lambdas))).round().astype(int))
    ]
    chosen = choose_films(films, diseased=3, controls=1)
    rows = [(index, mode) for index in chosen for mode in run.treated]
    h, w = films.image.shape[1:]
    gap = max(1, w // 32)
    # One picture, since a hundred small axes take seconds to lay out; NaN is the paper between the films.
    tops = [i * (h + gap) + (i // len(run.treated)) * 4 * gap for i in range(len(rows))]
    mosaic = np.full((tops[-1] + h, (len(lambdas) + 1) * (w + gap) - gap), np.nan, np.float32)
    for top, (index, mode) in zip(tops, rows, strict=True):
        by_lambda = run.treated[mode]
        pictures = [films.image[index], *(by_lambda[lam].image[index] if lam in by_lambda else None for lam in lambdas)]
        for j, picture in enumerate(pictures):
            if picture is not None:
                mosaic[top : top + h, j * (w + gap) : j * (w + gap) + w] = picture
    scale, left, above = 1.1 / w, 1.2, 0.6  # inches: of a pixel, and of the margins
    size = (mosaic.shape[1] * scale + left + 0.1, mosaic.shape[0] * scale + above + 0.1)
    figure = Figure(figsize=size)
    figure.set_layout_engine("none")
    figure.text(
        0.1 / size[0], 1 - 0.22 / size[1], "Synthetic: generated by a model, not for diagnosis", color="#b3261e"
    )
    axes = figure.add_axes(
        (left / size[0], 0.1 / size[1], mosaic.shape[1] * scale / size[0], mosaic.shape[0] * scale / size[1])
    )
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    columns = ["original", *(f"λ = {lam}" for lam in lambdas)]
    axes.set_xticks([j * (w + gap) + w / 2 for j in range(len(columns))], columns)
    axes.set_yticks([top + h / 2 for top in tops], [mode for _, mode in rows])
    for label, (_, mode) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(color_of(mode, run.modes()))
    return figure


FIGURES: dict[str, Callable[[Run], Figure | None]] = {
    "rate": rate,
    "tradeoff": tradeoff,
    "twin_error": twin_error,
    "control": control,
    "losses": losses,
    "cam": cam,
    "strips": strips,
}
_HOLDS_GENERATED_FILMS = ("strips",)


def save_all(run: Run, folder: Path) -> dict[str, Path]:
    """Draws every figure that the run has data for to `folder/<name>.png`; returns the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with matplotlib.rc_context(_STYLE):
        for name, draw in FIGURES.items():
            path = folder / f"{name}.png"
            figure = draw(run)
            if figure is None:
                path.unlink(missing_ok=True)  # a stale figure of an earlier report must not outlive its data
                continue
            figure.savefig(
                path, dpi=100 if name == "strips" else 150, metadata=MARKS if name in _HOLDS_GENERATED_FILMS else None
            )
            written[name] = path
    return written
