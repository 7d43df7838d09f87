"""What a finished classifier says of films it was not trained on, as files that any later question can be put to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.infer import classifier
from cxrjax.infer.finished import classes_of, member_names, reads_features
from cxrjax.infer.predict import FOLDER
from cxrjax.infer.predict import mean_of as mean_of
from cxrjax.infer.predict import path_of as path_of
from cxrjax.phases import Context
from cxrjax.phases.members import Member
from cxrjax.studies import arrays
from cxrjax.tasks import classify
from cxrjax.types import Arrays, Results, State

# Of the points of a learning curve, which no table lists; of systems of several views, by one.
CURVE, ONE = "curve", "one_view"


class System(NamedTuple):
    """One trained network, or one system of folds.

    Attributes:
      name: in results.
      title: in tables.
      found: its predictions, see `write`.
      validation: its predictions on the validation part, or None.
    """

    name: str
    title: str
    found: Arrays
    validation: Arrays | None


def folder_of(config: Any, phase: str) -> str:
    """Where a phase's predictions are kept; "" where they are not."""
    if phase in dict(config.study.systems):
        return FOLDER
    return CURVE if phase in defaults.points(config.study.curve).values() else ""


def write(context: Context, member: Member) -> None:
    """Predicts a member's held-out films and those of the validation part, if the study compares it; keeps files.

    A member of a fold is asked about its fold alone, any other about the test part. Each file holds `label`,
    `probability` and `logits` (n, k), `key` and `patient` (n,), `classes` (k,) and `split`. A phase that averages views
    is asked by one, too.
    """
    phase = context.phases[member.phase]
    if not (folder := folder_of(context.config, member.phase)):
        return
    _write(context, member, phase.config, folder)
    if folder == FOLDER and phase.config.tta:
        one = phase.config.copy_and_resolve_references()
        one.tta = ()
        _write(context, member, one, ONE)


def _write(context: Context, member: Member, config: Any, folder: str) -> None:
    films, phase = context.films, context.phases[member.phase]
    wanted: list[tuple[str, np.ndarray | None, Path]] = []
    if member.held_out is not None:
        wanted.append(("train", member.held_out, path_of(context.workdir, member.name, "", folder)))
    else:
        wanted.append((films.held_out, None, path_of(context.workdir, member.name, "", folder)))
        if films.held_out == "test" and films.splits.get("val"):
            wanted.append(("val", None, path_of(context.workdir, member.name, "val", folder)))
    missing = [item for item in wanted if not arrays.exists(item[2])]
    if not missing:
        return
    predict = jax.jit(classify.make(config, len(phase.classes)).predict)
    for split, keep, path in missing:
        rows = context.evaluate(
            predict, context.states[member.name], split, phase.config.eval_batch, keep=keep, field=phase.field
        )
        table = films.table(split)
        order = rows["index"]
        arrays.write_arrays(
            path, label=rows["label"], logits=rows["logits"],
            probability=classify.scores(classify.options_of(config), rows["logits"]),
            key=table["key"][order], patient=table["patient"][order], classes=np.array(phase.classes),
            split=np.array("folds" if member.held_out is not None else split),
        )  # fmt: skip


def network(context: Context, phase: str, state: State, **changes: Any) -> classifier.Classifier:
    """The classifier of a phase with a state of it, its config with `changes`; as `cxrjax.load` would give it."""
    config, whole = context.config[phase].copy_and_resolve_references(), context.config
    config.update(changes)
    enh = whole.data.enh_options if reads_features(whole, phase) else None
    classes = classes_of(whole, phase)
    return classifier.of(config, state, classes, whole.data.size, context.mesh, source=phase, enh=enh)


def gather(workdir: Path, names: list[str], folds: bool, folder: str = FOLDER) -> list[Arrays]:
    """A system's predictions: one set for each seed, or one over all folds together, in the order of the keys."""
    parts = [arrays.read_arrays(path_of(workdir, name, "", folder)) for name in names]
    if not folds:
        return parts
    per_film = ("label", "probability", "logits", "key", "patient")
    whole = {name: np.concatenate([part[name] for part in parts]) for name in per_film}
    order = np.argsort(whole["key"], kind="stable")
    return [{**{name: value[order] for name, value in whole.items()}, "classes": parts[0]["classes"],
             "split": parts[0]["split"]}]  # fmt: skip


def validation(workdir: Path, member: str, folder: str = FOLDER) -> Arrays | None:
    """A member's predictions on the validation part, or None where there is none."""
    path = path_of(workdir, member, "val", folder)
    return arrays.read_arrays(path) if arrays.exists(path) else None


def system_of(context: Context, phase: str, title: str, folder: str = FOLDER) -> System:
    """A phase with its predictions: folds all together, of seeds the mean."""
    config, names = context.config[phase], member_names(context.config, phase)
    found = gather(context.workdir, names, config.folds > 1, folder)
    if config.folds > 1:
        return System(phase, title, found[0], None)
    seen = [one for name in names if (one := validation(context.workdir, name, folder)) is not None]
    if len(names) > 1:
        title, found = f"{title}, mean of {len(names)} seeds", [mean_of(found)]
        seen = [mean_of(seen)] if seen else []
    return System(phase, title, found[0], seen[0] if seen else None)


def best(out: Results, systems: list[System]) -> System | None:
    """The system of the highest AUROC in a comparison's results, named after looking; None where none has one."""
    measured = [system for system in systems if out["systems"][system.name]["auroc"]["value"] is not None]
    return max(measured, key=lambda system: out["systems"][system.name]["auroc"]["value"], default=None)


def check_same(*systems: System) -> None:
    """Raises UserError where systems did not predict the same films."""
    for other in systems[1:]:
        if not np.array_equal(systems[0].found["key"], other.found["key"]):
            names = f"{systems[0].title} and {other.title}"
            raise UserError(f"{names} did not predict the same films; delete predictions/ and run again")
