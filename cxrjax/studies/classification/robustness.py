"""How classifiers hold on damaged films: every kind at every strength, each system beside the floor.

Held-out films are damaged after they were decoded and brought to the run's size, and predicted by the networks that
`cxrjax.load` hands out. Nothing is chosen on damaged films: temperature and thresholds are of undamaged ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cxrjax import data
from cxrjax.data import corruptions
from cxrjax.infer import classifier
from cxrjax.infer.finished import member_names
from cxrjax.metrics import conditions
from cxrjax.phases import Context, members
from cxrjax.studies import arrays, tables
from cxrjax.studies.classification import predictions, probes
from cxrjax.studies.classification.predictions import ONE, System
from cxrjax.studies.classification.probes import Floor
from cxrjax.studies.tables import Table
from cxrjax.tasks import classify
from cxrjax.types import Arrays, Results

CHUNK = 1024  # films handed to a network at once
# Films (n, h, w) uint8 and their places in `Films.position` -> probabilities (n, k).
Ask = Callable[[np.ndarray, np.ndarray], np.ndarray]
NOTE = (
    "Means over {kinds} kinds of damage at {conditions} strengths in all, of {n} films that were damaged after they "
    "were brought to the run's size. Thresholds and the temperature of ECE were chosen {where}. Intervals "
    "resample patients, differences are paired."
)


class Films(NamedTuple):
    """The films that are damaged: their part, their places in it (n,), themselves (n, h, w) uint8, their folds (n,), 0
    where there are none."""

    split: str
    position: np.ndarray
    image: np.ndarray
    fold: np.ndarray


def kinds_of(context: Context) -> dict[str, tuple[float, ...]]:
    """The strengths by kind, in the order of `corruptions.KINDS`: a config's sections keep none."""
    given = context.config.study.robustness.kinds
    return {kind: tuple(given[kind]) for kind in corruptions.KINDS if kind in given}


def films_of(context: Context) -> Films:
    """The held-out films, or as many as the study damages, drawn by seed."""
    config, films = context.config, context.films
    folds = probes.folds_of(config)
    split = "train" if folds > 1 else films.held_out
    most, count = config.study.robustness.films, films.count(split)
    position = np.arange(count)
    if most and most < count:
        position = np.sort(np.random.default_rng(config.seed).permutation(count)[:most])
    image = np.rint(data.films(films, split, position)["image"][..., 0] * 255).astype(np.uint8)
    fold = members.folds_of(config, films, folds)[position] if folds > 1 else np.zeros(len(position), int)
    return Films(split, position, image, fold)


def asks_of(context: Context, films: Films) -> dict[str, Ask]:
    """What says something of films in memory: every phase that is compared, one that averages views by one, too."""
    out = {}
    for phase, _ in context.config.study.systems:
        out[phase] = _ask(context, phase, films)
        if context.config[phase].tta:
            out[f"{phase}_{ONE}"] = _ask(context, phase, films, tta=())
    return out


def _ask(context: Context, phase: str, films: Films, **changes: Any) -> Ask:
    """What a phase says: of folds the one that left a film out, of seeds their mean."""
    config = context.config
    networks = [
        predictions.network(context, phase, context.states[name], **changes) for name in member_names(config, phase)
    ]

    def said(one: classifier.Classifier, image: np.ndarray) -> np.ndarray:
        chunks = [one.predict(image[i]) for i in _slices(image)]
        return np.concatenate([np.stack([chunk[name] for name in one.classes], axis=1) for chunk in chunks])

    def ask(image: np.ndarray, place: np.ndarray) -> np.ndarray:
        if config[phase].folds < 2:
            return np.mean([said(one, image) for one in networks], axis=0)
        return _by_fold([partial(said, one) for one in networks], image, films.fold[place])

    return ask


def _by_fold(said: Sequence[Callable[[np.ndarray], np.ndarray]], image: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """What the network of each film's fold (n,) says of it."""
    each = {i: one(image[fold == i]) for i, one in enumerate(said) if (fold == i).any()}
    out = np.empty((len(image), next(iter(each.values())).shape[1]))
    for i, found in each.items():
        out[fold == i] = found
    return out


def said(context: Context, floors: Sequence[Floor]) -> tuple[np.ndarray, Arrays]:
    """What every system and floor says of damaged films; kept in a file, so that a resumed run does not ask again.

    Returns:
      The keys (n,) of the films, and by name the probabilities (c, n, k) under each strength of each kind.
    """
    path = context.workdir / "robustness.npz"
    if not arrays.exists(path):
        films = films_of(context)
        asks, seen = asks_of(context, films), {one.name: one.seen(context) for one in floors}
        found: dict[str, list[np.ndarray]] = {name: [] for name in (*asks, *seen)}
        places = []
        for kind, strengths in kinds_of(context).items():
            context.log.say(f"robustness: {kind}, {len(films.image):,} films at {len(strengths)} strengths")
            image = np.concatenate(
                [corruptions.damaged(films.image, films.position, kind, s, context.config.seed) for s in strengths]
            )
            places.append(np.tile(np.arange(len(films.image)), len(strengths)))
            for name, ask in asks.items():
                found[name].append(ask(image, places[-1]))
            for name, rows in seen.items():
                found[name].append(np.concatenate([rows(image[i]) for i in _slices(image)]))
        fold = films.fold[np.concatenate(places)]
        whole = {name: np.concatenate(each) for name, each in found.items()}
        for one in floors:
            each = probes.each(context, one, whole[one.name])
            whole[one.name] = np.stack(each)[fold, np.arange(len(fold))]
        keys = context.films.table(films.split)["key"][films.position]
        arrays.write_arrays(path, key=keys, **{name: p.reshape(-1, len(keys), p.shape[1]) for name, p in whole.items()})
    read = arrays.read_arrays(path)
    keys = read.pop("key")
    means = {name: np.mean([read[part] for part in parts], axis=0) for name, parts in context.config.study.ensembles}
    return keys, read | means


def add(out: Results, context: Context, systems: Sequence[System], base: System, *floors: tuple[System, Floor]) -> None:
    """Adds to a comparison's results every system's figures on damaged films, with the tables and their words.

    `out["robustness"]` is {system: {"clean", "mean" over all damage, "drop" from clean to it, "minus_logreg32" on it,
    each kind: {"mean", "1" ... by strength}}}, each with entries by measure; it is empty where no kind is asked for.

    Args:
      out: results with `tables`.
      context: of the run.
      systems: phases, those by one view, and ensembles.
      base: logreg32.
      floors: others, and how they learn.
    """
    kinds = kinds_of(context)
    out["robustness"] = {}
    if not kinds:
        return
    exclusive = classify.options_of(context.config[systems[0].name]).exclusive  # all systems agree, see `comparison`
    methods = [probes.logreg32(context.config), *(method for _, method in floors)]
    every = [*systems, base, *(system for system, _ in floors)]
    keys, found = said(context, methods)
    figures = {system.name: _figures(system, keys, found[system.name], exclusive) for system in every}
    whole = slice(1, None)
    for name, one in figures.items():
        shown: Results = {"clean": one.at(0), "mean": one.at(whole), "drop": one.difference(whole, one, 0)}
        if name != base.name:
            shown["minus_logreg32"] = one.difference(whole, figures[base.name], whole)
        start = 1
        for kind, strengths in kinds.items():
            end = start + len(strengths)
            shown[kind] = {"mean": one.at(slice(start, end))}
            shown[kind] |= {str(i + 1): one.at(start + i) for i in range(len(strengths))}
            start = end
        out["robustness"][name] = shown
    titles = {system.name: system.title for system in every}
    trained = [system.name for system in systems]
    out["tables"] += tables_of(out["robustness"], titles, kinds, trained, base.validation is not None)


def _figures(system: System, keys: np.ndarray, damaged: np.ndarray, exclusive: bool) -> conditions.Figures:
    """Of the undamaged films first, then under each damage."""
    row = {key: i for i, key in enumerate(system.found["key"])}
    rows = [row[key] for key in keys]
    label, patients, clean = (system.found[part][rows] for part in ("label", "patient", "probability"))
    seen = system.validation
    return conditions.figures(
        label, [clean, *damaged], patients, exclusive=exclusive,
        validation=None if seen is None else (seen["label"], seen["logits"]),
    )  # fmt: skip


def tables_of(
    out: Results, titles: Mapping[str, str], kinds: Mapping[str, Sequence[float]], trained: list[str], chosen: bool
) -> list[Table]:
    """The means by system with what they say in words, and AUROC by kind.

    Args:
      out: as `add` makes it.
      titles: of the systems and then the floors, by name.
      kinds: strengths by kind.
      trained: the names that are no floor's.
      chosen: whether there was a validation part.
    """
    base = next(name for name in titles if name not in trained)
    measure = next(name for name in out[base]["clean"] if name not in ("auroc", "ece"))
    words = {
        "auroc": "AUROC",
        "accuracy": "accuracy",
        "accuracy_at_threshold": "accuracy at a threshold",
        "f1": "macro F1",
        "ece": "ECE",
    }
    shown = ("auroc", measure, "ece")
    columns = [f"{words[name]}, {when}" for name in shown for when in ("undamaged", "damaged")]
    rows = [
        (
            title,
            [out[name][when][key] for key in shown for when in ("clean", "mean")]
            + [out[name]["drop"]["auroc"], out[name].get("minus_logreg32", {}).get("auroc")],
        )
        for name, title in titles.items()
    ]
    columns += ["AUROC, damaged minus undamaged", "AUROC, damaged, minus logreg32"]
    said = NOTE.format(
        n=out[base]["clean"]["auroc"]["n"], kinds=len(kinds), conditions=sum(map(len, kinds.values())),
        where="on the validation films, undamaged" if chosen else "on undamaged films of other patients, ECE at none",
    )  # fmt: skip
    by_kind = [(_row(kind, kinds[kind]), [out[name][kind]["mean"]["auroc"] for name in titles]) for kind in kinds]
    return [
        tables.table("Damaged films", f"{in_words(out, titles, kinds, trained)} {said}".strip(), columns, rows),
        tables.table(
            "Damage by kind", "AUROC, mean over the strengths, which grow from left to right.", list(titles.values()),
            by_kind,
        ),
    ]  # fmt: skip


def in_words(out: Results, titles: Mapping[str, str], kinds: Iterable[str], trained: Iterable[str]) -> str:
    """What the figures say: which system holds best, what harms it most and least, and what becomes of the others."""

    def area(name: str, part: str) -> float:
        return out[name][part]["auroc"]["value"]

    known = [name for name in trained if area(name, "mean") is not None]
    if not known:
        return ""
    best = max(known, key=lambda name: area(name, "mean"))
    by_kind = {kind: out[best][kind]["mean"]["auroc"]["value"] for kind in kinds}
    worst, mildest = min(by_kind, key=by_kind.__getitem__), max(by_kind, key=by_kind.__getitem__)
    others = [name for name in titles if name != best and area(name, "mean") is not None]
    gap = out[best].get("minus_logreg32", {}).get("auroc") or {}
    level = gap.get("low") is not None and gap["low"] <= 0 <= gap["high"]
    said = [f"{titles[name]} goes from {area(name, 'clean'):.3f} to {area(name, 'mean'):.3f}" for name in others]
    return (
        f"{titles[best]} has the highest AUROC on damaged films, {area(best, 'mean'):.3f} on average and "
        f"{area(best, 'clean'):.3f} undamaged; {worst} costs it most (mean {by_kind[worst]:.3f}), {mildest} least "
        f"({by_kind[mildest]:.3f}). {'It is not told apart from logreg32 there (paired interval). ' if level else ''}"
        f"{', '.join(said)}."
    )


def _row(kind: str, strengths: Sequence[float]) -> str:
    return f"{kind}: {', '.join(f'{strength:g}' for strength in strengths)}"


def _slices(films: np.ndarray) -> list[slice]:
    return [slice(i, i + CHUNK) for i in range(0, len(films), CHUNK)]
