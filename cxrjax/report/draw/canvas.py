"""A figure of many films: films, outlines and words put on it by inches."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cxrjax.report.draw.png import SHORT_NOTICE

INK, SOFT, RED, OUTLINE = "#1f2328", "#5f6368", "#b3261e", "#ffb000"
LESION = "#7fffd4"  # of a true lesion's outline


class Sheet:
    """A figure on which films and words are put by inches from its upper left; a hundred axes would take seconds."""

    def __init__(self, width: float, height: float, notice: str = SHORT_NOTICE) -> None:
        self.width = max(width, 4.2)
        self.figure = Figure(figsize=(self.width, height))
        self.figure.set_layout_engine("none")
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_axis_off()
        self.axes.set(xlim=(0, self.width), ylim=(height, 0), autoscale_on=False)
        self.text(0.08, 0.17, notice, color=RED, fontsize=9)

    def film(self, pixels: np.ndarray, x: float, y: float, side: float, **options: Any) -> None:
        """Pixels (h, w), gray up to 255 unless `vmax` or `cmap` say otherwise, or colors (h, w, 3)."""
        shown: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255, **options}
        self.axes.imshow(pixels, extent=(x, x + side, y + side, y), aspect="auto", **shown)

    def outline(self, heat: np.ndarray, x: float, y: float, side: float, color: str = OUTLINE) -> None:
        """The line at half of a map's range; nothing where the map is unknown or flat."""
        low, high = float(heat.min()), float(heat.max())
        if high > low:  # not where either is NaN
            row, column = ((np.arange(n) + 0.5) / n * side for n in heat.shape)
            self.axes.contour(x + column, y + row, heat, levels=[(low + high) / 2], colors=color, linewidths=1.0)

    def text(self, x: float, y: float, words: str, **options: Any) -> None:
        """Words at a point, their middle at `y`."""
        shown: dict[str, Any] = {"color": INK, "fontsize": 8.5, "va": "center", **options}
        self.axes.text(x, y, words, **shown)
