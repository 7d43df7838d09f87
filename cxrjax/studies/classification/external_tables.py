"""What films from elsewhere show, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrjax.metrics.shift import Frame
from cxrjax.studies import tables
from cxrjax.types import Results

Column = tuple[str, tuple[str, ...]]  # its head, and where its entries are
SIDES = ("inside", "outside", "drop")
_HOW = (
    "Inside: this run's own held-out films{same}. Drop: inside minus outside, each resampled by its own patients; of a "
    "calibration error below 0 where it grows. {chosen}"
)
_FEW = (
    "Of {draws} draws of so many outside films, in whole patients, that threshold and temperature are chosen on anew, "
    "scored on the rest: means, and the range of 95 % of the draws, which holds no chance of other patients. The "
    "choice of inside stays where the drawn films are of one class."
)


def make(name: str, words: str, found: Results, titles: dict[str, str], base: str, frame: Frame) -> list[tables.Table]:
    """The tables of one set: ranking and accuracy, what thresholds chosen inside do, and what a few films give back.

    Args:
      name: of the set.
      words: its films, in words.
      found: `systems` and `pairs`, see `external`.
      titles: by system.
      base: the floor.
      frame: what was scored.
    """
    two = frame.exclusive and len(frame.classes) == 2
    auroc = "AUROC" if two else f"mean AUROC of {len(frame.ranked)}"
    right = ("accuracy_at_threshold", "accuracy") if two else ("accuracy", "accuracy")
    columns: list[Column] = [(f"{auroc} {side}", (side, "auroc")) for side in SIDES]
    columns += [("AUROC outside minus logreg32, paired", ("minus_logreg32", "outside", "auroc"))]
    columns += [("drop minus that of logreg32, paired", ("minus_logreg32", "drop", "auroc"))]
    if frame.exclusive:
        columns += [(f"{right[1]} {side}", (side, right[0])) for side in SIDES]
    systems = found["systems"]
    first = _table(f"Films from elsewhere: {name}", f"{sentence(systems, titles, base)} Outside: {words}. "
                   + _how(systems, base, frame, two), columns, systems, titles)  # fmt: skip
    measures = [("sensitivity", "sensitivity"), ("specificity", "specificity")]
    cooled = all("ece_after_temperature" in one["inside"] for one in systems.values())
    measures += [("ece_after_temperature" if cooled else "ece", "ECE")]
    columns = [
        (f"{title} {side}", (side, key)) for key, title in measures for side in SIDES if key in systems[base]["inside"]
    ]
    said = _means(systems, base) + " ECE is after the temperature that was chosen inside." * cooled
    out = [first, _table(f"At thresholds chosen inside: {name}", said, columns, systems, titles)]
    if found["pairs"]:
        out.append(_pairs(name, found["pairs"], titles))
    return out + _few(name, systems, titles, base)


def _table(title: str, note: str, columns: Sequence[Column], systems: Results, titles: dict[str, str]) -> tables.Table:
    rows = [(titles[key], [_at(one, *path) for _, path in columns]) for key, one in systems.items()]
    return tables.table(title, note, [words for words, _ in columns], rows)


def _at(tree: Any, *path: str) -> Any:
    for part in path:
        tree = tree.get(part, {})
    return tree or None


def _how(systems: Results, base: str, frame: Frame, two: bool) -> str:
    chosen = "Thresholds, of the greatest sensitivity + specificity, and temperatures were chosen inside, "
    chosen += (
        "on the validation part" if "temperature" in systems[base]["chosen"]
        else "on held-out films, where each film's is chosen on those of other patients"
    )  # fmt: skip
    accuracy = " Accuracy is at that threshold." if two else ""
    same = "" if len(frame.shared) == len(frame.classes) else ", of the classes that both sets have"
    return _HOW.format(same=same, chosen=f"{chosen}.{accuracy}")


def _pairs(name: str, pairs: Results, titles: dict[str, str]) -> tables.Table:
    rows = []
    for pair, entry in pairs.items():
        a, b = pair.split(" minus ")
        rows.append((f"{titles[a]} minus {titles[b]}", [_at(entry, side, "auroc") for side in ("outside", "drop")]))
    columns = ["AUROC outside", "drop of AUROC"]
    return tables.table(f"Differences outside: {name}", "Paired by patient on the same films.", columns, rows)


def _few(name: str, systems: Results, titles: dict[str, str], base: str) -> list[tables.Table]:
    """Balanced accuracy and calibration before and after k films of recalibration; nothing where no k was tried."""
    ks = list(dict.fromkeys(k for one in systems.values() for k in one["recalibrated"]))
    rows = []
    for key, one in systems.items():
        for measure, words in (("balanced_accuracy", "balanced accuracy"), ("ece_after_temperature", "ECE")):
            tried = [one["recalibrated"].get(k, {}) for k in ks]
            cells = [_at(found, "after", measure) for found in tried]
            if any(cell and cell["value"] is not None for cell in cells):
                rows.append((f"{titles[key]}: {words}", [_at(tried[0], "before", measure), *cells]))
    if not rows:
        return []
    some = next(iter(systems.values()))["recalibrated"]
    heads = [f"on {k} films ({some[k]['patients']['value']:.0f} patients)" for k in ks]
    ours = [one["recalibrated"][ks[-1]] for key, one in systems.items() if key != base]
    moved = [[one[key]["balanced_accuracy"]["value"] for one in ours] for key in ("before", "after")]
    said = ""
    if all(value is not None for values in moved for value in values):
        before, after = (sum(values) / len(values) for values in moved)
        said = (
            f"Choosing on {ks[-1]} films moves the systems' mean balanced accuracy from {before:.3f} to {after:.3f}. "
        )
    note = said + _FEW.format(draws=some[ks[0]]["films"]["n"])
    return [tables.table(f"What a few outside films give back: {name}", note, ["as chosen inside", *heads], rows)]


def sentence(systems: Results, titles: dict[str, str], base: str) -> str:
    """What the drop in AUROC says, in words; the best system is named after looking."""
    drops = {key: one["drop"]["auroc"] for key, one in systems.items() if one["drop"]["auroc"]["value"] is not None}
    ours = {key: drop for key, drop in drops.items() if key != base}
    if not ours:
        return "No AUROC can be told on these films."
    least, most = (pick(ours, key=lambda key: ours[key]["value"]) for pick in (min, max))
    sure = sum((drop["low"] or 0) > 0 for drop in ours.values())
    out = f"AUROC drops beyond its interval for {sure} of {len(ours)} systems, by {ours[least]['value']:.3f}"
    out += f" ({titles[least]}) to {ours[most]['value']:.3f} ({titles[most]})" * (len(ours) > 1)
    out += f", for the floor by {drops[base]['value']:.3f}." if base in drops else "."
    best = max(ours, key=lambda key: systems[key]["outside"]["auroc"]["value"])
    area, gap = systems[best]["outside"]["auroc"], systems[best]["minus_logreg32"]["outside"]["auroc"]
    out += f" Outside {titles[best]} ranks highest: AUROC {tables.ends(area)}, minus the floor {tables.ends(gap, '+')}."
    turned = [titles[key] for key in drops if (systems[key]["outside"]["auroc"]["high"] or 1) < 0.5]
    return out + f" Worse than chance there, beyond the interval: {', '.join(turned)}." * bool(turned)


def _means(systems: Results, base: str) -> str:
    """Sensitivity and specificity of the systems, inside and outside, as one sentence."""
    ours = [one for key, one in systems.items() if key != base]
    words = []
    for measure in ("sensitivity", "specificity"):
        sides = [[one[side].get(measure, {}).get("value") for one in ours] for side in ("inside", "outside")]
        if all(value is not None for values in sides for value in values):
            here, there = (sum(values) / len(values) for values in sides)
            words.append(f"{measure} {here:.3f} inside and {there:.3f} outside")
    return f"Mean of the systems: {', '.join(words)}." if words else ""
