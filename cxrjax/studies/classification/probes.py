"""What needs no training of a network: a logistic regression on small films, and on a pretrained backbone's features a
linear probe and the nearest neighbors. Each is trained on the films that the systems were, and asked about theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxrjax import data
from cxrjax.data.external import PART
from cxrjax.errors import UserError, lookup
from cxrjax.infer import classifier
from cxrjax.infer.batches import in_batches
from cxrjax.phases import Context, cached, members
from cxrjax.studies import arrays, floor
from cxrjax.studies.classification import predictions
from cxrjax.studies.classification.predictions import System
from cxrjax.tasks import TASKS, classify
from cxrjax.types import Array, Arrays, State

LOGREG, PROBE, NEIGHBORS = "logreg32", "probe", "knn"
Said = Callable[..., np.ndarray]


class Floor(NamedTuple):
    """A method that the systems stand beside.

    Attributes:
      name, title: in results and in tables.
      rows: (context, films, part) -> (n, d), what it sees of a part of these films, the run's or others.
      seen: context -> a function of films in memory (n, h, w) uint8 -> (n, d), what it sees of them.
      learn: as `floor.learned` from `train` on, without `settings`.
    """

    name: str
    title: str
    rows: Callable[[Context, data.Prepared, str], np.ndarray]
    seen: Callable[[Context], Callable[[np.ndarray], np.ndarray]]
    learn: Said


def logreg32(config: Any) -> Floor:
    """The logistic regression on 32x32 films."""

    def learn(train: np.ndarray, label: np.ndarray, asked: np.ndarray, seed: int, **more: Any) -> np.ndarray:
        del more["validation"]  # its penalty is chosen by patients of the training films
        return floor.logreg32(train, label, asked, seed, tuple(config.study.penalties), **more)

    def seen(context: Context) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: floor.small(image[..., None] / np.float32(255))

    return Floor(LOGREG, f"{LOGREG} (floor)", lambda _, films, part: floor.rows_of(films, part), seen, learn)


def of(config: Any) -> list[Floor]:
    """The linear probe and the nearest neighbors, where the study names a phase whose start they look from."""
    probe = config.study.probe
    if not probe.phase:
        return []
    phase = config[probe.phase]
    where = f"{phase.net.name} ({Path(phase.weights).name})"
    rows, seen = partial(_features, probe.phase), partial(_of_images, probe.phase)
    return [
        Floor(PROBE, f"linear probe of {where}", rows, seen, _learn(floor.LINEAR, probe.strengths)),
        Floor(NEIGHBORS, f"nearest neighbors by {where}", rows, seen, _learn(floor.NEAREST, probe.neighbors)),
    ]


def _learn(method: floor.Method, settings: Any) -> Said:
    return partial(floor.learned, method, settings=tuple(settings))


def _features(phase: str, context: Context, films: data.Prepared, part: str) -> np.ndarray:
    """The means of the last maps (n, d) of films, by the backbone that a phase begins with."""
    bound = context.phases[phase]
    there = dataclasses.replace(context, films=films)
    maps = cached.features(there, bound, bound.members[0], _begun(context, phase), part)
    return np.asarray(maps.mean(axis=(1, 2)))


def _begun(context: Context, phase: str) -> State:
    bound = context.phases[phase]
    return cached.begun(context, bound, bound.members[0], TASKS["classify"](bound.config, bound.classes))


def _of_images(phase: str, context: Context) -> Callable[[np.ndarray], np.ndarray]:
    seeing = predictions.network(context, phase, _begun(context, phase))
    program = seeing.compiled(_means)
    return lambda image: in_batches(context.mesh, classifier.BATCH, program, seeing.read(image))


def _means(seeing: classifier.Classifier, image: Array) -> Array:
    x = classify.shown(seeing.options, image)  # whole films, whatever evaluation crops
    return seeing.net.apply(seeing.variables["net"], x, train=False)[1]["features"].mean(axis=(1, 2))


def check(config: Any) -> None:
    """Raises UserError where `study.probe.phase` names no phase that begins with a file's weights."""
    name = config.study.probe.phase
    if not name:
        return
    phase = lookup({name: config[name] for name in config.phases}, name, "study.probe.phase")
    if phase.task != "classify" or not phase.get("weights", ""):
        raise UserError(
            f"study.probe.phase = {name!r}: the probe looks from a classifier's pretrained start; name a phase with "
            "weights, or leave it empty"
        )


def system(context: Context, method: Floor) -> System:
    """A floor trained on the films that the systems were trained on, with its predictions of theirs; kept in a file."""
    path = predictions.path_of(context.workdir, method.name)
    if not arrays.exists(path):
        _predict(context, method, path)
    validation = predictions.validation(context.workdir, method.name)
    return System(method.name, method.title, arrays.read_arrays(path), validation)


def _predict(context: Context, method: Floor, path: Path) -> None:
    context.log.say(f"{method.title}: {context.films.count('train'):,} films to train on")
    found, seen = learned(context, method)
    if seen is not None:
        arrays.write_arrays(predictions.path_of(context.workdir, method.name, "val"), **seen)
    arrays.write_arrays(path, **found)


def learned(context: Context, method: Floor, patients: int = 0) -> tuple[Arrays, Arrays | None]:
    """What a floor says of held-out films, as `predictions.write` keeps it, and of validation films.

    Args:
      context: of the run.
      method: the floor.
      patients: how many it is trained on, see `members.first`; 0 for all.
    """
    films, val = context.films, _validation(context, method)
    if (folds := folds_of(context.config)) > 1:
        split, label, table = "folds", labels(context, "train"), films.table("train")
        number, probability = members.folds_of(context.config, films, folds), np.full(label.shape, np.nan)
        for fold, said in enumerate(each(context, method, method.rows(context, films, "train"), patients)):
            probability[number == fold] = said[number == fold]
        order, seen = np.argsort(table["key"], kind="stable"), None
    else:
        split = films.held_out
        rows, label, table = method.rows(context, films, split), labels(context, split), films.table(split)
        (both,) = each(context, method, rows if val is None else np.concatenate([rows, val[0]]), patients)
        probability, order, seen = both[: len(rows)], np.arange(len(label)), None
        if val is not None:  # thresholds are chosen where the networks' are
            seen = predictions.mean_of([{"probability": both[len(rows) :]}]) | {"label": val[1]}
    found = predictions.mean_of([{"probability": probability[order]}])
    return found | {
        "label": label[order], "key": table["key"][order], "patient": table["patient"][order],
        "classes": np.array(context.classes), "split": np.array(split),
    }, seen  # fmt: skip


def outside(method: Floor) -> Callable[[Context, data.Prepared], list[Arrays]]:
    """How a floor predicts films from elsewhere, see `external.Predict`: trained for each fold, or once."""

    def predict(context: Context, films: data.Prepared) -> list[Arrays]:
        rows = method.rows(context, films, PART)
        return [predictions.mean_of([{"probability": said}]) for said in each(context, method, rows)]

    return predict


def folds_of(config: Any) -> int:
    """The folds of the systems, which all have as many."""
    return config[config.study.systems[0][0]].folds


def labels(context: Context, part: str) -> np.ndarray:
    """(n, k) labels of a part of the run's films, by its classes."""
    return data.labels.select(context.films.table(part)["labels"], context.films.columns, context.classes)


def _validation(context: Context, method: Floor) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and labels that a setting is chosen on; None under folds, or where no such part is left to choose on."""
    films = context.films
    if folds_of(context.config) > 1 or films.held_out == "val" or not films.splits.get("val"):
        return None
    return method.rows(context, films, "val"), labels(context, "val")


def kept(config: Any, films: data.Prepared, patients: int = 0) -> list[np.ndarray]:
    """The training films of each fold, or of the only training, as positions in the train part; `patients` as in
    `learned`."""
    folds = folds_of(config)
    number = members.folds_of(config, films, folds) if folds > 1 else np.zeros(films.count("train"), int)
    rest = [np.flatnonzero(number != fold) for fold in (range(folds) if folds > 1 else (-1,))]
    return [members.first(films, "train", r, patients, config.data.seed) for r in rest] if patients else rest


def each(context: Context, method: Floor, asked: np.ndarray, patients: int = 0) -> list[np.ndarray]:
    """Probabilities (n, k) float64 of rows, by each fold's floor or by the only one; `patients` as in `learned`."""
    rows, label = method.rows(context, context.films, "train"), labels(context, "train")
    who, val = context.films.table("train")["patient"], _validation(context, method)
    out = []
    for keep in kept(context.config, context.films, patients):
        said = method.learn(rows[keep], label[keep], asked, context.config.seed, patients=who[keep], validation=val)
        out.append(said.astype(np.float64))
    return out
