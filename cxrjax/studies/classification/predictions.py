"""What a finished classifier says of films it was not trained on, as files that any later question can be put to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cxrjax import defaults
from cxrjax.phases import Context
from cxrjax.phases.members import Member
from cxrjax.studies import arrays
from cxrjax.tasks import classify
from cxrjax.types import Arrays

FOLDER, CURVE = "predictions", "curve"  # of systems; of the points of a learning curve, which no table lists


def path_of(workdir: Path, name: str, split: str = "", folder: str = FOLDER) -> Path:
    """The file of a member's, a system's or the floor's predictions; `split` only for the validation part's."""
    return workdir / folder / (f"{name}.{split}.npz" if split else f"{name}.npz")


def folder_of(config: Any, phase: str) -> str:
    """Where a phase's predictions are kept; "" where they are not."""
    if phase in dict(config.study.systems):
        return FOLDER
    return CURVE if phase in defaults.points(config.study.curve).values() else ""


def write(context: Context, member: Member) -> None:
    """Predicts a member's held-out films and those of the validation part, if the study compares it; keeps files.

    A member of a fold is asked about its fold alone, any other about the test part. Each file holds `label`,
    `probability` and `logits` (n, k), `key` and `patient` (n,), `classes` (k,) and `split`.
    """
    films, phase = context.films, context.phases[member.phase]
    if not (folder := folder_of(context.config, member.phase)):
        return
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
    predict = jax.jit(classify.make(phase.config, len(phase.classes)).predict)
    for split, keep, path in missing:
        rows = context.evaluate(
            predict, context.states[member.name], split, phase.config.eval_batch, keep=keep, field=phase.field
        )
        table = films.table(split)
        order = rows["index"]
        arrays.write_arrays(
            path, label=rows["label"], logits=rows["logits"],
            probability=classify.scores(classify.options_of(phase.config), rows["logits"]),
            key=table["key"][order], patient=table["patient"][order], classes=np.array(phase.classes),
            split=np.array("folds" if member.held_out is not None else split),
        )  # fmt: skip


def mean_of(found: list[Arrays]) -> Arrays:
    """Several networks as one system: the mean of their probabilities, and the logits that give it."""
    probability = np.mean([arrays["probability"] for arrays in found], axis=0)
    exclusive_classes = np.allclose(probability.sum(axis=1), 1)
    odds = 1.0 if exclusive_classes else np.clip(1 - probability, 1e-12, 1)
    return {**found[0], "probability": probability, "logits": np.log(np.clip(probability, 1e-12, 1) / odds)}


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
