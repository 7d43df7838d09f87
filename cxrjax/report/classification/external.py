"""Systems on films from elsewhere: a dot inside and one outside, and the drop between them."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cxrjax.report.draw.style import cut, looks, panels
from cxrjax.report.read.classification import FLOOR, Classification
from cxrjax.report.read.workdir import Entry, is_number

_MEASURES = {"auroc": "AUROC", "accuracy_at_threshold": "accuracy", "balanced_accuracy": "balanced accuracy"}
_MOST = 2  # measures of a set: the first of these that its systems have


def external(run: Classification) -> Figure | None:
    """A row a system, a panel a set and measure: hollow inside, filled outside, both with their intervals."""
    tree = run.results.get("external")
    sets = {str(name): one for name, one in tree.items() if isinstance(one, dict)} if isinstance(tree, dict) else {}
    drawn = []
    for name, one in sets.items():
        systems = {str(key): str(title) for key, title in one.get("titles") or ()}
        for measure in [m for m in _MEASURES if any(_ends(run, name, key, m) for key in systems)][:_MOST]:
            drawn.append((name, measure, systems))
    if not drawn:
        return None
    rows = max(len(systems) for *_, systems in drawn)
    figure, every = panels(len(drawn), 2, 5.2, 0.42 * rows + 1.2, extra=0.3)
    for (name, measure, systems), axes in zip(drawn, every, strict=True):
        _panel(axes, run, name, measure, systems)
    figure.legend(handles=_key(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _ends(run: Classification, name: str, system: str, measure: str) -> tuple[Entry, Entry] | None:
    """A system's entries inside and outside, where it has both."""
    inside, outside = (run.entry("external", name, "systems", system, side, measure) for side in ("inside", "outside"))
    if inside is None or outside is None or not (is_number(inside.value) and is_number(outside.value)):
        return None
    return inside, outside


def _panel(axes: Axes, run: Classification, name: str, measure: str, systems: dict[str, str]) -> None:
    look = looks(list(systems))
    for place, system in enumerate(systems):
        pair = _ends(run, name, system, measure)
        if pair is None:
            continue
        color = look[system][0]
        axes.plot([entry.value for entry in pair], [place, place], color=color, linewidth=1.2, alpha=0.5)
        for entry, side, filled in zip(pair, (-0.13, 0.13), (False, True), strict=True):
            if is_number(entry.low) and is_number(entry.high):
                ends = [float(entry.low or 0.0), float(entry.high or 0.0)]
                axes.plot(ends, [place + side] * 2, color=color, linewidth=1.4, alpha=0.45)
            inside: Any = {} if filled else {"markerfacecolor": "white"}
            axes.plot([entry.value], [place], "o", color=color, markersize=6.5, **inside)
    if (floor := _ends(run, name, FLOOR, measure)) is not None:
        axes.axvline(floor[1].value, color=look[FLOOR][0], linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(systems)), [cut(title, 34) for title in systems.values()])
    axes.set_ylim(len(systems) - 0.45, -0.55)
    axes.grid(False, axis="y")
    axes.set_title(f"{cut(name, 24)}: {_MEASURES[measure]}")


def _key() -> list[Line2D]:
    gray: Any = {"color": "#5f6368", "linestyle": "", "marker": "o", "markersize": 6.5}
    return [
        Line2D([], [], markerfacecolor="white", label="inside", **gray),
        Line2D([], [], label="outside", **gray),
        Line2D([], [], color="#6b7280", linestyle=":", linewidth=0.8, label="the floor outside"),
    ]
