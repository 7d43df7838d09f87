"""What the page says in numbers: the headline, the key table, the comparison at equal rates, every result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cxrjax.report.read.workdir import Leaf, Run, arm_order, is_number
from cxrjax.report.treatment import arms
from cxrjax.report.treatment.arms import BASELINE

DASH = "—"
UNITLESS = ("1", "fraction")  # units that are not written beside a number
MINUS = "\u2212"
_MOST_IN_A_PART = 300  # rows of a table of all results
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
    return f"{text} {unit}" if unit and unit not in UNITLESS else text


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
            modes = arm_order(set(run.children(*base)), run.study)
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
    first = ("classifier", "judge")
    scored = [name for name in run.children() if "test" in run.children(name) or "val" in run.children(name)]
    for model in (*first, *(name for name in scored if name not in (*first, "logreg32")), "logreg32"):
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
    empty = run.leaf("progress", "untreated", "empty_mask")
    if empty is not None:
        rows.append(("Diseased films whose class activation map is empty", empty))
    return rows


def headline(run: Run) -> str:
    """The main finding in a sentence or two; which finding is fixed beforehand, not picked for looking well."""
    sentences = [text for text in (_classifier_sentence(run), _ranking_sentence(run)) if text]
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


def _ranking_sentence(run: Run) -> str:
    """What the best-ranked guided arm leaves of the rest of the film, beside the baseline, at the lowest rate compared.

    The rule: of the arms that a classifier's map guides, by this run's own diffusion, the first in the ranking (the
    smallest change outside the mask where the first judge reaches the rate) is named, with the paired difference to
    uniform noise, whichever way it points. Where none reaches the rate, that is what is said.
    """
    rate = arms.first_rate(run)
    chosen = [arm for arm in (arms.ranked(run, rate) if rate else []) if arms.guided(run, arm)]
    if not chosen:
        return ""
    best, judge = chosen[0], run.judges()[0]
    share = f"{100 * float(rate):.0f} %"
    named = f"{pretty(judge)}{'' if judge == 'cam_network' else ' judge'}"
    change = arms.at_rate(run, rate, best, "mae", "outside")
    if change is None:
        return _missed(run, best, rate, named)
    start = f"Where {share} of the treated diseased films are called normal by the {named}, "
    shown = f"{pretty('mae')} outside the CAM mask {with_interval(change)}"
    difference = arms.at_rate(run, rate, best, "mae", "outside", "difference")
    caution = f" It is the best of {len(chosen)} guided arms, chosen on these films." if len(chosen) > 1 else ""
    caution += " A masked mode hardly treats what lies outside its mask."
    if difference is None:
        return f"{start}{best} cannot be compared with uniform noise: {shown}, and uniform noise never gets there."
    claim = {
        "better": f"{best} leaves the rest of the film better preserved than uniform noise does",
        "worse": f"{best} preserves the rest of the film less well than uniform noise does",
        "": f"{best} and uniform noise cannot be told apart in how they preserve the rest of the film",
    }[verdict("mae", difference)]
    return f"{start}{claim}: {shown}, difference {with_interval(difference, signed=True)}.{caution}"


def _missed(run: Run, best: str, rate: str, judge: str) -> str:
    """That no guided arm comes from below to the rate, and how near the nearest comes."""
    untreated, highest = run.leaf("progress", "untreated", "normal_rate", *run.judges()[:1]), arms.best_rate(run, best)
    share = f"{100 * float(rate):.0f} %"
    if untreated is not None and is_number(untreated.value) and float(untreated.value) >= float(rate):
        return (
            f"Before any treatment, the {judge} already calls a share of {with_interval(replace(untreated, unit=''))} "
            f"of the diseased films normal; arms cannot be compared at {share}."
        )
    if highest is None:
        return ""
    lam, leaf = highest
    return (
        f"No guided arm brings the {judge} to call {share} of the treated diseased films normal; {best} comes nearest, "
        f"with a share of {with_interval(replace(leaf, unit=''))} at λ = {lam}."
    )


def grouped(run: Run) -> dict[str, dict[str, list[Leaf]]]:
    """Every leaf of results.json by its first name, nothing left out; a large group in parts by its further names."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in run.leaves:
        groups.setdefault(leaf.path[0] if len(leaf.path) > 1 else "other", []).append(leaf)
    return {name: dict(_parts(leaves, 1)) for name, leaves in groups.items()}


def _parts(leaves: list[Leaf], depth: int) -> Iterator[tuple[str, list[Leaf]]]:
    """Leaves by the first `depth` names of their paths, and by as many more as keep a part short."""
    parts: dict[tuple[str, ...], list[Leaf]] = {}
    for leaf in leaves:
        parts.setdefault(leaf.path[:depth], []).append(leaf)
    for path, some in parts.items():
        if len(some) <= _MOST_IN_A_PART or all(len(leaf.path) <= depth + 1 for leaf in some):
            yield ".".join(path), some
        else:
            yield from _parts(some, depth + 1)
