"""The table that ranks the arms of a treatment study, and those beside it, from its results."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cxrjax.studies.tables import Table, table
from cxrjax.types import Results

RANKED = ("mae", "outside")  # what `order` goes by, a measure and a region
LESS, MORE = "minus uniform, paired", "minus uniform, more is better"  # a page colors the differences by these


def _value(entry: Any) -> float:
    value = entry.get("value") if isinstance(entry, dict) else None
    return float(value) if value is not None and math.isfinite(value) else math.nan


def best_rate(out: Results, mode: str, judge: str, at: str = "") -> tuple[float, str]:
    """The highest normal rate of an arm and the lambda it comes at; `at` as in `order`."""
    rates = [(_value(entry[f"normal_rate{at}"][judge]), lam) for lam, entry in out["progress"][mode].items()]
    return max(rates, default=(math.nan, ""))


def change(out: Results, mode: str, judge: str, level: str, at: str = "") -> Any:
    """The entry of an arm's change outside the mask at the normal rate `level`, None where it misses that."""
    found = out.get(f"equal_rate{at}", {}).get(judge, {}).get(level, {})
    measure, region = RANKED
    entry = found.get(mode, {}).get(measure, {}).get(region, {}).get("value")
    return None if math.isnan(_value(entry)) else entry


def order(out: Results, modes: tuple[str, ...], judge: str, level: str, at: str = "") -> list[str]:
    """Arms by their change outside the mask at the normal rate `level`.

    Those that reach it in too few resamples for an interval come after, and those that miss it last, by their best
    rate. With `at` = "_set" the rate is that at the threshold set on healthy films.
    """

    def key(mode: str) -> tuple[int, float]:
        entry = change(out, mode, judge, level, at)
        if entry is None:
            return 2, -best_rate(out, mode, judge, at)[0]
        return int(entry["low"] is None), entry["value"]

    return sorted(modes, key=key)


def best(out: Results, guided: tuple[str, ...], judge: str, level: str, at: str = "") -> str:
    """The first of the arms of ours that a map guides, in `order`; "" where none comes to the rate."""
    there = [mode for mode in guided if change(out, mode, judge, level, at) is not None]
    return order(out, tuple(there), judge, level, at)[0] if there else ""


def guided(out: Results, modes: tuple[str, ...]) -> tuple[str, ...]:
    """The arms of ours that a classifier's map guides while they walk."""
    return tuple(mode for mode in modes if out.get("arms", {}).get(mode, {}).get("guided"))


def whose(out: Results, mode: str) -> str:
    """Who an arm is from: "baseline", "rival" or "ours"."""
    if mode == "uniform":
        return "baseline"
    return "rival" if out.get("arms", {}).get(mode, {}).get("rival") else "ours"


def tables(out: Results, modes: tuple[str, ...], judge: str, levels: tuple[float, ...], truth: bool) -> list[Table]:
    """The ranking at each normal rate, then every arm at its highest lambda."""
    found = []
    for level in levels:
        at = out["equal_rate"].get(judge, {}).get(str(level), {})
        columns = ["change outside the mask", LESS, "change, whole film", "SSIM outside"]
        picked = [("mae", "outside", "value"), ("mae", "outside", "difference"), ("mae", "whole", "value"),
                  ("ssim", "outside", "value")]  # fmt: skip
        if truth:
            columns += [
                "error to the twin, in the lesion", "error to the twin, outside the lesion",
                f"the same {LESS}",
            ]  # fmt: skip
            picked += [("twin_error", "inside", "value"), ("twin_error", "outside", "value"),
                       ("twin_error", "outside", "difference")]  # fmt: skip
        columns += ["cosine of features", "re-identified", "pixels changed", "network evaluations a film", "s a film",
                    "whose", "highest normal rate, at lambda"]  # fmt: skip
        picked += [("cosine", "features", "value"), ("reidentified", "first", "value"), ("changed", "whole", "value"),
                   ("evaluations", "film", "value"), ("seconds", "film", "value")]  # fmt: skip
        rows = []
        for mode in order(out, modes, judge, str(level)):
            cells: list[Any] = [at.get(mode, {}).get(m, {}).get(where, {}).get(kind) for m, where, kind in picked]
            best, lam = best_rate(out, mode, judge)
            if math.isnan(_value(cells[0])):
                cells = ["not reached", *[None] * (len(cells) - 1)]
            rows.append((mode, [*cells, whose(out, mode), f"{best:.3f} at {lam}"]))
        found.append(
            table(
                f"Arms ranked at normal rate {level:g}",
                "By the change outside the CAM mask where the independent judge first calls this share of diseased "
                "films normal; an arm that gets there in under 95 % of the resamples has no interval and comes after "
                "those that do, and one that never gets there ranks last, by its highest rate. Paired intervals by "
                "resampling films; where the difference to uniform lies wholly below 0, the arm keeps more of the "
                "patient. A masked arm hardly treats what lies outside its mask, so part of its lead is built in. "
                "Costs are interpolated to the rate, as every figure is; a foreign arm's are not known.",
                columns,
                rows,
            )
        )
    return [*found, *_beside(out, modes, judge, str(levels[0])), by_arm(out, modes)]


class _Beside(NamedTuple):
    """A measure of a table: how it is called, how its difference to the baseline is, and what it rewards."""

    head: str
    gap: str
    rewards: str


_BESIDE = {
    ("cosine", "embedding"): _Beside(
        "likeness to the network that tells patients apart", MORE,
        "the cosine of a treated film's embedding with its own film's: it rewards keeping what tells a patient from "
        "others, and doing nothing",
    ),
    ("lungs", "dice"): _Beside(
        "lungs found before and after, Dice", MORE,
        "the lung finder's outlines before and after: it rewards an anatomy that stays, and takes opened lungs for "
        "others",
    ),
    ("attributes", "changed"): _Beside(
        "other findings changed (MNAC)", LESS,
        "findings beside the disease that another run's classifier calls otherwise than before: it rewards leaving the "
        "rest of the film alone",
    ),
}  # fmt: skip


def _beside(out: Results, modes: tuple[str, ...], judge: str, level: str) -> list[Table]:
    """What else of the patient changed, where a study asks for it."""
    at = out["equal_rate"].get(judge, {}).get(level, {})
    there = [key for key in _BESIDE if any(key[1] in entry.get(key[0], {}) for entry in at.values())]
    if not there:
        return []
    columns = [head for key in there for head in (_BESIDE[key].head, _BESIDE[key].gap)]
    rows = []
    for mode in order(out, modes, judge, level):
        entry = [at.get(mode, {}).get(measure, {}).get(where, {}) for measure, where in there]
        rows.append((mode, [found.get(kind) for found in entry for kind in ("value", "difference")]))
    said = "; ".join(f"{_BESIDE[key].head}: {_BESIDE[key].rewards}" for key in there)
    note = f"Interpolated to the rate, in the order of the ranking. {said[0].upper()}{said[1:]}."
    return [table(f"What else changed at normal rate {level}", note, columns, rows)]


def by_arm(out: Results, modes: tuple[str, ...], source: str = "") -> Table:
    """Every arm at the largest lambda: realism, both judges, controls, time; `source` is of films from elsewhere."""
    judges = list(out["progress"]["untreated"]["normal_rate"])
    rates = [("normal_rate", judge, "called normal") for judge in judges]
    if "normal_rate_set" in out["progress"]["untreated"]:
        rates += [("normal_rate_set", judge, "at the set threshold") for judge in judges]
    columns = [f"{words}, {judge.replace('_', ' ')}" for _, judge, words in rates]
    columns += ["distance to healthy films (FDD)", "healthy films kept normal", "change of healthy films", "s a film"]
    columns += ["also called normal by the independent judge, of those that convince the CAM network", "COUT"]
    rows: list[tuple[str, list[Any]]] = [
        (
            "untreated",
            [
                *(out["progress"]["untreated"][kind][judge] for kind, judge, _ in rates),
                out["progress"]["untreated"].get("fdd"),
                out["control"]["untreated"]["normal_rate"][judges[0]],
                *[None] * 4,
            ],
        )
    ]
    for mode in modes:
        lam = max(out["progress"][mode], key=int)
        entry, healthy = out["progress"][mode][lam], out["control"][mode][lam]
        rows.append((f"{mode}, lambda {lam}", [
            *(entry[kind][judge] for kind, judge, _ in rates), entry.get("fdd"), healthy["normal_rate"][judges[0]],
            healthy["change"], entry.get("seconds_a_film"), entry.get("transfer"), entry.get("cout", {}).get(judges[0]),
        ]))  # fmt: skip
    last = (
        " COUT: how few of the changed pixels turn the independent judge. It and few changed pixels reward a network "
        "that is fooled; a low share of convinced films that the other judge calls normal is the sign of that."
    )
    floor = _value(out.get("realism", {}).get("floor"))
    note = "At the largest lambda. "
    if len(rates) > len(judges):
        note += "The set threshold is one that 90 % of a few untreated healthy films of this source lie above. "
    if math.isnan(floor):
        note += "Too few films for a Frechet distance."
    else:
        note += (
            "FDD: Frechet distance, in the principal axes of the independent judge's features, to held-out healthy "
            f"films, less its bias; two sets of healthy films of their number are {floor:.3g} apart before that."
        )
    return table("Arms at the largest lambda" + f": {source}" * bool(source), note + last, columns, rows)
