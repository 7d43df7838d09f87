"""The tables of a classification page: rows of entries, with the paper's figures beside ours."""

from __future__ import annotations

from typing import Any

from cxrjax.data.labels import CHESTXRAY14
from cxrjax.studies.published import MEAN, Paper
from cxrjax.types import Results

Table = dict[str, Any]

_EXCLUSIVE = (
    ("accuracy", "accuracy"), ("macro_precision", "macro precision"), ("macro_recall", "macro recall"),
    ("macro_f1", "macro F1"), ("auroc", "AUROC"), ("average_precision", "AUPRC"),
)  # fmt: skip
_INDEPENDENT = (
    ("auroc", "mean AUROC"), ("average_precision", "mean AUPRC"), ("f1", "macro F1, thresholds chosen on other films"),
    ("f1_at_half", "macro F1 at 0.5"),
)  # fmt: skip
_CALIBRATION = (
    ("brier", "Brier"), ("ece", "ECE"), ("ece_after_temperature", "ECE after temperature"),
    ("sensitivity_at_95_specificity", "sensitivity at 95 % specificity"),
    ("triage_share", "set aside at 99 % sensitivity"),
)  # fmt: skip


def table(title: str, note: str, columns: list[str], rows: list[tuple[str, list[Any]]]) -> Table:
    """A table as results.json holds it: each cell an entry, a string or None."""
    return {
        "title": title, "note": note, "columns": columns,
        "rows": [{"name": name, "cells": cells} for name, cells in rows],
    }  # fmt: skip


def published(value: float | None) -> str | None:
    """A published figure as a cell: it has no interval that we know."""
    return None if value is None else f"{value:.4g}"


def ends(entry: Results, sign: str = "") -> str:
    """An entry with its interval, where it has them, in words; `sign` is "+" for a difference."""
    shown = [f"{x:{sign}.3f}" for x in (entry["value"], entry["low"], entry["high"]) if x is not None]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else "".join(shown[:1]) or "unknown"


def not_above(gaps: dict[str, Any], floor: str = "logreg32, a logistic regression on 32x32 films") -> str:
    """A sentence that names the systems whose paired AUROC difference to a floor is not wholly above 0, or "".

    Args:
      gaps: entries of the difference by a system's title; one without an interval does not show that it is above.
      floor: what it is, in words.
    """

    def said(gap: Any) -> str:
        if gap is None or gap["value"] is None:
            return "no figure"
        if gap["low"] is None:
            return f"{gap['value']:+.3f}, no interval"
        return ends(gap, "+")

    level = [f"{title} ({said(gap)})" for title, gap in gaps.items() if not (gap and (gap["low"] or 0) > 0)]
    if not level:
        return ""
    return f"Not better than {floor}, beyond the interval of the paired AUROC difference: {', '.join(level)}."


def make(
    out: Results, titles: dict[str, str], classes: tuple[str, ...], exclusive: bool, films: str, paper: Paper | None
) -> list[Table]:
    """Systems, their differences, classes, calibration, localization, and the paper's figures."""
    found = [_systems(out, titles, _EXCLUSIVE if exclusive else _INDEPENDENT, films), _differences(out, titles)]
    if paper is not None:
        found.append(_paper(paper, films))
    found += [_classes(out, titles, classes, paper), _calibration(out, titles), _localization(out)]
    return [item for item in found if item is not None and item["rows"]]


def _systems(out: Results, titles: dict[str, str], measures: tuple[tuple[str, str], ...], films: str) -> Table:
    floors = {"minus_logreg32": "logreg32, a logistic regression on 32x32 films"}
    columns = [words for _, words in measures] + ["AUROC minus logreg32, paired"]
    if "probe" in titles:
        floors["minus_probe"] = f"the {titles['probe']}"
        columns.append("AUROC minus linear probe, paired")
    found = {title: out["systems"][name] for name, title in titles.items()}
    rows = [
        (title, [one.get(key) for key, _ in measures] + [one.get(floor, {}).get("auroc") for floor in floors])
        for title, one in found.items()
    ]
    note = f"Ours, on {films}; 95 % intervals by resampling patients, of accuracy Wilson's where each has one film."
    said = [
        not_above({title: one[floor].get("auroc") for title, one in found.items() if floor in one}, words)
        for floor, words in floors.items()
    ]
    return table("Systems", " ".join([note, *filter(None, said)]), columns, rows)


def _differences(out: Results, titles: dict[str, str]) -> Table | None:
    rows = []
    for pair, entry in out.get("pairs", {}).items():
        a, b = pair.split(" minus ")
        rows.append((f"{titles[a]} minus {titles[b]}", [entry.get("auroc"), entry.get("accuracy")]))
    note = "Paired by patient on the same films."
    return table("Differences between systems", note, ["AUROC", "accuracy"], rows)


def _paper(paper: Paper, films: str) -> Table:
    """The paper's figures as printed, each with its films."""
    names = list(dict.fromkeys(name for column in paper.columns for name in column.values if name not in _CLASS_ROWS))
    rows = [
        (column.title, [column.films, *(published(column.values.get(name)) for name in names)])
        for column in paper.columns
    ]
    note = f"{paper.note} Not measured here: ours are of {films}."
    return table(f"As published: {paper.title}", note, ["measured on", *(n.replace("_", " ") for n in names)], rows)


_CLASS_ROWS = frozenset(CHESTXRAY14)


def _classes(out: Results, titles: dict[str, str], classes: tuple[str, ...], paper: Paper | None) -> Table:
    """AUROC by class, the paper's columns behind ours."""
    columns = list(titles)
    beside = [c for c in paper.columns if _CLASS_ROWS & c.values.keys()] if paper else []
    rows: list[tuple[str, list[Any]]] = []
    for name in classes:
        ours = [out["systems"][system].get("per_class", {}).get(name, {}).get("auroc") for system in columns]
        rows.append((name.replace("_", " "), ours + [published(c.values.get(name)) for c in beside]))
    mean = [out["systems"][system].get("auroc") for system in columns]
    rows.append(("mean", mean + [published(c.values.get(MEAN)) for c in beside]))
    note = "A class with films of one kind only has no figure and takes no part in the mean."
    if beside:
        note += " The published columns are of other films: " + "; ".join(f"{c.title}: {c.films}" for c in beside) + "."
    return table(
        "AUROC by class", note, [titles[c] for c in columns] + [f"{c.title} (published)" for c in beside], rows
    )


def _calibration(out: Results, titles: dict[str, str]) -> Table:
    rows = [(title, [out["systems"][name].get(key) for key, _ in _CALIBRATION]) for name, title in titles.items()]
    said = dict.fromkeys(word for name in titles for word in out["systems"][name].get("notes", ()))
    note = " ".join(["Temperature and thresholds are fitted on the validation part where there is one.", *said])
    return table("Calibration and use", note, [words for _, words in _CALIBRATION], rows)


def _localization(out: Results) -> Table | None:
    found = out.get("localization") or {}
    columns = {
        "pointing": "pointing game", "mean_place_pointing": "pointing game of the mean place",
        "pointing_minus_mean_place": "minus it, paired", "iou": "IoU", "mean_place_iou": "IoU of the mean place",
        "iobb": "IoBB",
    }  # fmt: skip
    each = [*found.get("by_class", {}).items(), *([("all", found["all"])] if found else [])]
    rows = [(name.replace("_", " "), [entry.get(key) for key in columns]) for name, entry in each]
    return table("Where the maps point", found["note"], list(columns.values()), rows) if rows else None
