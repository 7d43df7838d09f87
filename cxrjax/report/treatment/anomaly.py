"""The figures of an anomaly study: where treated films differ from the patients', and how well that finds lesions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cxrjax.report.draw.canvas import LESION, SOFT, Sheet
from cxrjax.report.draw.style import ArmLook, arm_look, cut, spans, spread
from cxrjax.report.read.treatment import Anomaly, in_order
from cxrjax.report.read.workdir import is_number

NOTICE = "Residuals of synthetic films: what a model generated, less the patient's own; not for diagnosis"
_MEASURES = {"pixel_auroc": "pixel AUROC", "pixel_average_precision": "pixel AUPRC"}
_MOST_FILMS, _TOP_OF_SCALE = 6, 99.5  # percentile


def _arm(name: str) -> str:
    """`time_gated` of `time_gated, lambda 250` and of `map of time_gated`."""
    return name.partition(", lambda ")[0].removeprefix("map of ")


def _look(run: Anomaly, name: str) -> ArmLook:
    listed = tuple(map(str, run.study.get("modes") or ()))
    every = in_order({_arm(row) for row in (*run.children("anomaly"), name)}, listed)
    return arm_look(_arm(name), every)


def anomaly(run: Anomaly) -> Figure | None:
    """Films, evenly taken, with the lesion's outline, and beside each the residual of every arm at its best lambda."""
    found = run.residuals
    if found is None:
        return None
    rows, side, gap, top = spread(len(found.image), _MOST_FILMS), 1.35, 0.05, 0.82  # inches
    sheet = Sheet(0.1 + (1 + len(found.names)) * (side + gap), top + len(rows) * (side + gap) + 0.05, NOTICE)
    sheet.text(0.1, top - 0.1, "film", color=SOFT, fontsize=7)
    for column, (name, scores) in enumerate(zip(found.names, found.scores, strict=True), start=1):
        x, most = 0.1 + column * (side + gap), float(np.percentile(scores, _TOP_OF_SCALE))
        arm, _, lam = str(name).partition(", ")
        sheet.text(x, top - 0.36, cut(arm, 22), color=_look(run, str(name)).color, fontsize=8)
        sheet.text(x, top - 0.22, lam, color=SOFT, fontsize=7)
        sheet.text(x, top - 0.09, f"0 to {most:.3g}", color=SOFT, fontsize=7)
        for row, index in enumerate(rows):
            y = top + row * (side + gap)
            sheet.film(scores[index], x, y, side, cmap="inferno", vmax=most or 1.0)
            sheet.outline(found.truth[index].astype(np.float32), x, y, side, LESION)
    for row, index in enumerate(rows):
        y = top + row * (side + gap)
        sheet.film(found.image[index], 0.1, y, side, vmax=1)
        sheet.outline(found.truth[index].astype(np.float32), 0.1, y, side, LESION)
    return sheet.figure


def anomaly_scores(run: Anomaly) -> Figure | None:
    """Every residual and map against the true lesions: a dot with its interval, for each measure a panel."""
    rows = run.children("anomaly")
    found = {key: [run.entry("anomaly", row, key) for row in rows] for key in _MEASURES}
    kept = {
        key: entries for key, entries in found.items() if any(entry and is_number(entry.value) for entry in entries)
    }
    if not kept:
        return None
    figure = Figure(figsize=(2.4 + 3.3 * len(kept), 0.8 + 0.24 * len(rows)))
    grid = figure.subplots(1, len(kept), squeeze=False, sharey=True)[0]
    looks = [_look(run, row) for row in rows]
    for (key, entries), axes in zip(kept.items(), grid, strict=True):
        spans(axes, entries, looks)
        share = run.entry("lesion_share")
        guess = 0.5 if key == "pixel_auroc" else share.value if share is not None and is_number(share.value) else None
        if guess is not None:
            axes.axvline(guess, color="#202124", linewidth=1, linestyle=":")
        axes.set_title(_MEASURES[key])
    grid[0].set_yticks(range(len(rows)), rows)
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure
