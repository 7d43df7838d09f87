"""How many films does it take: the same recipe from several starts, on more and more patients, beside the floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxrjax import defaults
from cxrjax.errors import UserError, lookup
from cxrjax.infer.finished import member_names
from cxrjax.metrics import conditions, entries
from cxrjax.phases import Context, members
from cxrjax.studies import floor, footing, tables
from cxrjax.studies.classification import predictions
from cxrjax.tasks import classify
from cxrjax.types import Arrays, Results

if TYPE_CHECKING:
    from cxrjax.studies.classification.comparison import System

NOTE = (
    "AUROC on the films of the table of systems, by the number of training patients; those of fewer are among those of "
    "more, the same for every start, which all see as many films in training. Intervals resample the films' patients "
    "and hold no other draw of training patients; differences are paired."
)


class Point(NamedTuple):
    """A start's figures on a number of training patients and films."""

    patients: int
    films: int
    figures: conditions.Figures


def check(config: Any) -> None:
    """Refuses before any training a curve that has not all its phases.

    Raises:
      UserError: names the phase that is missing, is no classifier, or has other patients than its name says.
    """
    for (_, size), name in defaults.points(config.study.curve).items():
        lookup({phase: phase for phase in config.phases}, name, "study.curve names a phase that")
        if config[name].task != "classify":
            raise UserError(f"study.curve has {name!r}, whose task is {config[name].task!r}: expected a classifier")
        if config[name].patients != size:
            raise UserError(
                f"{name}.patients is {config[name].patients}: study.curve's name of it says {size or 'all'}"
            )


def notes(config: Any) -> list[str]:
    """A sentence on starts that are not trained alike on as many patients, where there are any."""
    names = defaults.points(config.study.curve)
    pairs = [(name, names[config.study.curve.starts[0][0], size]) for (_, size), name in names.items()]
    return footing.notes(
        (footing.Side(one, config, one), footing.Side(first, config, first)) for one, first in pairs if one != first
    )


def add(out: Results, context: Context, base: System) -> None:
    """Adds to a comparison's results the curve of every start and of the floor, with its table and words.

    `out["curve"]` is {start: {patients: {measures, "films", "minus_FIRST", "minus_all"}}}, each an entry or entries by
    measure; it is empty where no start is asked for.

    Args:
      out: results with `tables`.
      context: of the run.
      base: the floor, trained on all patients.
    """
    curve = context.config.study.curve
    out["curve"] = {}
    if not curve.starts:
        return
    names = defaults.points(curve)
    found = {start: [_point(context, names[start, size]) for size in curve.sizes] for start, _ in curve.starts}
    first = curve.starts[0][0]
    found[base.name] = [_floor_point(context, names[first, size], base) for size in curve.sizes]
    for start, each in found.items():
        out["curve"][start] = {}
        for one, reference in zip(each, found[first], strict=True):
            figures = one.figures.at(0) | {"films": entries.plain(one.films, one.patients, "films")}
            figures["minus_all"] = one.figures.difference(0, each[-1].figures, 0)
            if start != first:
                figures[f"minus_{first}"] = one.figures.difference(0, reference.figures, 0)
            out["curve"][start][str(one.patients)] = figures
    out["tables"].append(table_of(out["curve"], {**dict(curve.starts), base.name: base.title}))


def _point(context: Context, phase: str) -> Point:
    """A start's, from the files that its phase left."""
    config = context.config[phase]
    names, folder = member_names(context.config, phase), predictions.folder_of(context.config, phase)
    found = predictions.gather(context.workdir, names, config.folds > 1, folder)
    seen = [arrays for n in names if (arrays := predictions.validation(context.workdir, n, folder)) is not None]
    mean = found[0] if len(found) == 1 else predictions.mean_of(found)
    return _scored(context, phase, mean, predictions.mean_of(seen) if seen else None)


def _floor_point(context: Context, phase: str, base: System) -> Point:
    """The floor's, trained on the films of a phase's members."""
    config, films = context.config, context.films
    rows, label = floor.films_of(context, "train")
    patients, penalties = films.table("train")["patient"], tuple(config.study.penalties)

    def said(keep: np.ndarray | None, asked: np.ndarray) -> np.ndarray:
        kept = slice(None) if keep is None else keep
        return floor.logreg32(rows[kept], label[kept], asked, config.seed, penalties, patients=patients[kept])

    if not config[phase].patients:
        return _scored(context, phase, base.found, base.validation)
    every = members.of(config, films, phase)
    if config[phase].folds > 1:
        probability = np.full(label.shape, np.nan)
        for member in every:
            probability[member.held_out] = said(member.keep, rows[member.held_out])
        order = np.argsort(films.table("train")["key"], kind="stable")
        return _scored(context, phase, {**base.found, "probability": probability[order]}, None)
    test, val = (floor.rows_of(films, part) if films.splits.get(part) else rows[:0] for part in (films.held_out, "val"))
    whole = said(every[0].keep, np.concatenate([test, val]))
    seen = None
    if base.validation is not None:
        seen = predictions.mean_of([{**base.validation, "probability": whole[len(test) :]}])
    return _scored(context, phase, {**base.found, "probability": whole[: len(test)]}, seen)


def _scored(context: Context, phase: str, found: Arrays, seen: Arrays | None) -> Point:
    kept = [member.keep for member in members.of(context.config, context.films, phase)]
    patients = context.films.table("train")["patient"]
    figures = conditions.figures(
        found["label"], [found["probability"]], found["patient"],
        exclusive=classify.options_of(context.config[phase]).exclusive,
        validation=None if seen is None else (seen["label"], seen["logits"]),
    )  # fmt: skip
    rows = [patients if keep is None else patients[keep] for keep in kept]
    return Point(round(np.mean([len(np.unique(r)) for r in rows])), round(np.mean([len(r) for r in rows])), figures)


def table_of(out: Results, titles: Mapping[str, str]) -> tables.Table:
    """AUROC by patients, each start's and its difference to the first's; the words stand in the note."""
    first = next(iter(titles))
    others = [start for start in titles if start != first]
    columns = ["training films", *titles.values(), *(f"{titles[start]} minus {titles[first]}" for start in others)]
    rows = []
    for patients, figures in out[first].items():
        cells = [out[start][patients]["auroc"] for start in titles]
        cells += [out[start][patients][f"minus_{first}"]["auroc"] for start in others]
        rows.append((f"{int(patients):,} patients", [f"{figures['films']['value']:,.0f}", *cells]))
    return tables.table("Learning curve", f"{in_words(out, titles)} {NOTE}".strip(), columns, rows)


def in_words(out: Results, titles: Mapping[str, str]) -> str:
    """How many films it takes: what the best start reaches early, and from where on more are not told apart."""
    trained = list(titles)[:-1]  # the floor comes last

    def area(start: str, patients: str) -> float:
        return out[start][patients]["auroc"]["value"]

    sizes = list(out[trained[0]])
    if len(sizes) < 2 or any(area(start, size) is None for start in trained for size in sizes):
        return ""
    few, whole = sizes[0], sizes[-1]
    best = max(trained, key=lambda start: area(start, whole))
    words = [
        f"{titles[best]} goes from {area(best, few):.3f} on {int(few):,} patients to {area(best, whole):.3f} on all "
        f"{int(whole):,}."
    ]
    gaps = {size: out[best][size]["minus_all"]["auroc"] for size in sizes[:-1]}
    level = next((size for size, gap in gaps.items() if gap["high"] is not None and gap["high"] >= 0), None)
    words.append(
        f"From {int(level):,} patients on more are not told apart from all (paired intervals)."
        if level
        else "Every number of patients below all is beyond its interval worse: more films would probably help."
    )
    for other in (start for start in trained if start != best):
        early = next((size for size in sizes if area(best, size) >= area(other, whole)), None)
        if early:
            reached = f"{titles[other]} reaches on all ({area(other, whole):.3f})"
            words.append(f"{titles[best]} reaches on {int(early):,} what {reached}.")
    return " ".join(words)
