"""Films of a classification study: what a network looked at, and the phase features of a film."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrjax.report.draw.style import across, cut, spread
from cxrjax.report.read.classification import Classification

_MOST_MAPS, _ACROSS = 12, 6
_MOST_ROWS = 6
_SIDE = 224  # pixels of a shown film, at most
CHANNELS = ("film", "LwPA", "LPE", "ELEA")


def _shrunk(image: np.ndarray) -> np.ndarray:
    """Every k-th pixel of a film, so that it has at most `_SIDE` on a side."""
    step = -(-max(image.shape[:2]) // _SIDE)
    return image[::step, ::step]


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(_shrunk(image), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def maps(run: Classification) -> Figure | None:
    """Films above, and below each the map over it with the outline of the finding where that is known."""
    found = run.maps
    if found is None:
        return None
    chosen = spread(len(found.image), _MOST_MAPS)
    columns = across(len(chosen), _ACROSS)
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(1.75 * columns, 3.5), 3.85 * rows))
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        _show(above, found.image[index])
        _show(below, found.image[index])
        heat = np.clip(_shrunk(found.map[index]), 0, 1)
        below.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.55 * heat)
        truth = _shrunk(found.truth[index])
        if truth.any():
            below.contour(truth, levels=[0.5], colors="#7fffd4", linewidths=0.9)
        score = found.score[index]
        said = f" {score:.2f}" if np.isfinite(score) else ""
        above.set_title(f"{cut(found.finding[index].replace('_', ' '), 20)}{said}", fontsize=8)
        below.set_title(cut(found.key[index], 26), fontsize=6.5, color="#5f6368", pad=2)
    return figure


def channels(run: Classification) -> Figure | None:
    """A film a row and class, then its three phase features, all in [0, 1]; two films a class where classes are few."""
    found = run.channels
    if found is None:
        return None
    classes = list(dict.fromkeys(found.label))[:_MOST_ROWS]
    films = {name: np.flatnonzero(found.label == name) for name in classes}
    pairs = 2 if len(classes) <= 4 and max(map(len, films.values())) > 1 else 1
    width, height = 1.45 * 4 * pairs, 1.5 * len(classes) + 0.2
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(classes), 4 * pairs, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for row, name in enumerate(classes):
        for pair, index in enumerate(films[name][:pairs]):
            pictures = [found.image[index], *np.moveaxis(found.enh[index], -1, 0)]
            for column, (picture, title) in enumerate(zip(pictures, CHANNELS, strict=True)):
                axes = grid[row, 4 * pair + column]
                _show(axes, picture)
                if row == 0 or column == 0:
                    axes.set_title(cut(name.replace("_", " "), 18) if column == 0 else title, fontsize=8)
    return figure
