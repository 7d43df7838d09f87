"""The figures of a treatment run: what the treatment does, what it costs, and which films it was tried on."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cxrjax.report.read import Run, is_number
from cxrjax.report.strips import choose_films
from cxrjax.report.style import band, color_of, legend

JUDGE_TITLES = {"independent": "independent judge", "cam_network": "CAM network"}
LAMBDA_LABEL = "λ (diffusion steps of noise)"


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
                band(axes, x, leaves, color_of(mode, run.modes()), mode)
        axes.set_title(JUDGE_TITLES.get(judge, judge) + (" (guided the treatment)" if judge == "cam_network" else ""))
        axes.set_xlabel(LAMBDA_LABEL)
        axes.set_ylim(-0.02, 1.02)
    panels[0].set_ylabel("diseased films called normal")
    legend(panels[0])
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
                band(axes, x, leaves, color_of(mode, run.modes()), mode)
        axes.set_xlabel(LAMBDA_LABEL)
        if judge:
            axes.set_title(f"healthy films called normal: {JUDGE_TITLES.get(judge, judge)}")
            axes.set_ylim(-0.02, 1.02)
        else:
            axes.set_title("mean change of healthy films")
    legend(panels[0])
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
                band(axes, [p[0] for p in points], [p[1] for p in points], color_of(mode, run.modes()), mode)
        untreated = run.leaf("progress", "untreated", measure, region)
        start = run.leaf("progress", "untreated", "normal_rate", judges[0])
        if untreated is not None and start is not None and is_number(untreated.value) and is_number(start.value):
            axes.plot([start.value], [untreated.value], "k*", markersize=9, label="untreated")
        axes.set_title(title)
        axes.set_xlabel(f"called normal by the {JUDGE_TITLES.get(judges[0], judges[0])}")
        axes.set_xlim(-0.02, 1.02)
    panels[0].set_ylabel(group)
    legend(panels[0])
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
