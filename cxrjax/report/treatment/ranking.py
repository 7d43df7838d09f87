"""The arms of a treatment study side by side: their ranking, their masks, and their solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cxrjax.report.draw.canvas import INK, LESION, SOFT, Sheet
from cxrjax.report.draw.overlay import cam_overlay
from cxrjax.report.draw.style import (
    SYSTEM_COLORS,
    ArmLook,
    across,
    arm_look,
    band,
    is_wide,
    legend_beside,
    log_scale,
    spans,
)
from cxrjax.report.read.treatment import PIXEL, Films, Treatment
from cxrjax.report.read.workdir import Entry, is_number
from cxrjax.report.treatment import arms
from cxrjax.report.treatment.strips import choose_films

_REFERENCE = "ancestral"
_WITHIN = 0.05  # of the reference, on both sides
# The paired ones relative to the reference: what films differ in among themselves is not what solvers differ in.
_SOLVER_MEASURES = {
    "change_against_reference": "change of the film, relative",
    "twin_error_against_reference": "error to the healthy twin, relative",
    "normal_rate": "called normal",
}
_MASKED_FILMS = 4


def ranking(run: Treatment) -> Figure | None:
    """Every arm at one normal rate, a row each: what it changes outside the mask, and how much less than the baseline.

    Arms that miss the rate stand last, with the highest that they come to.
    """
    level, names = run.ranking
    if not level:
        return None
    columns = [("mae", "outside", "value"), ("mae", "outside", "difference"), ("twin_error", "outside", "difference")]
    found = [[arms.at_rate(run, name, *column) for name in names] for column in columns]
    kept = [(column, entries) for column, entries in zip(columns, found, strict=True) if any(entries)]
    if not kept:
        return None
    figure = Figure(figsize=(2.1 + 3.4 * len(kept), 0.8 + 0.25 * len(names)))
    grid = figure.subplots(1, len(kept), squeeze=False, sharey=True)[0]
    looks = [arm_look(name, run.modes) for name in names]
    for ((measure, _, kind), entries), axes in zip(kept, grid, strict=True):
        spans(axes, entries, looks)
        title = "change outside the mask" if measure == "mae" else "error to the twin outside the lesion"
        title = f"at normal rate {level}: {title}" if kind == "value" else title
        axes.set_title(title if kind == "value" else f"{title},\nminus {arms.BASELINE}, paired")
        axes.tick_params(axis="x", labelsize=8)
        if kind == "difference":
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.axvline(0, color="#202124", linewidth=1, linestyle=":")
        else:
            if is_wide([entry for entry in entries if entry is not None]):
                log_scale(axes, "x")
            else:
                axes.set_xlim(left=0)
            missed(axes, entries, [arms.best_rate(run, name) for name in names], float(level))
    grid[0].set_yticks(range(len(names)), [arms.label(run, name) for name in names])
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def missed(axes: Axes, entries: Sequence[Entry | None], best: Sequence[tuple[int, Entry] | None], level: float) -> None:
    """Writes into the rows without an entry how high an arm's normal rate comes, or that it is there untreated."""
    for place, (entry, highest) in enumerate(zip(entries, best, strict=True)):
        if entry is None and highest is not None:
            said = f"not reached; at most {100 * highest[1].value:.0f} %, at λ = {highest[0]}"
            if highest[1].value >= level:
                said = "untreated films have this rate"
            axes.text(0.02, place, said, transform=axes.get_yaxis_transform(), va="center", color=SOFT, size=8)


def outside(run: Treatment) -> Figure | None:
    """The change outside the mask at one normal rate, a column for each source of films, a row for each threshold.

    Arms stand in the order of the ranking inside, so that a column that does not rise downward has another order.
    """
    level, names = run.ranking
    sources, kinds = ["", *run.children("external")], ("", "_set")
    found = {
        (at, source): [arms.at_rate(run, name, "mae", "outside", source=source, at=at) for name in names]
        for at in kinds
        for source in sources
    }
    kept = [at for at in kinds if any(any(found[at, source]) for source in sources)]
    if len(sources) == 1 or not kept:
        return None
    across, down = len(sources), len(kept)
    figure = Figure(figsize=(2.1 + 3.4 * across, (0.9 + 0.25 * len(names)) * down))
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    looks = [arm_look(name, run.modes) for name in names]
    for at, row in zip(kept, grid, strict=True):
        for source, axes in zip(sources, row, strict=True):
            entries = found[at, source]
            spans(axes, entries, looks)
            best = [arms.best_rate(run, name, source=source, at=at) for name in names]
            missed(axes, entries, best, float(level))
            title = f"{source or 'inside'}: change outside the mask"
            axes.set_title(f"{title}\nat normal rate {level}, {'set' if at else 'own'} threshold")
            axes.tick_params(axis="x", labelsize=8, labelbottom=True)
    if is_wide([entry for entries in found.values() for entry in entries if entry is not None]):
        log_scale(grid[0, 0], "x")
    else:
        grid[0, 0].set_xlim(left=0)
    grid[0, 0].set_yticks(range(len(names)), [arms.label(run, name) for name in names])
    grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def shown(films: Films) -> list[int]:
    """The films of `masks`."""
    return choose_films(films, diseased=_MASKED_FILMS, controls=0)


def _distinct(run: Treatment) -> list[tuple[Mapping[int, np.ndarray], list[str]]]:
    """Every mask that an arm treats by, with the arms that share it."""
    shared: dict[int, tuple[Mapping[int, np.ndarray], list[str]]] = {}
    for arm in (arm for arm in run.modes if arm in run.masks and arms.masked(run, arm)):
        shared.setdefault(id(run.masks[arm]), (run.masks[arm], []))[1].append(arm)
    return list(shared.values())


def masks(run: Treatment) -> Figure | None:
    """Diseased films, and beside each the mask of every distinct source over it, with the true lesion's outline."""
    films, found = run.films, _distinct(run)
    if films is None or not found:
        return None
    side, gap, line = 1.3, 0.05, 0.125  # inches: of a film, between films, of a line of words
    names = [
        [arm for arm in sharing if arm.removeprefix(PIXEL) not in sharing or arm[:6] != PIXEL] for _, sharing in found
    ]
    top = 0.15 + line * max(map(len, names))
    rows = shown(films)
    sheet = Sheet(0.1 + (1 + len(found)) * (side + gap), top + len(rows) * (side + gap) + 0.05, notice="")
    for row, index in enumerate(rows):
        y = top + row * (side + gap)
        pictures = [films.image[index], *(cam_overlay(films.image[index], mask[index]) for mask, _ in found)]
        for column, picture in enumerate(pictures):
            x = 0.1 + column * (side + gap)
            sheet.film(picture, x, y, side, vmax=1)
            if films.lesion is not None:
                sheet.outline(films.lesion[index].astype(np.float32), x, y, side, LESION)
    for column, sharing in enumerate([["film"], *names]):
        for place, name in enumerate(reversed(sharing)):
            x, y = 0.1 + column * (side + gap), top - 0.1 - place * line
            sheet.text(x, y, name, fontsize=7, color=INK if column else SOFT)
    return sheet.figure


def solvers(run: Treatment) -> Figure | None:
    """Quality against network evaluations, a line a solver; the reference of many evaluations as a level."""
    names = run.children("solvers")
    options = run.study.get("solvers") or {}
    measures = [m for m in _SOLVER_MEASURES if any(_points(run, name, m, ()) for name in names)]
    if not measures:
        return None
    last = str(options.get("reference", ""))
    aside = () if int(last or 0) in map(int, options.get("evaluations", ())) else ((_REFERENCE, last),)
    count = across(len(measures), 3)
    figure = Figure(figsize=(3.9 * max(2, count) + 1.5, 3.4))
    grid = figure.subplots(1, count, squeeze=False)[0]
    for measure, axes in zip(measures, grid, strict=True):
        reference = run.entry("solvers", _REFERENCE, last, measure)
        if reference is not None and is_number(reference.value):
            level, paired = float(reference.value), measure.endswith("_against_reference")
            within = _WITHIN * (1 if paired else level)
            axes.axhspan(level - within, level + within, color="#202124", alpha=0.07, linewidth=0)
            axes.axhline(level, color="#202124", linewidth=1, linestyle=":", label=f"{_REFERENCE}, {last} evaluations")
        for place, name in enumerate(names):
            points = _points(run, name, measure, aside)
            look = ArmLook(SYSTEM_COLORS[place % len(SYSTEM_COLORS)], "-", "os^vDPX"[place % 7])
            band(axes, [x for x, _ in points], [entry for _, entry in points], look, name)
        log_scale(axes, "x", at=[*{x for name in names for x, _ in _points(run, name, measure, aside)}])
        axes.set_xlabel("network evaluations")
        axes.set_title(_SOLVER_MEASURES[measure])
        if measure == "normal_rate":
            axes.set_ylim(top=min(1.02, axes.get_ylim()[1]))
        else:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    legend_beside(grid[-1])
    return figure


def _points(run: Treatment, name: str, measure: str, aside: Any) -> list[tuple[float, Entry]]:
    """By evaluations, the entries of a measure, less the (solver, evaluations) that are drawn otherwise."""
    points = []
    for number in run.children("solvers", name):
        used, entry = (run.entry("solvers", name, number, key) for key in ("network_evaluations", measure))
        if used is not None and entry is not None and is_number(entry.value) and (name, number) not in aside:
            points.append((float(used.value), entry))
    return sorted(points, key=lambda point: point[0])
