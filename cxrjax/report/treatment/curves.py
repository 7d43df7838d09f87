"""The figures of a treatment run: what the treatment does, what it costs, and which films it was tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrjax.report.draw.canvas import Sheet
from cxrjax.report.draw.style import arm_look, band, color_of, is_wide, legend, legend_beside, log_scale, spread
from cxrjax.report.read.treatment import Films, Treatment
from cxrjax.report.read.workdir import Entry, is_number
from cxrjax.report.treatment import arms
from cxrjax.report.treatment.strips import choose_films

JUDGE_TITLES = {"independent": "independent judge", "cam_network": "CAM network"}
LAMBDA_LABEL = "λ (diffusion steps of noise)"
Points = list[tuple[float, Entry]]
_MOST_IN_A_LEGEND = 6  # that still fits into a panel
_WHOLE: dict[str, Any] = {"xlim": (-0.02, 1.02)}  # of a rate


@dataclass(frozen=True)
class Panel:
    """One panel of curves: the points of each arm, and what is drawn behind them."""

    title: str
    label: str
    points: Callable[[str], Points]
    behind: Callable[[Axes], None] = lambda axes: None
    limits: dict[str, Any] | None = None
    log_where_wide: bool = False


def curves(run: Treatment, panels: list[Panel], label: str, shared: bool = False) -> Figure | None:
    """A row of panels, one for each that an arm has points of; of many arms a row for each group of `arms.panels`.

    Columns share their axes, so that rows can be compared; `shared` shares the values along rows too.
    """
    found = [{mode: panel.points(mode) for mode in run.modes} for panel in panels]
    kept = [(panel, points) for panel, points in zip(panels, found, strict=True) if any(points.values())]
    if not kept:
        return None
    groups = arms.panels([mode for mode in run.modes if any(points[mode] for _, points in kept)])
    columns, many = max(2, len(kept)), len(groups) > 1 or len(groups[0]) > _MOST_IN_A_LEGEND
    width, height = (4.0, 2.75) if many else (4.4, 3.4)
    figure = Figure(figsize=(width * columns + 1.6 * many, height * len(groups) + 0.3))
    grid = figure.subplots(len(groups), columns, squeeze=False, sharex="col", sharey="all" if shared else "col")
    for axes in grid[:, len(kept) :].ravel():
        axes.set_visible(False)
    for group, row in zip(groups, grid, strict=True):
        for (panel, points), axes in zip(kept, row, strict=False):
            panel.behind(axes)
            for mode in group:
                if points[mode]:
                    x, entries = [p[0] for p in points[mode]], [p[1] for p in points[mode]]
                    band(axes, x, entries, arm_look(mode, run.modes), mode)
            axes.set(**(panel.limits or {}))
            if panel.log_where_wide and is_wide([entry for some in points.values() for _, entry in some]):
                log_scale(axes, "y")
        row[0].set_ylabel(label)
        if many:
            legend_beside(row[len(kept) - 1])
        else:
            legend(row[0])
    for (panel, _), axes in zip(kept, grid[0], strict=False):
        axes.set_title(panel.title)
    for (panel, _), axes in zip(kept, grid[-1], strict=False):
        axes.set_xlabel(panel.label)
    return figure


def _by_lambda(run: Treatment, group: str, *measure: str) -> Callable[[str], Points]:
    return lambda mode: [(float(lam), entry) for lam, entry in run.curve(group, mode, *measure)]


def _by_rate(run: Treatment, *measure: str) -> Callable[[str], Points]:
    """Points of a measure over the normal rate of the first judge at the same lambda."""

    def points(mode: str) -> Points:
        rates = dict(run.curve("progress", mode, "normal_rate", *run.judges[:1]))
        return [
            (float(rates[lam].value), entry) for lam, entry in run.curve("progress", mode, *measure) if lam in rates
        ]

    return points


def _level(entry: Entry | None, label: str, line: str = ":") -> Callable[[Axes], None]:
    """A horizontal line at a entry's value, where it has one."""

    def draw(axes: Axes) -> None:
        if entry is not None and is_number(entry.value):
            axes.axhline(entry.value, color="#202124", linewidth=1, linestyle=line, label=label)

    return draw


def _start(run: Treatment, *measure: str) -> Callable[[Axes], None]:
    """A star where the untreated films lie."""

    def draw(axes: Axes) -> None:
        untreated = run.entry("progress", "untreated", *measure)
        start = run.entry("progress", "untreated", "normal_rate", *run.judges[:1])
        if untreated is not None and start is not None and is_number(untreated.value) and is_number(start.value):
            axes.plot([start.value], [untreated.value], "k*", markersize=9, label="untreated")

    return draw


def _rate_label(run: Treatment) -> str:
    return "called normal by the " + "".join(JUDGE_TITLES.get(judge, judge) for judge in run.judges[:1])


def rate(run: Treatment) -> Figure | None:
    """The share of diseased films that a judge calls normal, against lambda, a panel for each judge."""
    panels = [
        Panel(
            JUDGE_TITLES.get(judge, judge) + (" (guided the treatment)" if judge == "cam_network" else ""),
            LAMBDA_LABEL,
            _by_lambda(run, "progress", "normal_rate", judge),
            _level(run.entry("progress", "untreated", "normal_rate", judge), "untreated"),
            {"ylim": (-0.02, 1.02)},
        )
        for judge in run.judges
    ]
    return curves(run, panels, "diseased films called normal", shared=True)


def control(run: Treatment) -> Figure | None:
    """What the treatment does to healthy films: it should keep them normal and change them little."""
    panels = [
        Panel(
            f"called normal: {JUDGE_TITLES.get(judge, judge)}",
            LAMBDA_LABEL,
            _by_lambda(run, "control", "normal_rate", judge),
            limits={"ylim": (-0.02, 1.02)},
        )
        for judge in run.judges
    ]
    panels.append(Panel("mean change", LAMBDA_LABEL, _by_lambda(run, "control", "change")))
    return curves(run, panels, "healthy films")


def tradeoff(run: Treatment) -> Figure | None:
    """What a higher normal rate costs in identity: change and similarity outside the CAM mask."""
    label, parts = _rate_label(run), {name: (name, "outside") for name in ("mae", "ssim")}
    panels = [
        Panel(title, label, _by_rate(run, *parts[name]), _start(run, *parts[name]), _WHOLE, name == "mae")
        for name, title in (
            ("mae", "mean change outside the mask (lower is better)"),
            ("ssim", "SSIM outside the mask (higher is better)"),
        )
    ]
    return curves(run, panels, "against the patient's own film") if run.judges else None


def twin_error(run: Treatment) -> Figure | None:
    """On phantoms: the distance to the same patient's healthy film, inside and outside the true lesion."""
    panels = [
        Panel(
            f"{where} the true lesion (lower is better)",
            _rate_label(run),
            _by_rate(run, "twin_error", where),
            _start(run, "twin_error", where),
            _WHOLE,
        )
        for where in ("inside", "outside")
    ]
    return curves(run, panels, "error against the healthy twin") if run.judges else None


def realism(run: Treatment) -> Figure | None:
    """How far treated films lie from healthy ones in the judge's features: against lambda, and the normal rate."""
    untreated, floor = run.entry("progress", "untreated", "fdd"), run.entry("realism", "floor")

    def behind(axes: Axes) -> None:
        _level(untreated, "untreated")(axes)
        _level(floor, "floor", "--")(axes)

    panels = [
        Panel("by noise level (lower is better)", LAMBDA_LABEL, _by_lambda(run, "progress", "fdd"), behind),
        Panel("by normal rate", _rate_label(run), _by_rate(run, "fdd"), behind, _WHOLE),
    ]
    return curves(run, panels, "distance to healthy films (FDD)", shared=True)


def cam(run: Treatment) -> Figure | None:
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


def shown(films: Films) -> list[int]:
    """The films of `strips`."""
    return choose_films(films, diseased=3, controls=1)


def strips(run: Treatment) -> Figure | None:
    """Few films, one row for each film and arm shown first, columns by rising lambda: the page's strips on paper."""
    films = run.films
    if films is None or not run.treated:
        return None
    lambdas = sorted({lam for by_lambda in run.treated.values() for lam in by_lambda})
    lambdas = [lambdas[i] for i in spread(len(lambdas), 7)]
    chosen, modes = shown(films), arms.at_first(run, list(run.treated))
    side, gap, left, top = 1.1, 0.035, 1.45, 0.62  # inches
    height = len(modes) * (side + gap) + 4 * gap
    sheet = Sheet(left + (1 + len(lambdas)) * (side + gap) + 0.1, top + len(chosen) * height)
    for column, title in enumerate(["original", *(f"λ = {lam}" for lam in lambdas)]):
        sheet.text(left + column * (side + gap) + side / 2, top - 0.12, title, ha="center")
    for place, index in enumerate(chosen):
        for row, mode in enumerate(modes):
            y = top + place * height + row * (side + gap)
            sheet.text(left - 0.1, y + side / 2, mode, ha="right", color=color_of(mode, run.modes))
            sheet.film(films.image[index], left, y, side, vmax=1)
            for column, lam in enumerate(lambdas, start=1):
                if lam in run.treated[mode]:
                    sheet.film(run.treated[mode][lam].image[index], left + column * (side + gap), y, side, vmax=1)
    return sheet.figure
