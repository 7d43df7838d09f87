"""The arms of a treatment study: which stand first, which are guided by a map, and which share a panel."""

from __future__ import annotations

import math
from itertools import pairwise

from cxrjax.report.read.treatment import MODE_ORDER, PIXEL, Treatment
from cxrjax.report.read.workdir import Entry, is_number

BASELINE = "uniform"
MOST_IN_A_PANEL = 8
AT_FIRST = 6  # arms whose films are shown before a reader asks for more
_UNGUIDED = ("uniform", "mask_blend")  # modes that no map guides, of runs from before results.json told of arms


def _told(run: Treatment, arm: str) -> dict[str, bool]:
    """What the study tells of an arm, see `infer.arms.told`; of an older run, what its config says."""
    name = arm.removeprefix(PIXEL)
    if told := (run.results.get("arms") or {}).get(name):
        return told
    given = (run.study.get("arms") or {}).get(name) or {}
    source = given.get("source") or (run.study.get("guidance") or {}).get("source")
    mode = str(given.get("mode", name.removesuffix("_hard")))
    return {"masked": mode != BASELINE, "guided": mode not in _UNGUIDED and source != "anomaly"}


def masked(run: Treatment, arm: str) -> bool:
    """Whether a mask says where an arm treats."""
    return _told(run, arm).get("masked", False)


def label(run: Treatment, arm: str) -> str:
    """An arm's name, marked where it is a rival's."""
    return f"{arm} (rival)" if _told(run, arm).get("rival") else arm


def guided(run: Treatment, arm: str) -> bool:
    """Whether a classifier's map guides the sampling of this run's own diffusion in an arm of ours."""
    return _told(run, arm).get("guided", False) and not arm.startswith(PIXEL)


def at_rate(
    run: Treatment, arm: str, measure: str, region: str, kind: str = "value", source: str = "", at: str = ""
) -> Entry | None:
    """A measure of an arm where the first judge first calls the lowest compared share of films normal.

    `kind` is "value", or "difference" for the paired difference to the baseline. `source` is a set from elsewhere, ""
    for the run's own films; `at` is "_set" for the threshold set on healthy films. None where that is never reached.
    """
    if not run.judges:
        return None
    place = (*below(source), f"equal_rate{at}", run.judges[0], run.ranking[0])
    entry = run.entry(*place, arm, measure, region, kind)
    return entry if entry is not None and is_number(entry.value) else None


def below(source: str) -> tuple[str, ...]:
    """Where the figures of a source stand in results.json."""
    return ("external", source) if source else ()


def best_rate(run: Treatment, arm: str, source: str = "", at: str = "") -> tuple[int, Entry] | None:
    """The highest normal rate that an arm comes to under the first judge, and the lambda it comes at; see `at_rate`."""
    group, rate = (*below(source), "progress"), f"normal_rate{at}"
    curve = [point for judge in run.judges[:1] for point in run.curve(group, arm, rate, judge)]
    return max(curve, key=lambda point: float(point[1].value), default=None)


def ranked(run: Treatment) -> list[str]:
    """Every arm, in the order of the study's ranking; those that it does not rank come last."""
    return list(dict.fromkeys((*run.ranking[1], *run.modes)))


def at_first(run: Treatment, available: list[str]) -> list[str]:
    """Of many arms those that a reader sees first: the known modes, then the best of the others in the ranking."""
    if len(available) <= AT_FIRST:
        return available
    some = [arm for arm in available if arm in MODE_ORDER][:AT_FIRST]
    others = [arm for arm in ranked(run) if arm in available and arm not in some]
    some += others[: AT_FIRST - len(some)]
    return [arm for arm in available if arm in some]


def panels(arms: list[str]) -> list[list[str]]:
    """Arms in groups that one panel can show, the baseline in each; `pixel_<arm>` stands with <arm>.

    One group where they are few. Otherwise the known modes, then the others in their order, in even groups.
    """
    names = list(dict.fromkeys(arm.removeprefix(PIXEL) for arm in arms))
    if len(names) <= MOST_IN_A_PANEL:
        groups = [names]
    else:
        known, others = ([n for n in names if (n in MODE_ORDER) == wanted] for wanted in (True, False))
        count = math.ceil(len(others) / (MOST_IN_A_PANEL - 1))
        cuts = [round(i * len(others) / count) for i in range(count + 1)]
        parts = [others[a:b] for a, b in pairwise(cuts)]
        groups = [group for group in (known, *([BASELINE, *part] for part in parts)) if group]
    return [[arm for name in group for arm in (name, PIXEL + name) if arm in arms] for group in groups]
