"""The arms of a treatment study on its own films and on films from elsewhere: side by side, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import ranking
from cxrjax.studies.treatment.sources import INSIDE, OWN, SHARE
from cxrjax.types import Results

RESET = " at thresholds set there"  # after a set's name
# How the keys of rates end, and by which threshold of the judge they are.
KINDS = {
    "": f"at the judge's own threshold, {OWN:g}",
    "_set": f"at a threshold that {SHARE:.0%} of a few healthy films of each source lie above",
}


def by_source(out: Results) -> dict[str, Results]:
    """A study's figures by source: the run's own, then each set's."""
    return {INSIDE: out, **{name: found for name, found in out.get("external", {}).items() if "progress" in found}}


def reached(found: Results, arms: tuple[str, ...], judge: str, level: str, at: str) -> list[str]:
    """The arms that reach a normal rate, in the order of their ranking."""
    order = ranking.order(found, arms, judge, level, at)
    return [arm for arm in order if ranking.change(found, arm, judge, level, at) is not None]


def tables(out: Results, arms: tuple[str, ...], judge: str, level: float) -> list[Table]:
    """Every arm's rank on each source, a table for each threshold, and every set's rates; none without such sets."""
    every = by_source(out)
    if len(every) == 1:
        return []
    kinds = [at for at in KINDS if all(f"equal_rate{at}" in found for found in every.values())]
    sides = [_table(every, arms, judge, str(level), at) for at in kinds]
    return sides + [ranking.by_arm(found, arms, name) for name, found in every.items() if name != INSIDE]


def leaderboards(out: Results, arms: tuple[str, ...], judge: str, levels: tuple[float, ...]) -> list[Table]:
    """Every arm's rank on the run's own films, on each set, and on it with thresholds set on its healthy films, a table
    a rate that says where the order changes; none without such sets."""
    every = by_source(out)
    if len(every) == 1:
        return []
    made = []
    for level in map(str, levels):
        boards = {INSIDE: reached(out, arms, judge, level, "")}
        for source, found in every.items():
            if source != INSIDE:
                for at in KINDS:
                    boards[source + RESET * bool(at)] = reached(found, arms, judge, level, at)
        rows: list[tuple[str, list[Any]]] = [
            (arm, [ranking.whose(out, arm), *(_rank(board, arm) for board in boards.values())])
            for arm in ranking.order(out, arms, judge, level)
        ]
        said = [
            f"From {first} to {second}: {_order_words(boards[first], boards[second], first, second)}"
            for first, second in _compared(list(boards))
        ]
        note = (
            "The rank of each arm by its change outside the CAM mask where the independent judge first calls "
            f"{level} of the diseased films normal; a dash where it does not come to that rate, or untreated films "
            f"have it. The judge is asked at its own threshold, or at one that {SHARE:.0%} of a few healthy films of "
            f"the set lie above. {' '.join(said)}"
        )
        made.append(table(f"Leaderboards at normal rate {level}", note, ["whose", *boards], rows))
    return made


def _rank(board: list[str], arm: str) -> str:
    return str(board.index(arm) + 1) if arm in board else "-"


def _compared(names: list[str]) -> list[tuple[str, str]]:
    """Which leaderboards are held against which: all others against the first, and a set's with its own other one."""
    return [(INSIDE, name) for name in names[1:]] + [(name, name + RESET) for name in names if name + RESET in names]


def _table(every: dict[str, Results], arms: tuple[str, ...], judge: str, level: str, at: str) -> Table:
    columns: list[str] = []
    cells: dict[str, list[Any]] = {arm: [] for arm in arms}
    for source, found in every.items():
        heads = (
            "rank",
            "change outside the mask",
            ranking.LESS,
            f"re-identified, {ranking.MORE}",
        )
        columns += [f"{source}: {head}" for head in heads]
        ranks = {arm: i for i, arm in enumerate(reached(found, arms, judge, level, at), start=1)}
        for arm in arms:
            if arm in ranks:
                entry = found[f"equal_rate{at}"][judge][level][arm]
                change, same = entry["mae"]["outside"], entry["reidentified"]["first"]
                cells[arm] += [str(ranks[arm]), change["value"], change.get("difference"), same.get("difference")]
            else:
                best, lam = ranking.best_rate(found, arm, judge, at)
                missed = f"highest rate {best:.2f} at {lam}" if best < float(level) else "reached untreated"
                cells[arm] += [missed, None, None, None]
    rows = [(arm, cells[arm]) for arm in ranking.order(every[INSIDE], arms, judge, level, at)]
    note = (
        f"Where the independent judge first calls {float(level):g} of the diseased films of a source normal, "
        f"{KINDS[at]}; the same networks and arms. Rank 1 changes least outside the CAM mask. An arm has no rank where "
        "it misses the rate, or where untreated films have it already. Where the difference to uniform lies wholly "
        "below 0, the arm keeps more of the patient. "
    )
    words = "thresholds set on healthy films" if at else "own thresholds"
    title = f"Arms inside and outside at normal rate {level}, {words}"
    return table(title, note + " ".join(sentences(every, arms, judge, level, at)), columns, rows)


def sentences(every: Mapping[str, Results], arms: tuple[str, ...], judge: str, level: str, at: str) -> list[str]:
    """For each set from elsewhere, whether the order of arms is that inside, and how many keep more than uniform."""
    inside = reached(every[INSIDE], arms, judge, level, at)
    return [
        _order_words(inside, reached(found, arms, judge, level, at), INSIDE, name)
        + f" More of the patient than by uniform noise, beyond the interval, is kept by "
        f"{_kept(every[INSIDE], judge, level, at)} inside, by {_kept(found, judge, level, at)} on {name}."
        for name, found in every.items()
        if name != INSIDE
    ]


def _order_words(first: list[str], second: list[str], where: str, there: str) -> str:
    both = [arm for arm in first if arm in second]
    count = f"{len(first)} arm{'s' * (len(first) != 1)} reach{'es' * (len(first) == 1)}"
    reach = f"{count} the rate {_on(where)}, {len(second)} {_on(there)}, {len(both)} on both"
    if len(both) < 2:
        return f"{reach}: their order cannot be compared."
    return f"{reach}: of these {order_words(both, [arm for arm in second if arm in both], where, there)}"


def order_words(first: list[str], second: list[str], where: str, there: str) -> str:
    """Whether the same arms are in another order elsewhere."""
    pairs = list(combinations(first, 2))
    turned = sum(second.index(a) > second.index(b) for a, b in pairs)
    if not turned:
        return "the order is the same."
    lead = f"{first[0]} is first on both"
    if first[0] != second[0]:
        lead = f"{first[0]} is first {_on(where)}, {second[0]} {_on(there)}"
    return f"the order changes, {turned} of {len(pairs)} pairs change places; {lead}."


def _on(source: str) -> str:
    return source if source == INSIDE else f"on {source}"


def _kept(found: Results, judge: str, level: str, at: str) -> str:
    """How many arms change less outside the mask than uniform noise does, beyond the interval, of how many."""
    entries = found.get(f"equal_rate{at}", {}).get(judge, {}).get(level, {}).values()
    gaps = [entry["mae"]["outside"].get("difference") for entry in entries]
    known = [gap for gap in gaps if gap and gap["high"] is not None]
    return f"{sum(gap['high'] < 0 for gap in known)} of {len(known)} arms"


def said(out: Results, arms: tuple[str, ...], judge: str, level: float) -> list[str]:
    """What becomes of the order of arms outside, for a headline: at own thresholds, or at the set ones where no arm
    reaches the rate outside at its own."""
    every = by_source(out)
    if len(every) == 1:
        return []
    for at, words in KINDS.items():
        if any(reached(found, arms, judge, str(level), at) for name, found in every.items() if name != INSIDE):
            told = " ".join(sentences(every, arms, judge, str(level), at))
            return [f"At the normal rate {level:g}, {words}: {told}"]
    return [f"On films from elsewhere no arm comes to the normal rate {level:g}, at either threshold."]
