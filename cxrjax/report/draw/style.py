"""What every figure shares: fonts, colors, bands and legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import Locator, MaxNLocator, NullLocator

from cxrjax.report.read.classification import FLOOR
from cxrjax.report.read.treatment import PIXEL
from cxrjax.report.read.workdir import Entry, is_number

# Okabe & Ito (2008), readable with every common color blindness; the baseline is gray.
COLORS = {
    "uniform": "#6b7280",
    "noise_matrix": "#0072b2",
    "time_gated": "#009e73",
    "time_gated_hard": "#d55e00",
    "mask_blend": "#b0568c",
}
# Of the other arms, in their order: each apart from its neighbors and from the known ones in hue or in lightness.
SPARE_COLORS: tuple[str, ...] = ("#56b4e9", "#e0a100", "#7a3fb0", "#7cb518", "#c1272d", "#8c5a1f")
SPARE_COLORS += ("#f28cb1", "#17a2a2", "#3d4fc4", "#77772e", "#a79be0", "#e0209f", "#2e6b34", "#4a4a4a")
_MARKERS = "s^vDPX<>phd*"
_HOLLOW = ("--", ":")  # lines whose markers are hollow, so that they are not taken for whole ones
# Of the systems of a study, in their order; the floor is gray. Past these, the same again in dashes.
SYSTEM_COLORS = ("#0072b2", "#d55e00", "#009e73", "#b0568c", "#8c6d1f", "#56b4e9", "#7a3fb0", "#3d3d3d")
Look = tuple[str, Literal["-", "--", ":"]]  # color, line style
FLOOR_LOOK: Look = ("#6b7280", "--")
MOST_POINTS = 200  # of a drawn curve
_MOST_TICKS = 8  # that have room on a logarithmic axis
STYLE: Any = {
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


class ArmLook(NamedTuple):
    """How an arm is drawn. Color tells arms apart, the marker too where the color is not enough, dashes the system."""

    color: str
    line: Literal["-", "--", "-.", ":"]
    marker: str


def arm_look(mode: str, modes: Sequence[str]) -> ArmLook:
    """The look of an arm, the same in every figure; `pixel_<arm>` looks like <arm>, dashed."""
    name = mode.removeprefix(PIXEL)
    dashed = name != mode
    if name in COLORS:
        return ArmLook(COLORS[name], "--" if dashed else "-", "o")
    strangers = list(dict.fromkeys(other.removeprefix(PIXEL) for other in modes))
    strangers = [other for other in strangers if other not in COLORS]
    turn, place = divmod(strangers.index(name), len(SPARE_COLORS))
    line: tuple[Literal["-", "--", "-.", ":"], ...] = ("--", ":") if dashed else ("-", "-.")
    return ArmLook(SPARE_COLORS[place], line[turn % 2], _MARKERS[(place + turn) % len(_MARKERS)])


def color_of(mode: str, modes: Sequence[str]) -> str:
    """The color of an arm, the same in every figure and on the page."""
    return arm_look(mode, modes).color


def band(axes: Axes, x: list[float], entries: list[Entry], look: ArmLook, label: str) -> None:
    """A line through values, with a band where both ends of the interval are known."""
    low = [entry.low if is_number(entry.low) and is_number(entry.high) else np.nan for entry in entries]
    high = [entry.high if is_number(entry.low) and is_number(entry.high) else np.nan for entry in entries]
    axes.fill_between(x, np.array(low, float), np.array(high, float), color=look.color, alpha=0.13, linewidth=0)
    options: Any = {"color": look.color, "linestyle": look.line, "marker": look.marker, "label": label}
    if look.line in _HOLLOW:
        options["markerfacecolor"] = "white"
    axes.plot(x, [entry.value for entry in entries], **options)


def spans(axes: Axes, entries: Sequence[Entry | None], looks: Sequence[ArmLook]) -> None:
    """A dot a row for each value, with its interval as a bar where both ends are known."""
    for place, (entry, look) in enumerate(zip(entries, looks, strict=True)):
        if entry is None or not is_number(entry.value):
            continue
        if is_number(entry.low) and is_number(entry.high):
            ends = [float(entry.low or 0.0), float(entry.high or 0.0)]
            axes.plot(ends, [place, place], color=look.color, linewidth=2.2, alpha=0.55)
        inside = "white" if look.line in _HOLLOW else look.color
        axes.plot([entry.value], [place], "o", color=look.color, markerfacecolor=inside, markersize=5.5)


def legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def legend_beside(axes: Axes) -> None:
    """A legend to the right of the panel, with lines long enough to show their dashes."""
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.02), handlelength=3.2)


def is_wide(entries: Sequence[Entry]) -> bool:
    """Whether positive values differ so much that only a logarithmic axis shows the small ones apart."""
    found = [float(entry.value) for entry in entries if entry.value > 0]
    return bool(found) and max(found) > 10 * min(found)


class _LogTicks(Locator):
    """Ticks of a logarithmic axis that stand apart: of `at`, where given, else round numbers, the roundest first."""

    def __init__(self, at: Sequence[float] = ()) -> None:
        self._at = sorted(at)

    def __call__(self) -> Any:
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

    def tick_values(self, vmin: float, vmax: float) -> Any:
        powers = range(math.floor(math.log10(vmin)), math.ceil(math.log10(vmax)) + 1)
        apart = math.log(vmax / vmin) / _MOST_TICKS
        kept: list[float] = []
        for tick in self._at or [step * 10.0**power for step in (1, 2, 5, 3, 7, 4, 6, 8, 9) for power in powers]:
            if vmin <= tick <= vmax and all(abs(math.log(tick / other)) > apart for other in kept):
                kept.append(tick)
        return sorted(kept) if len(kept) > 1 else MaxNLocator(4).tick_values(vmin, vmax)


def log_scale(axes: Axes, side: Literal["x", "y"], at: Sequence[float] = ()) -> None:
    """Makes an axis logarithmic, its labels plain numbers that do not overlap, of `at` where that is given."""
    axes.set(**{f"{side}scale": "log"})
    axis = getattr(axes, f"{side}axis")
    axis.set_major_locator(_LogTicks(at))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """A centered running mean that narrows at both ends, so that it neither lags nor invents values."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), width // 2)
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)


def looks(names: Sequence[str]) -> dict[str, Look]:
    """The look of every system of a study, the same in each figure."""
    styles: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
    n = len(SYSTEM_COLORS)
    trained = [name for name in names if not name.startswith(FLOOR)]
    drawn: dict[str, Look] = {name: (SYSTEM_COLORS[i % n], styles[i // n % 3]) for i, name in enumerate(trained)}
    return {**drawn, **{name: FLOOR_LOOK for name in names if name not in drawn}}


def across(n: int, most: int) -> int:
    """Panels in a row, at most so many, chosen so that the last row is as full as can be."""
    return math.ceil(n / math.ceil(n / most))


def panels(
    n: int, most: int, width: float, height: float, extra: float = 0.0, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of n axes, `across(n, most)` in a row, each width x height inches, with `extra` inches beneath them."""
    columns = across(n, most)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(max(width * columns, 4.2), height * rows + extra))
    every = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axes in every[n:]:
        axes.set_visible(False)
    return figure, every[:n]


def legend_below(figure: Figure, drawn: dict[str, Look]) -> None:
    """One legend for all panels, beneath them."""
    lines = [Line2D([], [], color=color, linestyle=style, label=name) for name, (color, style) in drawn.items()]
    widest = max(map(len, drawn)) * 0.075 + 0.7  # inches that an entry takes, about
    columns = max(1, min(len(lines), int(figure.get_figwidth() // widest)))
    figure.legend(handles=lines, loc="outside lower center", ncols=columns, fontsize=8)


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points of a curve, evenly by rank, both ends kept."""
    if len(x) <= most:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[kept], y[kept]


def spread(n: int, most: int) -> list[int]:
    """At most `most` of n numbers, evenly through them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist() if n else []


def cut(text: str, length: int) -> str:
    """A text of at most so many letters, an ellipsis for what is cut out of its middle."""
    if len(text) <= length:
        return text
    ahead = (length - 1) // 2
    return f"{text[:ahead]}…{text[len(text) - (length - 1 - ahead) :]}"
