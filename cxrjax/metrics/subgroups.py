"""Whether a classifier serves all alike: its figures by age, sex, view or site, and the largest gap between groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from cxrjax.metrics import bootstrap, entries, shift
from cxrjax.metrics.entries import Results
from cxrjax.metrics.shift import DRAWS, Frame, Point, Said, Scored

LEAST = 20  # films of a group that has figures
BANDS = (18, 40, 60, 80)  # years at which a band of ages begins


def bands(age: np.ndarray) -> np.ndarray:
    """The band of each age in years (n,), as "40-59", by name in their order; "" where it is not known."""
    names = [f"0-{BANDS[0] - 1}", *(f"{a}-{b - 1}" for a, b in itertools.pairwise(BANDS)), f"{BANDS[-1]} and over"]
    return np.where(np.isfinite(age), np.array(names)[np.searchsorted(BANDS, np.nan_to_num(age), side="right")], "")


def score(
    said: Said, choose: Callable[[Frame], Point], classes: tuple[str, ...], exclusive: bool,
    groups: Mapping[str, np.ndarray], draws: int = DRAWS, seed: int = 0,
) -> Results:  # fmt: skip
    """Figures of every group of enough films, and the largest gap between two, by attribute.

    Args:
      said: of all films.
      choose: gives thresholds and temperature of a frame, chosen on other films.
      classes, exclusive: as in `shift.Frame`.
      groups: by attribute the group (n,) str of each film, "" where it is not known.
      draws: resamples of the patients, the same for all groups of an attribute: a patient may be in two of them.
      seed: of the resampling.

    Returns:
      By attribute `groups` {group: entries}, `gaps` {measure: entry with `between`, (highest, lowest)} and `classes`,
      those that every group has with and without. Measures: `auroc`, `tpr`, `fpr` and `ece`, of findings means over
      `classes`; ECE is after the temperature where there is one. A gap's interval is that of the difference of its two
      groups, which were named after looking. Attributes of fewer than two groups of `LEAST` films with both kinds are
      left out.
    """
    out: Results = {}
    for name, group in groups.items():
        rows = {str(one): np.flatnonzero(group == one) for one in np.unique(group[group != ""])}
        rows = {one: films for one, films in rows.items() if len(films) >= LEAST}
        both = {one: _both(said.label[films]) for one, films in rows.items()}
        rows = {one: films for one, films in rows.items() if both[one].any()}
        shared = np.all([both[one] for one in rows], axis=0) if rows else np.zeros(0, bool)
        if len(rows) < 2 or not shared.any():
            continue
        frame = Frame(classes, tuple(np.flatnonzero(shared).tolist()), exclusive)
        found = _scored(frame, said, choose(frame), rows, draws, seed)
        out[name] = {
            "classes": [classes[c] for c in frame.shared],
            "groups": {one: shift.side(scored) for one, scored in found.items()},
            "gaps": {measure: _gap(measure, found) for measure in next(iter(found.values())).values},
        }
    return out


def _both(label: np.ndarray) -> np.ndarray:
    """(k,) whether a class has films with and without it."""
    return (label == 1).any(axis=0) & (label == 0).any(axis=0)


def _scored(
    frame: Frame, said: Said, point: Point, rows: Mapping[str, np.ndarray], draws: int, seed: int
) -> dict[str, Scored]:
    each = {one: shift.figures(frame, said.rows(films), point.rows(films)) for one, films in rows.items()}

    def figures(weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        out: dict[tuple[str, str], np.ndarray] = {}
        for one, films in rows.items():
            found = each[one](weights[films])
            ece = found.get("ece_after_temperature", found["ece"])
            kept = {"auroc": found["auroc"], "tpr": found["sensitivity"], "fpr": 1 - found["specificity"], "ece": ece}
            out |= {(one, measure): value for measure, value in kept.items()}
        return out

    values = figures(np.ones((len(said.label), 1)))
    drawn = bootstrap.resampled(figures, said.patients, draws, seed)
    return {
        one: Scored(
            {measure: float(value[0]) for (group, measure), value in values.items() if group == one},
            {measure: value for (group, measure), value in drawn.items() if group == one}, len(films),
        )
        for one, films in rows.items()
    }  # fmt: skip


def _gap(measure: str, found: Mapping[str, Scored]) -> Results:
    known = [one for one, scored in found.items() if np.isfinite(scored.values[measure])]
    if len(known) < 2:
        return {**entries.plain(float("nan"), 0, "1"), "between": []}
    ordered = sorted(known, key=lambda one: found[one].values[measure])
    apart = shift.minus(found[ordered[-1]], found[ordered[0]])
    return {**shift.difference(apart)[measure], "between": [ordered[-1], ordered[0]]}
