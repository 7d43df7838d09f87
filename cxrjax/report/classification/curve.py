"""How many films it takes: figures against the number of training patients, a line a start."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cxrjax.report.classification.robustness import WORDS
from cxrjax.report.draw.style import FLOOR_LOOK, ArmLook, band, legend_below, log_scale, looks, panels
from cxrjax.report.read.classification import FLOOR, Classification
from cxrjax.report.read.workdir import Entry


def curve(run: Classification) -> Figure | None:
    """AUROC and what is called against training patients, with intervals; a panel a measure."""
    tree = run.results.get("curve")
    if not isinstance(tree, dict) or not tree:
        return None
    titles = dict(run.study.get("curve", {}).get("starts") or ())
    shown = {name: str(titles.get(name, name)) for name in tree}
    look = {**looks([name for name in tree if name != FLOOR]), FLOOR: FLOOR_LOOK}
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
