"""The table that ranks the arms of a treatment study, and those beside it, from its results."""

from __future__ import annotations

import math
from typing import Any

from cxrjax.studies.tables import Table, table
from cxrjax.types import Results


def _value(entry: Any) -> float:
    value = entry.get("value") if isinstance(entry, dict) else None
    return float(value) if value is not None and math.isfinite(value) else math.nan


def _best_rate(out: Results, mode: str, judge: str) -> tuple[float, str]:
    """The highest normal rate of an arm and the lambda it comes at."""
    rates = [(_value(entry["normal_rate"][judge]), lam) for lam, entry in out["progress"][mode].items()]
    return max(rates, default=(math.nan, ""))


def order(out: Results, modes: tuple[str, ...], judge: str, level: str) -> list[str]:
    """Arms by their change outside the mask at the normal rate `level`.

    Those that reach it in too few resamples for an interval come after, and those that miss it last, by their best
    rate.
    """
    at = out["equal_rate"].get(judge, {}).get(level, {})

    def key(mode: str) -> tuple[int, float]:
        entry = at.get(mode, {}).get("mae", {}).get("outside", {}).get("value")
        change = _value(entry)
        if math.isnan(change):
            return 2, -_best_rate(out, mode, judge)[0]
        return int(entry["low"] is None), change

    return sorted(modes, key=key)


def tables(out: Results, modes: tuple[str, ...], judge: str, levels: tuple[float, ...], truth: bool) -> list[Table]:
    """The ranking at each normal rate, then every arm at its highest lambda."""
    found = []
    for level in levels:
        at = out["equal_rate"].get(judge, {}).get(str(level), {})
        columns = ["change outside the mask", "minus uniform, paired", "change, whole film", "SSIM outside"]
        picked = [("mae", "outside", "value"), ("mae", "outside", "difference"), ("mae", "whole", "value"),
                  ("ssim", "outside", "value")]  # fmt: skip
        if truth:
            columns += [
                "error to the twin, in the lesion", "error to the twin, outside the lesion",
                "the same minus uniform, paired",
            ]  # fmt: skip
            picked += [("twin_error", "inside", "value"), ("twin_error", "outside", "value"),
                       ("twin_error", "outside", "difference")]  # fmt: skip
        columns += ["cosine of features", "re-identified", "highest normal rate, at lambda"]
        picked += [("cosine", "features", "value"), ("reidentified", "first", "value")]
        rows = []
        for mode in order(out, modes, judge, str(level)):
            cells: list[Any] = [at.get(mode, {}).get(m, {}).get(where, {}).get(kind) for m, where, kind in picked]
            best, lam = _best_rate(out, mode, judge)
            if math.isnan(_value(cells[0])):
                cells = ["not reached", *[None] * (len(cells) - 1)]
            rows.append((mode, [*cells, f"{best:.3f} at {lam}"]))
        found.append(
            table(
                f"Arms ranked at normal rate {level:g}",
                "By the change outside the CAM mask where the independent judge first calls this share of diseased "
                "films normal; an arm that gets there in under 95 % of the resamples has no interval and comes after "
                "those that do, and one that never gets there ranks last, by its highest rate. Paired intervals by "
                "resampling films; where the difference to uniform lies wholly below 0, the arm keeps more of the "
                "patient. A masked arm hardly treats what lies outside its mask, so part of its lead is built in.",
                columns,
                rows,
            )
        )
    found.append(_by_arm(out, modes))
    return found


def _by_arm(out: Results, modes: tuple[str, ...]) -> Table:
    """Every arm at the largest lambda: realism, both judges, controls, time."""
    judges = list(out["progress"]["untreated"]["normal_rate"])
    columns = [f"called normal, {judge.replace('_', ' ')}" for judge in judges]
    columns += ["distance to healthy films (FDD)", "healthy films kept normal", "change of healthy films", "s a film"]
    rows: list[tuple[str, list[Any]]] = [
        (
            "untreated",
            [
                *(out["progress"]["untreated"]["normal_rate"][j] for j in judges),
                out["progress"]["untreated"].get("fdd"),
                out["control"]["untreated"]["normal_rate"][judges[0]],
                None,
                None,
            ],
        )
    ]
    for mode in modes:
        lam = max(out["progress"][mode], key=int)
        entry, healthy = out["progress"][mode][lam], out["control"][mode][lam]
        rows.append((f"{mode}, lambda {lam}", [
            *(entry["normal_rate"][j] for j in judges), entry.get("fdd"), healthy["normal_rate"][judges[0]],
            healthy["change"], entry["seconds_a_film"],
        ]))  # fmt: skip
    floor = _value(out.get("realism", {}).get("floor"))
    note = "At the largest lambda. "
    if math.isnan(floor):
        note += "Too few films for a Frechet distance."
    else:
        note += (
            "FDD: Frechet distance, in the principal axes of the independent judge's features, to held-out healthy "
            f"films, less its bias; two sets of healthy films of their number are {floor:.3g} apart before that."
        )
    return table("Arms at the largest lambda", note, columns, rows)
