"""How many films it takes: figures against the number of training patients, a line a start."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cxrjax.report.classification.robustness import WORDS
from cxrjax.report.draw.style import FLOOR_LOOK, ArmLook, band, legend_below, log_scale, looks, panels
from cxrjax.report.read.classification import FLOOR, Classification, titles
from cxrjax.report.read.workdir import Entry


def curve(run: Classification) -> Figure | None:
    """AUROC and what is called against training patients, with intervals; a panel a measure."""
    tree = run.results.get("curve")
    if not isinstance(tree, dict) or not tree:
        return None
    given = titles(run.study)
    starts = dict(run.study.get("curve", {}).get("starts") or ())
    shown = {name: str(starts.get(name, given.get(name, name))) for name in tree}
    # A start has the color of the system that it ends as, on all patients, and a floor its own.
    ends = {name: given.get(f"{name}_all", shown[name]) for name in tree}
    every_look = looks(list(dict.fromkeys([*(system.name for system in run.systems), *ends.values()])))
    look = {name: FLOOR_LOOK if name == FLOOR else every_look[ends[name]] for name in tree}
    first = next(iter(next(iter(tree.values())).values()))
    measures = [measure for measure in WORDS if measure in first and measure != "ece"]
    figure, every = panels(len(measures), 2, 4.6, 3.2, extra=0.4)
    for measure, axes in zip(measures, every, strict=True):
        for name, points in tree.items():
            entries = {int(size): _entry(one[measure]) for size, one in points.items()}
            kept = {size: entry for size, entry in entries.items() if entry.value is not None}
            band(axes, [float(size) for size in kept], list(kept.values()), ArmLook(*look[name], "o"), shown[name])
        log_scale(axes, "x", at=sorted({float(size) for points in tree.values() for size in points}))
        axes.set(xlabel="training patients", ylabel=WORDS[measure])
    legend_below(figure, {shown[name]: look[name] for name in tree})
    return figure


def _entry(found: dict[str, Any]) -> Entry:
    return Entry((), found["value"], found["low"], found["high"], found["n"])
