"""Films of a classification study: what a network looked at, and the phase features of a film."""

from __future__ import annotations

from collections.abc import Sequence

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
    scores = [f" {score:.2f}" if np.isfinite(score) else "" for score in found.score[chosen]]
    titles = [f"{cut(_words(name), 20)}{said}" for name, said in zip(found.finding[chosen], scores, strict=True)]
    return _gallery(found.image[chosen], found.map[chosen], titles, list(found.key[chosen]), found.truth[chosen])


def failures(run: Classification) -> Figure | None:
    """Films that were called wrong, with what was said and what is so, and below each its map where the run has one."""
    found = run.failures
    if found is None:
        return None
    titles = [f"said {cut(_words(said), 22)}" for said in found.said]
    below = [f"is {cut(_words(truth), 22)}\n{cut(key, 26)}" for truth, key in zip(found.truth, found.key, strict=True)]
    return _gallery(found.image, found.map, titles, below)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _gallery(
    image: np.ndarray, heat: np.ndarray | None, titles: Sequence[str], below: Sequence[str],
    truth: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """Films (n, h, w) under their titles, each over its map with the outline of `truth`; `below` stands between."""
    columns = across(len(image), _ACROSS)
    rows, each = -(-len(image) // columns), 1 if heat is None else 2
    figure = Figure(figsize=(max(1.75 * columns, 3.5), (2.35 if heat is None else 3.85) * rows))
    grid = figure.subplots(each * rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for place, film in enumerate(image):
        row, column = divmod(place, columns)
        above = grid[each * row, column]
        _show(above, film)
        above.set_title(titles[place], fontsize=8)
        words = {"fontsize": 6.5, "color": "#5f6368"}
        if heat is None:
            above.text(0.5, -0.03, below[place], transform=above.transAxes, ha="center", va="top", **words)
            continue
        under = grid[each * row + 1, column]
        _show(under, film)
        over = np.clip(_shrunk(heat[place]), 0, 1)
        under.imshow(over, cmap="inferno", vmin=0, vmax=1, alpha=0.55 * over)
        if truth is not None and (outline := _shrunk(truth[place])).any():
            under.contour(outline, levels=[0.5], colors="#7fffd4", linewidths=0.9)
        under.set_title(below[place] if truth is None else cut(below[place], 26), pad=2, **words)
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
