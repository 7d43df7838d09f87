"""How many films does it take: the same recipe from several starts, on more and more patients, beside the floor."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from cxrjax import data, defaults
from cxrjax.errors import UserError, lookup
from cxrjax.metrics import conditions, entries
from cxrjax.phases import Context
from cxrjax.studies import floor, footing, tables
from cxrjax.studies.classification import predictions, probes
from cxrjax.studies.classification.predictions import System
from cxrjax.studies.classification.probes import Floor
from cxrjax.tasks import classify
from cxrjax.types import Arrays, Results

NOTE = (
    "AUROC on the films of the table of systems, by the number of training patients; those of fewer are among those of "
    "more, the same in every column, and the validation part is whole for all. Intervals resample the films' patients "
    "and hold no other draw of training patients; differences are paired."
)


class Point(NamedTuple):
    """Figures on a number of training patients and films."""

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


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses before any training patients that the floors cannot learn from; tells which starts are not trained alike.

    Raises:
      UserError: as `floor.check`, with the number of patients.
    """
    names, table = defaults.points(config.study.curve), films.table("train")
    label, who = data.labels.select(table["labels"], films.columns, tuple(config.data.classes)), table["patient"]
    for size in sizes_of(config, films):
        for keep in probes.kept(config, films, size):
            try:
                floor.check(label[keep], tuple(config.study.penalties), who[keep])
            except UserError as error:
                raise UserError(f"study.curve: on {size} patients, {error}") from error
    pairs = [(name, names[config.study.curve.starts[0][0], size]) for (_, size), name in names.items()]
    return footing.notes(
        (footing.Side(one, config, one), footing.Side(first, config, first)) for one, first in pairs if one != first
    )


def sizes_of(config: Any, films: data.Prepared) -> list[int]:
    """The numbers of patients below all that floors are trained on."""
    curve = config.study.curve
    if not curve.starts and not curve.floors:
        return []
    most = round(np.mean([len(np.unique(who)) for who in _patients(config, films)]))
    return sorted({size for size in (*curve.sizes, *curve.floors) if 0 < size < most})


def add(out: Results, context: Context, base: System, *floors: tuple[System, Floor]) -> None:
    """Adds to a comparison's results the curve of every start and floor, with its table and words.

    `out["curve"]` is {start or floor: {patients: {measures, "films", "minus_all", "minus_FIRST"}}}, each an entry or
    entries by measure; FIRST is the first start. It is empty where the study asks for none.

    Args:
      out: results with `tables`.
      context: of the run.
      base: logreg32, trained on all patients.
      floors: others, and how they learn.
    """
    curve = context.config.study.curve
    out["curve"] = {}
    if not curve.starts and not curve.floors:
        return
    names = defaults.points(curve)
    found = {start: [_start(context, names[start, size]) for size in curve.sizes] for start, _ in curve.starts}
    methods = [(base, probes.logreg32(context.config)), *floors]
    sizes = sizes_of(context.config, context.films)
    for system, method in methods:
        context.log.say(f"learning curve: {system.title}, {len(sizes)} sizes")
        found[system.name] = [
            *(_scored(context, *probes.learned(context, method, size), size) for size in sizes),
            _scored(context, system.found, system.validation),
        ]
    first = next(iter(found))
    for name, points in found.items():
        reference = {point.patients: point for point in found[first]}
        out["curve"][name] = {}
        for point in points:
            shown = point.figures.at(0) | {"films": entries.plain(point.films, point.patients, "films")}
            shown["minus_all"] = point.figures.difference(0, points[-1].figures, 0)
            if name != first and point.patients in reference:
                shown[f"minus_{first}"] = point.figures.difference(0, reference[point.patients].figures, 0)
            out["curve"][name][str(point.patients)] = shown
    titles = dict(curve.starts) | {system.name: system.title for system, _ in methods}
    out["tables"].append(table_of(out["curve"], titles, base.name))


def _start(context: Context, phase: str) -> Point:
    """A start's, from the files that its phase left."""
    system = predictions.system_of(context, phase, phase, predictions.folder_of(context.config, phase))
    return _scored(context, system.found, system.validation, context.config[phase].patients)


def _patients(config: Any, films: data.Prepared, size: int = 0) -> list[np.ndarray]:
    """The patient of each training film, of each fold or of the only training."""
    who = films.table("train")["patient"]
    return [who[keep] for keep in probes.kept(config, films, size)]


def _scored(context: Context, found: Arrays, seen: Arrays | None, size: int = 0) -> Point:
    figures = conditions.figures(
        found["label"], [found["probability"]], found["patient"],
        exclusive=classify.options_of(context.config[context.config.study.systems[0][0]]).exclusive,
        validation=None if seen is None else (seen["label"], seen["logits"]),
    )  # fmt: skip
    who = _patients(context.config, context.films, size)
    patients, films = (
        round(np.mean(counts)) for counts in zip(*((len(np.unique(w)), len(w)) for w in who), strict=True)
    )
    return Point(patients, films, figures)


def table_of(out: Results, titles: Mapping[str, str], base: str) -> tables.Table:
    """AUROC by patients, with the differences to the first start; the words stand in the note."""
    first = next(iter(titles))
    sizes = sorted({int(size) for points in out.values() for size in points})
    gaps = [name for name in titles if any(f"minus_{first}" in point for point in out[name].values())]
    rows = []
    for size in map(str, sizes):
        films = next(points[size]["films"]["value"] for points in out.values() if size in points)
        cells = [out[name].get(size, {}).get("auroc") for name in titles]
        cells += [out[name].get(size, {}).get(f"minus_{first}", {}).get("auroc") for name in gaps]
        rows.append((f"{int(size):,} patients", [f"{films:,.0f}", *cells]))
    columns = ["training films", *titles.values(), *(f"{titles[name]} minus {titles[first]}" for name in gaps)]
    return tables.table("Learning curve", f"{in_words(out, titles, base)} {NOTE}".strip(), columns, rows)


def in_words(out: Results, titles: Mapping[str, str], base: str) -> str:
    """How many films it takes: from where on more are not told apart, and who gets early where another ends.

    Args:
      out: as `add` makes it.
      titles: of starts and floors, by name.
      base: the floor that sees small films; a curve worth reading is another's.
    """
    areas = {
        name: {int(size): point["auroc"]["value"] for size, point in points.items()} for name, points in out.items()
    }
    curves = [name for name in titles if name != base and len(areas[name]) > 1 and None not in areas[name].values()]
    if not curves:
        return ""
    best = max(curves, key=lambda name: areas[name][max(areas[name])])
    few, whole = min(areas[best]), max(areas[best])
    words = [
        f"{titles[best]} goes from {areas[best][few]:.3f} on {few:,} patients to {areas[best][whole]:.3f} on all "
        f"{whole:,}."
    ]
    ends = {int(size): point["minus_all"]["auroc"]["high"] for size, point in out[best].items() if int(size) != whole}
    close = takewhile(lambda size: ends[size] is not None and ends[size] >= 0, sorted(ends, reverse=True))
    level = min(close, default=None)
    words.append(
        f"With {level:,} patients or more it is not told apart from all (paired intervals)."
        if level
        else f"On {max(ends):,} it is beyond its interval worse than on all: more films would probably help."
    )
    for other in (name for name in titles if name != best and areas[name].get(whole) is not None):
        end = areas[other][whole]
        if early := next((size for size, area in areas[best].items() if area >= end), 0):
            words.append(f"{titles[best]} reaches on {early:,} what {titles[other]} reaches on all ({end:.3f}).")
    if areas.get(base) and areas[base].get(whole) is not None:
        words.append(f"{titles[base]} goes from {areas[base][min(areas[base])]:.3f} to {areas[base][whole]:.3f}.")
    return " ".join(words)
