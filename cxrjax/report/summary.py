"""What the page says in numbers: the headline, the key table, the comparison at equal rates, every result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cxrjax.report.read import MODE_ORDER, Leaf, Run, in_order, is_number

DASH = "—"
MINUS = "\u2212"
BASELINE = "uniform"
# The mode that the headline is about, chosen before looking: the first of these that the run has.
_HEADLINE_MODES = ("time_gated", "noise_matrix", "time_gated_hard", "mask_blend")
_LOWER_IS_BETTER = ("mae", "twin_error")
_MEASURES = ("mae", "ssim", "psnr", "twin_error")
_MEASURE_NAMES = {"mae": "change (MAE)", "ssim": "SSIM", "psnr": "PSNR", "twin_error": "error to healthy twin"}
_KEY_NAMES = {
    "classifier": "Classifier",
    "judge": "Independent judge",
    "cam_network": "CAM network",
    "logreg32": "Logistic regression on 32-pixel films",
    "accuracy": "accuracy",
    "auroc": "AUROC",
}


@dataclass(frozen=True)
class Cell:
    """One measure of one mode at an equal rate, and its paired difference to the baseline (None for the baseline)."""

    value: Leaf | None
    difference: Leaf | None
    verdict: str  # "better", "worse", or "" where the interval holds 0 or there is none


@dataclass(frozen=True)
class EqualRate:
    """Every mode at one judge's one normal rate: `cells[mode]` follows `columns`, pairs (measure, region)."""

    judge: str
    rate: str
    columns: list[tuple[str, str]]
    cells: dict[str, list[Cell]]


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
    return f"{text} {unit}" if unit and unit not in ("1", "fraction") else text


def _scale(leaf: Leaf) -> float:
    return max(
        (abs(float(x)) for x in (leaf.value, leaf.low, leaf.high) if x is not None and is_number(x)), default=0.0
    )


def value(leaf: Leaf, signed: bool = False, unit: bool = True) -> str:
    """A leaf's value as `number` writes it, with the decimals of its interval."""
    return number(leaf.value, leaf.unit if unit else "", signed, _scale(leaf))


def interval(leaf: Leaf) -> str:
    """The 95 % interval as "[low, high]", or a dash where an end is missing."""
    if not (is_number(leaf.low) and is_number(leaf.high)):
        return DASH
    return f"[{number(leaf.low, scale=_scale(leaf))}, {number(leaf.high, scale=_scale(leaf))}]"


def with_interval(leaf: Leaf, signed: bool = False) -> str:
    """A value and its interval in one phrase, without the interval where there is none."""
    ends = interval(leaf)
    return value(leaf, signed) + ("" if ends == DASH else f" {ends}")


def pretty(name: str) -> str:
    """A name of results.json as words."""
    return _MEASURE_NAMES.get(name) or _KEY_NAMES.get(name) or name.replace("_", " ")


def verdict(measure: str, difference: Leaf | None) -> str:
    """Whether a difference to the baseline is better or worse beyond its interval; "" where that is not known."""
    if difference is None or not (is_number(difference.low) and is_number(difference.high)):
        return ""
    low, high = float(difference.low or 0.0), float(difference.high or 0.0)
    if low <= 0.0 <= high:
        return ""
    return "better" if (high < 0.0) == (measure in _LOWER_IS_BETTER) else "worse"


def equal_rates(run: Run) -> list[EqualRate]:
    """The comparisons at equal normal rate, by judge and rising rate."""
    tables = []
    for judge in [j for j in run.judges() if j in run.children("equal_rate")]:
        for rate in sorted(run.children("equal_rate", judge), key=_as_number):
            base = ("equal_rate", judge, rate)
            modes = in_order(set(run.children(*base)), MODE_ORDER)
            found = {(m, r) for mode in modes for m in run.children(*base, mode) for r in run.children(*base, mode, m)}
            rank = {measure: i for i, measure in enumerate(_MEASURES)}
            columns = sorted(found, key=lambda c: (rank.get(c[0], len(rank)), c[0], c[1] != "outside", c[1]))
            cells = {mode: [_cell(run, (*base, mode), column) for column in columns] for mode in modes}
            if columns:
                tables.append(EqualRate(judge, rate, columns, cells))
    return tables


def _cell(run: Run, base: tuple[str, ...], column: tuple[str, str]) -> Cell:
    value, difference = run.leaf(*base, *column, "value"), run.leaf(*base, *column, "difference")
    if difference is not None and (not is_number(difference.value) or base[-1] == BASELINE):
        difference = None
    return Cell(value, difference, verdict(column[0], difference))


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def key_numbers(run: Run) -> list[tuple[str, Leaf]]:
    """The few numbers to read first, with their names."""
    rows = []
    for model in ("classifier", "judge", "logreg32"):
        for split in ("test", "val"):
            for measure in ("auroc", "accuracy"):
                leaf = run.leaf(model, split, measure)
                if leaf is not None:
                    rows.append((f"{pretty(model)}: {split} {pretty(measure)}", leaf))
    for measure in run.children("classifier", "minus_logreg32"):
        leaf = run.leaf("classifier", "minus_logreg32", measure)
        if leaf is not None:
            rows.append((f"Classifier minus logistic regression: {pretty(measure)}", leaf))
    for judge in run.judges():
        leaf = run.leaf("progress", "untreated", "normal_rate", judge)
        if leaf is not None:
            rows.append((f"Diseased films called normal before treatment ({pretty(judge)})", leaf))
    return rows


def headline(run: Run) -> str:
    """The main finding in a sentence or two; which finding is fixed beforehand, not picked for looking well."""
    sentences = [text for text in (_classifier_sentence(run), _equal_rate_sentence(run)) if text]
    return " ".join(sentences)


def _classifier_sentence(run: Run) -> str:
    auroc, accuracy = run.leaf("classifier", "test", "auroc"), run.leaf("classifier", "test", "accuracy")
    main, name = (auroc, "an AUROC") if auroc is not None and is_number(auroc.value) else (accuracy, "an accuracy")
    if main is None or not is_number(main.value):
        return ""
    films = f" of {main.n:,} films" if is_number(main.n) else ""
    text = f"On the test split{films}, the classifier reaches {name} of {with_interval(main)}"
    gain = run.leaf("classifier", "minus_logreg32", "auroc")
    if gain is None or not is_number(gain.value):
        return text + "."
    if not (is_number(gain.low) and is_number(gain.high)):
        return f"{text}; its difference to a logistic regression on 32-pixel films is {number(gain.value)}."
    if float(gain.low or 0) > 0:
        return f"{text}, above a logistic regression on 32-pixel films by {with_interval(gain)}."
    if float(gain.high or 0) < 0:
        return f"{text}, below a logistic regression on 32-pixel films (difference {with_interval(gain)})."
    return (
        f"{text}, not distinguishable from a logistic regression on 32-pixel films (difference {with_interval(gain)})."
    )


def _equal_rate_sentence(run: Run) -> str:
    for table in equal_rates(run):
        mode = next((m for m in _HEADLINE_MODES if m in table.cells), None)
        if mode is None:
            continue
        rate = _as_number(table.rate)
        share = f"{100 * rate:.0f} %" if 0 < rate <= 1 else table.rate
        judge = f"{pretty(table.judge)}{'' if table.judge == 'cam_network' else ' judge'}"
        pairs = [(column, cell) for column, cell in zip(table.columns, table.cells[mode], strict=True)]
        pairs.sort(key=lambda pair: pair[0][0] != "twin_error")  # the truth first, where it is known
        for (measure, region), cell in pairs:
            if region != "outside" or cell.value is None:
                continue
            if cell.difference is None:
                return f"{mode} cannot be compared with uniform noise where {share} are called normal by the {judge}."
            claim = {
                "better": f"{mode} leaves the rest of the film better preserved than uniform noise does",
                "worse": f"{mode} preserves the rest of the film less well than uniform noise does",
                "": f"{mode} and uniform noise cannot be told apart in how they preserve the rest of the film",
            }[cell.verdict]
            where = "outside the true lesion" if measure == "twin_error" else "outside the CAM mask"
            caution = "" if measure == "twin_error" else " A masked mode hardly treats what lies outside its mask."
            return (
                f"Where {share} of the treated diseased films are called normal by the {judge}, {claim}: "
                f"{pretty(measure)} {where} {with_interval(cell.value)}, "
                f"difference {with_interval(cell.difference, signed=True)}.{caution}"
            )
    return ""


def grouped(run: Run) -> dict[str, list[Leaf]]:
    """Every leaf of results.json by its first name; nothing is left out."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in run.leaves:
        groups.setdefault(leaf.path[0] if len(leaf.path) > 1 else "other", []).append(leaf)
    return groups
