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
from cxrjax.phases import Context, cached, members
from cxrjax.studies import arrays, floor
from cxrjax.studies.classification import predictions
from cxrjax.studies.classification.predictions import System
from cxrjax.tasks import TASKS
from cxrjax.types import Arrays

LOGREG, PROBE, NEIGHBORS = "logreg32", "probe", "knn"
Said = Callable[..., np.ndarray]


class Floor(NamedTuple):
    """A method that the systems stand beside.

    Attributes:
      name, title: in results and in tables.
      rows: (context, films, part) -> (n, d), what it sees of a part of these films, the run's or others.
      learn: as `floor.learned` from `train` on, without `settings`.
    """

    name: str
    title: str
    rows: Callable[[Context, data.Prepared, str], np.ndarray]
    learn: Said


def logreg32(config: Any) -> Floor:
    """The logistic regression on 32x32 films."""

    def learn(train: np.ndarray, label: np.ndarray, asked: np.ndarray, seed: int, **more: Any) -> np.ndarray:
        del more["validation"]  # its penalty is chosen by patients of the training films
        return floor.logreg32(train, label, asked, seed, tuple(config.study.penalties), **more)

    return Floor(LOGREG, f"{LOGREG} (floor)", lambda _, films, part: floor.rows_of(films, part), learn)


def of(config: Any) -> list[Floor]:
    """The linear probe and the nearest neighbors, where the study names a phase whose start they look from."""
    probe = config.study.probe
    if not probe.phase:
        return []
    phase = config[probe.phase]
    where = f"{phase.net.name} ({Path(phase.weights).name})"
    rows = partial(_features, probe.phase)
    return [
        Floor(PROBE, f"linear probe of {where}", rows, _learn(floor.LINEAR, probe.strengths)),
        Floor(NEIGHBORS, f"nearest neighbors by {where}", rows, _learn(floor.NEAREST, probe.neighbors)),
    ]


def _learn(method: floor.Method, settings: Any) -> Said:
    return partial(floor.learned, method, settings=tuple(settings))


def _features(phase: str, context: Context, films: data.Prepared, part: str) -> np.ndarray:
    """The means of the last maps (n, d) of films, by the backbone that a phase begins with."""
    bound = context.phases[phase]
    task = TASKS["classify"](bound.config, bound.classes)
    state = cached.begun(context, bound, bound.members[0], task)
    there = dataclasses.replace(context, films=films)
    maps = cached.features(there, bound, bound.members[0], state, part)
    return np.asarray(maps.mean(axis=(1, 2)))


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
    films, classes = context.films, context.classes
    val = _validation(context, method)

    def labels(part: str) -> np.ndarray:
        return data.labels.select(films.table(part)["labels"], films.columns, classes)

    context.log.say(f"{method.title}: {films.count('train'):,} films to train on")
    if (folds := _folds(context)) > 1:
        split, label = "folds", labels("train")
        number, probability = members.folds_of(context.config, films, folds), np.full(label.shape, np.nan)
        rows = method.rows(context, films, "train")
        for fold, said in enumerate(_each(context, method, rows)):
            probability[number == fold] = said[number == fold]
        table = films.table("train")
    else:
        split = films.held_out
        rows, label, table = method.rows(context, films, split), labels(split), films.table(split)
        (both,) = _each(context, method, rows if val is None else np.concatenate([rows, val[0]]))
        probability = both[: len(rows)]
        if val is not None:  # thresholds are chosen where the networks' are
            stated = predictions.mean_of([{"probability": both[len(rows) :]}])
            arrays.write_arrays(predictions.path_of(context.workdir, method.name, "val"), **stated, label=val[1])
    order = np.argsort(table["key"], kind="stable") if folds > 1 else np.arange(len(label))
    found = predictions.mean_of([{"probability": probability[order]}])
    arrays.write_arrays(
        path, **found, label=label[order], key=table["key"][order], patient=table["patient"][order],
        classes=np.array(classes), split=np.array(split),
    )  # fmt: skip


def outside(method: Floor) -> Callable[[Context, data.Prepared], list[Arrays]]:
    """How a floor predicts films from elsewhere, see `external.Predict`: trained for each fold, or once."""

    def predict(context: Context, films: data.Prepared) -> list[Arrays]:
        rows = method.rows(context, films, PART)
        return [predictions.mean_of([{"probability": said}]) for said in _each(context, method, rows)]

    return predict


def _folds(context: Context) -> int:
    return context.config[context.config.study.systems[0][0]].folds


def _validation(context: Context, method: Floor) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and labels that a setting is chosen on; None under folds, or where no such part is left to choose on."""
    films = context.films
    if _folds(context) > 1 or films.held_out == "val" or not films.splits.get("val"):
        return None
    label = data.labels.select(films.table("val")["labels"], films.columns, context.classes)
    return method.rows(context, films, "val"), label


def _each(context: Context, method: Floor, asked: np.ndarray) -> list[np.ndarray]:
    """Probabilities (n, k) float64 of rows, by the floor of each fold, or by the only one."""
    films, folds = context.films, _folds(context)
    rows, table = method.rows(context, films, "train"), films.table("train")
    label, patients = data.labels.select(table["labels"], films.columns, context.classes), table["patient"]
    number = members.folds_of(context.config, films, folds) if folds > 1 else np.zeros(len(rows), int)
    val = _validation(context, method)
    out = []
    for fold in range(folds) if folds > 1 else (-1,):
        rest = number != fold
        said = method.learn(
            rows[rest], label[rest], asked, context.config.seed, patients=patients[rest], validation=val
        )
        out.append(said.astype(np.float64))
    return out
