"""Who is ahead in what: every arm against the best guided one of ours at equal normal rate, by paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import ranking
from cxrjax.types import Results

# What arms are compared in: measure, region, words, and whether more is better.
CONTESTS = (
    (*ranking.RANKED, "change outside the mask", False),
    ("twin_error", "inside", "error to the twin in the lesion", False),
    ("twin_error", "outside", "error to the twin outside it", False),
    ("reidentified", "first", "re-identification", True),
    ("cosine", "features", "likeness of the judge's features", True),
    ("cosine", "embedding", "likeness to who tells patients apart", True),
    ("anatomy", "all", "drawn anatomy changed", False),
)


def _gap(at: Results, mode: str, measure: str, where: str) -> Any:
    return at.get(mode, {}).get(measure, {}).get(where, {}).get("minus_best")


def _lead(gap: Any, more: bool) -> int:
    """1 where an arm's difference to the best of ours says ours is ahead, -1 where the arm is, 0 where neither."""
    if gap is None or gap["low"] is None or gap["low"] <= 0 <= gap["high"]:
        return 0
    return 1 if (gap["low"] > 0) != more else -1


def _found(out: Results, modes: tuple[str, ...], judge: str, level: float) -> tuple[Results, str, list[str], list[str]]:
    """The figures at a rate, the best of ours there, the other arms that come to it in their order, and the rest."""
    at, key = out.get("equal_rate", {}).get(judge, {}).get(str(level), {}), str(level)
    best = ranking.best(out, ranking.guided(out, modes), judge, key)
    others = [mode for mode in ranking.order(out, modes, judge, key) if mode != best]
    there = [mode for mode in others if ranking.change(out, mode, judge, key) is not None]
    return at, best, there, [mode for mode in others if mode not in there]


def _words(out: Results, modes: tuple[str, ...], judge: str, level: float) -> str:
    """Of which rivals the best of ours is ahead in what, and behind which; "" where no rival was run."""
    at, best, there, missing = _found(out, modes, judge, level)
    rivals, absent = ([mode for mode in some if ranking.whose(out, mode) != "ours"] for some in (there, missing))
    if all(ranking.whose(out, mode) == "baseline" for mode in (*rivals, *absent)):
        return ""
    gone = f" {_names(absent)} {'does' if len(absent) == 1 else 'do'} not come to the rate." if absent else ""
    if not best:
        return f"At normal rate {level:g} no guided arm of ours arrives; of the others {_names(rivals)} do.{gone}"
    parts: dict[str, list[str]] = {}  # measures of one verdict are told together
    for measure, where, words, more in CONTESTS:
        leads = {mode: _lead(gap, more) for mode in rivals if (gap := _gap(at, mode, measure, where))}
        sides = [("ahead of", 1), ("behind", -1), ("not told apart from", 0)]
        said = [f"{how} {_names(some)}" for how, sign in sides if (some := [m for m, x in leads.items() if x == sign])]
        if said:
            parts.setdefault(", ".join(said), []).append(words)
    if not parts:
        return f"At normal rate {level:g} {best} arrives, and none of the rivals does.{gone}"
    told = [f"in {_names(words)} {sides}" for sides, words in parts.items()]
    return (
        f"At normal rate {level:g}, {best}, which of our guided arms changes least outside the mask on these films, "
        f"stands as follows by paired 95 % intervals off 0: {'; '.join(told)}.{gone}"
    )


def _names(modes: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(modes[:-1]), *modes[-1:]))) or "none"


def tables(out: Results, modes: tuple[str, ...], judge: str, levels: tuple[float, ...]) -> list[Table]:
    """Every arm that comes to a rate less the best of ours, and in words who is ahead, a table a rate that has any."""
    made = []
    for level in levels:
        at, best, there, _ = _found(out, modes, judge, level)
        kept = [one for one in CONTESTS if any(_gap(at, mode, *one[:2]) for mode in there)]
        if not there:
            continue
        rows: list[tuple[str, list[Any]]] = [
            (mode, [ranking.whose(out, mode), *(_gap(at, mode, measure, where) for measure, where, *_ in kept)])
            for mode in there
        ]
        note = _words(out, modes, judge, level)
        if kept:
            note += (
                f" Below, each arm less {best}, chosen on these films; paired intervals by resampling films, none "
                "corrected for their number. An arm that comes to the rate in few resamples has no interval."
            )
        columns = ["whose", *(f"{words}, paired, {'more' if more else 'less'} is better" for _, _, words, more in kept)]
        made.append(table(f"Who is ahead at normal rate {level:g}", note.strip(), columns, rows))
    return made
