"""The arms inside and outside: who reaches the rate, whether their order changes, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest

from cxrjax.metrics import entries
from cxrjax.studies.treatment import outside

ARMS = ("uniform", "time_gated", "noise_matrix", "mask_blend")


def leaf(value: float | None, half: float = 0.01) -> dict[str, Any]:
    if value is None:
        return entries.plain(float("nan"), 30)
    return entries.entry(value, value - half, value + half, n=30)


def figures(changes: dict[str, float | None], best: float = 0.3, at: str = "") -> dict[str, Any]:
    """One source's figures: each arm's change outside the mask at equal normal rate, None where it misses that."""
    base = changes["uniform"]

    def compared(arm: str) -> dict[str, Any]:
        value, gap = changes[arm], None
        if value is not None and base is not None:
            gap = value - base
        return {"value": leaf(value)} | ({} if arm == "uniform" else {"difference": leaf(gap)})

    table = {arm: {"mae": {"outside": compared(arm)}, "reidentified": {"first": compared(arm)}} for arm in changes}
    rates = {"normal_rate": {"independent": leaf(best)}, "normal_rate_set": {"independent": leaf(best + 0.1)}}
    whole = {"fdd": None, "seconds_a_film": leaf(1.0), **rates}
    return {
        f"equal_rate{at}": {"independent": {"0.5": table}},
        "progress": {"untreated": rates, **{arm: {"100": rates, "400": whole} for arm in changes}},
        "control": {"untreated": rates, **{arm: {"400": {**rates, "change": leaf(0.1)}} for arm in changes}},
    }


INSIDE: dict[str, float | None] = {"uniform": 0.08, "time_gated": 0.02, "noise_matrix": 0.04, "mask_blend": 0.06}


def said(there: dict[str, float | None]) -> str:
    out = figures(INSIDE) | {"external": {"official": figures(there)}}
    (words,) = outside.sentences(outside.by_source(out), ARMS, "independent", "0.5", "")
    return words


def test_the_same_order_is_said_to_be_the_same_and_another_is_told_with_its_pairs():
    same = said({arm: 2 * value for arm, value in INSIDE.items() if value})
    assert same.startswith("4 arms reach the rate inside, 4 on official, 4 on both: of these the order is the same.")
    turned = said({"uniform": 0.08, "time_gated": 0.05, "noise_matrix": 0.03, "mask_blend": 0.06})
    assert "the order changes, 1 of 6 pairs change places" in turned
    assert "time_gated is first inside, noise_matrix on official." in turned
    last = said({"uniform": 0.01, "time_gated": 0.02, "noise_matrix": 0.04, "mask_blend": 0.06})
    assert "3 of 6 pairs change places; time_gated is first inside, uniform on official." in last
    assert "is kept by 3 of 3 arms inside, by 0 of 3 arms on official." in last
    assert "time_gated is first on both" in said({**INSIDE, "noise_matrix": 0.07})


def test_arms_that_miss_the_rate_on_one_side_take_no_part():
    some = said({"uniform": 0.08, "time_gated": None, "noise_matrix": 0.05, "mask_blend": 0.04})
    assert some.startswith("4 arms reach the rate inside, 3 on official, 3 on both: of these the order changes, 1 of 3")
    assert "noise_matrix is first inside, mask_blend on official" in some
    one = said({"uniform": None, "time_gated": 0.05, "noise_matrix": None, "mask_blend": None})
    assert "1 on both: their order cannot be compared." in one
    assert "by 0 of 0 arms on official" in one


def test_the_table_has_both_ranks_of_every_arm_and_the_highest_rate_of_one_that_misses():
    out = figures(INSIDE)
    there = figures({"uniform": 0.08, "time_gated": None, "noise_matrix": 0.05, "mask_blend": 0.04}, best=0.41)
    ours, rates = outside.tables(out | {"external": {"official": there}}, ARMS, "independent", 0.5)
    assert ours["title"] == "Arms inside and outside at normal rate 0.5, own thresholds"
    rows = {row["name"]: row["cells"] for row in ours["rows"]}
    assert list(rows) == ["time_gated", "noise_matrix", "mask_blend", "uniform"]
    columns = ours["columns"]
    ranks = [[rows[arm][columns.index(f"{source}: rank")] for arm in rows] for source in ("inside", "official")]
    assert ranks == [["1", "2", "3", "4"], ["highest rate 0.41 at 400", "2", "1", "3"]]
    gap = columns.index("official: minus uniform, paired")
    assert rows["mask_blend"][gap]["value"] == pytest.approx(-0.04)
    assert rows["time_gated"][gap] is None
    assert "the order changes" in ours["note"]
    there = figures(dict.fromkeys(ARMS), best=0.6)
    ours, _ = outside.tables(out | {"external": {"official": there}}, ARMS, "independent", 0.5)
    assert {row["cells"][columns.index("official: rank")] for row in ours["rows"]} == {"reached untreated"}
    assert rates["title"] == "Arms at the largest lambda: official"
    assert "at the set threshold, independent" in rates["columns"]


def test_three_leaderboards_stand_side_by_side_and_each_changed_order_is_said():
    own, turned = figures(INSIDE), {**INSIDE, "noise_matrix": 0.01, "uniform": None}
    there = figures(dict(turned)) | figures({**INSIDE, "mask_blend": 0.01}, at="_set")
    (table,) = outside.leaderboards(
        own | {"external": {"official": there}, "arms": {"mask_blend": {"rival": True}}}, ARMS, "independent", (0.5,)
    )  # fmt: skip
    assert table["title"] == "Leaderboards at normal rate 0.5"
    assert table["columns"] == ["whose", "inside", "official", "official at thresholds set there"]
    assert {row["name"]: row["cells"] for row in table["rows"]} == {
        "time_gated": ["ours", "1", "2", "2"], "noise_matrix": ["ours", "2", "1", "3"],
        "mask_blend": ["rival", "3", "3", "1"], "uniform": ["baseline", "4", "-", "4"],
    }  # fmt: skip
    first, second, third = table["note"].split("From ")[1:]
    assert first.startswith("inside to official: 4 arms reach the rate inside, 3 on official, 3 on both: of these the")
    assert "the order changes, 1 of 3 pairs change places; time_gated is first inside, noise_matrix on off" in first
    assert "the order changes, 2 of 6 pairs change places" in second
    assert third.startswith("official to official at thresholds set there: 3 arms reach the rate on official, 4 on off")
    assert "noise_matrix is first on official, mask_blend on official at thresholds set there." in third
    alike = own | {"external": {"official": own | figures(INSIDE, at="_set")}}
    same = outside.leaderboards(alike, ARMS, "independent", (0.5,))
    assert same[0]["note"].count("the order is the same.") == 3
    assert "changes" not in same[0]["note"].replace("the order is the same", "")


def test_nothing_is_compared_without_films_from_elsewhere():
    assert outside.tables(figures(INSIDE), ARMS, "independent", 0.5) == []
    assert outside.leaderboards(figures(INSIDE), ARMS, "independent", (0.5, 0.8)) == []
    assert outside.said(figures(INSIDE), ARMS, "independent", 0.5) == []


def test_a_headline_falls_back_on_the_set_thresholds_where_no_arm_reaches_the_rate_outside():
    none: dict[str, float | None] = dict.fromkeys(ARMS)
    inside = figures(INSIDE) | figures(INSIDE, at="_set")
    lost = figures(none) | figures({**INSIDE, "time_gated": 0.07}, at="_set")
    (told,) = outside.said(inside | {"external": {"official": lost}}, ARMS, "independent", 0.5)
    assert "at a threshold that 90% of a few healthy films of each source lie above: 4 arms reach" in told
    assert "noise_matrix on official" in told
    both = figures(none) | figures(none, at="_set")
    (told,) = outside.said(inside | {"external": {"official": both}}, ARMS, "independent", 0.5)
    assert told == "On films from elsewhere no arm comes to the normal rate 0.5, at either threshold."
    (told,) = outside.said(inside | {"external": {"official": figures(INSIDE)}}, ARMS, "independent", 0.5)
    assert told.startswith("At the normal rate 0.5, at the judge's own threshold, 0.5: 4 arms")
