"""Numbers as words, the key numbers of classifiers, and every result in groups."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cxrjax.report.read.workdir import Entry, Run, is_number

DASH = "—"
UNITLESS = ("1", "fraction")  # units that are not written beside a number
MINUS = "\u2212"
_MOST_IN_A_PART = 300  # rows of a table of all results
_KEY_NAMES = {
    "classifier": "Classifier",
    "judge": "Independent judge",
    "cam_network": "CAM network",
    "logreg32": "Logistic regression on 32-pixel films",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "average_precision": "AUPRC",
    "macro_f1": "macro F1",
    "f1": "macro F1",
    "f1_at_half": "macro F1 at 0.5",
    "brier": "Brier score",
    "brier_after_temperature": "Brier score after temperature",
    "ece": "ECE",
    "ece_after_temperature": "ECE after temperature",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "triage_share": "set aside at 99 % sensitivity",
    "triage_sensitivity": "sensitivity after films are set aside",
}


def number(value: object, unit: str = "", signed: bool = False, scale: float | None = None) -> str:
    """A value for people: three or four decimals, three figures outside [0.001, 1000); a dash for NaN, None, infinity.

    `signed` writes a plus before what is above 0, as for a difference. `scale` is the size that chooses the decimals
    (default: the value's own), so that a value and the ends of its interval get the same.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    size = abs(value) if scale is None else scale
    if isinstance(value, int):
        text = str(value)
    elif size == 0 or 0.05 <= size < 1000:
        text = f"{value:.3f}"
    else:
        text = f"{value:.4f}" if 0.001 <= size < 1 else f"{value:.3g}"
    text = ("+" if signed and value > 0 else "") + text.replace("-", MINUS, 1 if value < 0 else 0)
    return f"{text} {unit}" if unit and unit not in UNITLESS else text


def _scale(entry: Entry) -> float:
    return max(
        (abs(float(x)) for x in (entry.value, entry.low, entry.high) if x is not None and is_number(x)), default=0.0
    )


def value(entry: Entry, signed: bool = False, unit: bool = True) -> str:
    """An entry's value as `number` writes it, with the decimals of its interval."""
    return number(entry.value, entry.unit if unit else "", signed, _scale(entry))


def interval(entry: Entry) -> str:
    """The 95 % interval as "[low, high]", or a dash where an end is missing."""
    if not (is_number(entry.low) and is_number(entry.high)):
        return DASH
    return f"[{number(entry.low, scale=_scale(entry))}, {number(entry.high, scale=_scale(entry))}]"


def with_interval(entry: Entry, signed: bool = False) -> str:
    """A value and its interval in one phrase, without the interval where there is none."""
    ends = interval(entry)
    return value(entry, signed) + ("" if ends == DASH else f" {ends}")


def pretty(name: str) -> str:
    """A name of results.json as words."""
    return _KEY_NAMES.get(name) or name.replace("_", " ")


def verdict(difference: Entry, more: bool = False) -> str:
    """Whether a paired difference is better (below 0, or with `more` above) or worse beyond its interval, else ""."""
    if not (is_number(difference.low) and is_number(difference.high)):
        return ""
    low, high = float(difference.low or 0.0), float(difference.high or 0.0)
    return "" if low <= 0.0 <= high else "better" if (low > 0.0) == more else "worse"


def key_numbers(run: Run) -> list[tuple[str, Entry]]:
    """The scores of a run's classifiers, with their names."""
    first = ("classifier", "judge")
    scored = [name for name in run.children() if {"test", "val"} & set(run.children(name))]
    names = {
        (model, split, measure): f"{pretty(model)}: {split} {pretty(measure)}"
        for model in (*first, *(name for name in scored if name not in (*first, "logreg32")), "logreg32")
        for split in ("test", "val")
        for measure in ("auroc", "accuracy")
    }
    for measure in run.children("classifier", "minus_logreg32"):
        names["classifier", "minus_logreg32", measure] = f"Classifier minus logistic regression: {pretty(measure)}"
    return [(name, entry) for path, name in names.items() if (entry := run.entry(*path)) is not None]


def grouped(run: Run, drawn: tuple[str, ...] = ()) -> dict[str, dict[str, list[Entry]]]:
    """Every entry of results.json by its first name, less what figures draw; a large group in parts by more names."""
    groups: dict[str, list[Entry]] = {}
    for entry in (entry for entry in run.entries if entry.path[0] not in drawn):
        groups.setdefault(entry.path[0] if len(entry.path) > 1 else "other", []).append(entry)
    return {name: dict(_parts(entries, 1)) for name, entries in groups.items()}


def _parts(entries: list[Entry], depth: int) -> Iterator[tuple[str, list[Entry]]]:
    """Entries by the first `depth` names of their paths, and by as many more as keep a part short."""
    parts: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.path[:depth], []).append(entry)
    for path, some in parts.items():
        if len(some) <= _MOST_IN_A_PART or all(len(entry.path) <= depth + 1 for entry in some):
            yield ".".join(path), some
        else:
            yield from _parts(some, depth + 1)
