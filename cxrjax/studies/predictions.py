"""What a finished classifier says of films it was not trained on, as files that any later question can be put to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cxrjax import data
from cxrjax.data import splits
from cxrjax.studies.chunks import write_arrays
from cxrjax.studies.floor import small
from cxrjax.tasks import classify
from cxrjax.train import loop
from cxrjax.train import mesh as meshes

Arrays = dict[str, np.ndarray]


def names(config: Any, phase: str) -> list[str]:
    """The names of a phase's members: its own, or one a fold or seed."""
    count = max(config[phase].get("folds", 0), config[phase].get("seeds", 1))
    return [phase] if count <= 1 else [f"{phase}_{i}" for i in range(count)]


def folds_of(config: Any, films: data.Prepared, folds: int) -> np.ndarray:
    """(n,) the fold of each film of the train part, the same for every phase, the floor and the checks."""
    table = films.table("train")
    return splits.folds(table["patient"].tolist(), table["labels"], folds, seed=config.data.seed)


def field_of(config: Any, phase: str) -> str:
    """What of the films a phase reads: "enh", the local-phase channels made with them, or "image"."""
    return "enh" if config[phase].get("input", "cxr") == "enh" and config.data.get("enh", False) else "image"


def held_out(films: data.Prepared) -> str:
    """The part to report on: test, or val where the source has no test part."""
    return "test" if films.splits.get("test") else "val"


def path_of(workdir: Path, name: str, split: str = "") -> Path:
    """The file of a member's, a system's or the floor's predictions; `split` only for the validation part's."""
    return workdir / "predictions" / (f"{name}.{split}.npz" if split else f"{name}.npz")


def exists(path: Path) -> bool:
    """Whether the first process sees a file: what all wait for must be begun by all or by none."""
    here = path.exists()
    if jax.process_count() == 1:
        return here
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(here)))


def read(path: Path) -> Arrays:
    """The arrays of a predictions file."""
    with np.load(path) as file:
        return dict(file)


def write(context: Any, member: Any) -> None:
    """Predicts a member's held-out films and those of the validation part, if the study compares it; keeps files.

    A member of a fold is asked about its fold alone, any other about the test part. Each file holds `label`,
    `probability` and `logits` (n, k), `key` and `patient` (n,), `classes` (k,) and `split`.
    """
    films = context.films
    config = context.config[member.phase]
    if member.phase not in dict(context.config.study.systems):
        return
    wanted: list[tuple[str, np.ndarray | None, Path]] = []
    if member.held_out is not None:
        wanted.append(("train", member.held_out, path_of(context.workdir, member.name)))
    else:
        split = held_out(films)
        wanted.append((split, None, path_of(context.workdir, member.name)))
        if split == "test" and films.splits.get("val"):
            wanted.append(("val", None, path_of(context.workdir, member.name, "val")))
    missing = [item for item in wanted if not exists(item[2])]
    if not missing:
        return
    classes = tuple(context.config.data.classes)
    field = field_of(context.config, member.phase)
    predict = jax.jit(classify.make(config, len(classes)).predict)
    state = meshes.replicate(context.mesh, context.states[member.name])
    size = meshes.whole_batch(context.mesh, config.eval_batch)
    shard = (jax.process_index(), jax.process_count())
    for split, keep, path in missing:
        batches = data.eval_batches(films, split, classes=classes, batch_size=size, keep=keep, shard=shard, field=field)
        rows = loop.evaluate(predict, state, batches, context.mesh, context.key)
        table = films.table(split)
        order = rows["index"]
        write_arrays(
            path, label=rows["label"], logits=rows["logits"],
            probability=classify.scores(classify.options_of(config), rows["logits"]),
            key=table["key"][order], patient=table["patient"][order], classes=np.array(classes),
            split=np.array("folds" if member.held_out is not None else split),
        )  # fmt: skip


def gather(workdir: Path, members: list[str], folds: bool) -> list[Arrays]:
    """A system's predictions: one set for each seed, or one over all folds together, in the order of the keys."""
    parts = [read(path_of(workdir, name)) for name in members]
    if not folds:
        return parts
    per_film = ("label", "probability", "logits", "key", "patient")
    whole = {name: np.concatenate([part[name] for part in parts]) for name in per_film}
    order = np.argsort(whole["key"], kind="stable")
    return [{**{name: value[order] for name, value in whole.items()}, "classes": parts[0]["classes"],
             "split": parts[0]["split"]}]  # fmt: skip


def validation(workdir: Path, member: str) -> Arrays | None:
    """A member's predictions on the validation part, or None where there is none."""
    path = path_of(workdir, member, "val")
    return read(path) if path.exists() else None


def films_of(context: Any, split: str, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A split as (n, 1024) rows of 32x32 films and (n, k) labels, without ever holding its films at full size."""
    rows, labels = [], []
    read_batches = partial(data.eval_batches, context.films, split, classes=tuple(context.config.data.classes))
    for batch in read_batches(batch_size=256, keep=keep):
        valid = batch.valid > 0
        rows.append(small(batch.image[valid]))
        labels.append(batch.label[valid])
    return np.concatenate(rows), np.concatenate(labels)
