"""What generated films are good for: classifiers trained with and without them, judged on patients' films."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.infer import classifier, generator
from cxrjax.infer.generator import Generator
from cxrjax.metrics import bootstrap, entries, localization, scoring
from cxrjax.ops.conditions import NORMAL
from cxrjax.phases import Context, start
from cxrjax.studies.arrays import exists, read_arrays, write_arrays
from cxrjax.tasks import classify
from cxrjax.train import loop
from cxrjax.types import Batch, Results, State

ClassOf = Callable[[Any, np.ndarray], np.ndarray]
ARMS = {
    "real": "films of patients",
    "balanced": "films of patients, oversampled to balance",
    "augmented": "films of patients, flips and brightness",
    "real_and_made": "films of patients and generated ones, half each",
    "made": "generated films alone",
    "pretrained": "generated films first, then those of patients for as many steps",
}
LEVEL = 0.5  # of a map in [0, 1], above which it is held against the mask
MOST_MAPS = 200  # films with a finding whose maps are held against its mask


def check(config: Any) -> None:
    """Raises UserError where an arm is unknown, or the classifier of `use` could not be made."""
    arms = tuple(config.study.arms)
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown:
        raise UserError(f"study.arms has {unknown[0]!r}: expected some of {', '.join(ARMS)}")
    if arms and "real" not in arms:
        raise UserError("study.arms lacks 'real', which every other arm is compared with")
    if arms:
        classify.make(config.use, len(config.data.classes))


class Generated:
    """An endless stream of generated films, each class and Normal equally often; where it stands is one number."""

    def __init__(self, image: np.ndarray, label: np.ndarray, batch: int, seed: int, shard: tuple[int, int]):
        self._image, self._label, self._batch, self._seed, self._next = image, label, batch, seed, 0
        share = batch // shard[1]
        self._mine = slice(shard[0] * share, (shard[0] + 1) * share)  # of every batch

    def __next__(self) -> Batch:
        rng = np.random.default_rng((self._seed, self._next))
        self._next += 1
        index = rng.integers(len(self._image), size=self._batch)[self._mine]
        image = (self._image[index, ..., None] * np.float32(1 / 255)).astype(np.float32)
        return Batch(image, self._label[index], np.ones(len(index), np.float32), index.astype(np.int32))

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch."""
        return {"next": self._next, "seed": self._seed}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on behind the batch at which `get_state` was called."""
        self._next = int(state["next"])

    def close(self) -> None:
        """Holds nothing open."""


class Mixed:
    """Two streams as one whose batches hold a batch of each, in turn: blocks of it are made of blocks of theirs."""

    def __init__(self, first: loop.Stream, second: loop.Stream):
        self._both = (first, second)

    def __next__(self) -> Batch:
        return jax.tree.map(
            lambda *rows: np.stack(rows, axis=1).reshape(-1, *rows[0].shape[1:]), *(next(s) for s in self._both)
        )

    def get_state(self) -> dict[str, Any]:
        """Both positions."""
        return {name: stream.get_state() for name, stream in zip(("first", "second"), self._both, strict=True)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets both positions."""
        for name, stream in zip(("first", "second"), self._both, strict=True):
            stream.set_state(state[name])

    def close(self) -> None:
        """Closes both."""
        for stream in self._both:
            stream.close()


def oversampled(condition: np.ndarray) -> np.ndarray:
    """Positions of films (n,), those of rarer classes repeated until every class has as many as the largest."""
    count = np.bincount(condition)
    return np.concatenate([np.resize(np.flatnonzero(condition == i), count.max()) for i in np.flatnonzero(count)])


def _generated(context: Context, trained: Generator) -> tuple[np.ndarray, np.ndarray]:
    """`study.num_made` films of each class and of Normal (n, s, s) uint8, and their labels (n, k)."""
    study, k = context.config.study, len(trained.options.classes)
    condition = np.repeat(np.arange(k + 1), study.num_made)
    z = generator.noise(trained.options, len(condition), context.config.seed + 5)
    image = trained.films(z, generator.codes(trained.options, condition), study.batch)[-1]
    return image, np.eye(k + 1, dtype=np.float32)[condition][:, :k]


def _stream(
    context: Context, arm: str, films: tuple[np.ndarray, np.ndarray], condition: np.ndarray, seed: int
) -> loop.Stream:
    batch = context.config.use.batch
    read = partial(context.batches, seed=seed)
    if arm == "made":
        return Generated(*films, batch, seed, context.shard)
    if arm == "real_and_made":
        return Mixed(read(batch_size=batch // 2), Generated(*films, batch // 2, seed, context.shard))
    if arm == "balanced":
        return read(batch_size=batch, keep=oversampled(condition))
    return read(batch_size=batch, augment=("flip", "brightness") if arm == "augmented" else ())


def run(context: Context, trained: Generator, class_of: ClassOf) -> Results:
    """Trains every arm with every seed, judges it on held-out films; on phantoms also its maps against the masks.

    Args:
      context: of the run.
      trained: makes the films.
      class_of: config and labels (n, k) -> (n,) the class of each film, Normal last.

    Returns:
      By arm: entries `auroc`, `minus_real` (paired by patient), `pointing`, `iou`, and `seeds`, each seed's AUROC.
    """
    study = context.config.study
    if not study.arms:
        return {}
    classes = tuple(context.config.data.classes)
    films = _generated(context, trained)
    label = data.labels.select(context.films.table("train")["labels"], context.films.columns, classes)
    condition = class_of(context.config, label)
    task = classify.make(context.config.use, len(classes))
    found = {
        arm: [_one(context, task, arm, seed, films, condition) for seed in range(study.seeds)] for arm in study.arms
    }
    out: Results = {}
    base = np.mean([arrays["probability"] for arrays in found["real"]], axis=0)
    for arm, seeds in found.items():
        truth, patient = seeds[0]["label"], seeds[0]["patient"]
        mean = np.mean([arrays["probability"] for arrays in seeds], axis=0)
        scored = scoring.multilabel(truth, mean, patient, classes)
        each = [scoring.multilabel(truth, a["probability"], patient, classes, draws=2)["auroc"]["value"] for a in seeds]
        entry: Results = {"auroc": scored["auroc"], "seeds": {str(i): value for i, value in enumerate(each)}}
        if arm != "real":
            entry["minus_real"] = scoring.difference(truth, mean, base, patient, exclusive=False)["auroc"]
        for name in ("pointing", "iou"):
            if name in seeds[0]:
                values = np.mean([arrays[name] for arrays in seeds], axis=0)
                entry[name] = entries.entry(
                    *bootstrap.interval(np.mean, (values,), seeds[0]["boxed"]), n=len(values), unit="fraction"
                )
                if arm != "real":
                    other = np.mean([arrays[name] for arrays in found["real"]], axis=0)
                    gap = bootstrap.paired_difference(values, other, seeds[0]["boxed"])
                    entry[f"{name}_minus_real"] = entries.entry(*gap, n=len(values), unit="fraction")
        out[arm] = entry
    return out


def _one(
    context: Context, task: Any, arm: str, seed: int, films: tuple[np.ndarray, np.ndarray], condition: np.ndarray
) -> dict[str, np.ndarray]:
    """One training and what it says of the held-out films; kept in a file."""
    path = context.workdir / "synthesis" / "use" / f"{arm}_{seed}.npz"
    if exists(path):
        return read_arrays(path)
    config, split = context.config.use, context.films.held_out
    state = _fitted(context, task, arm, seed, films, condition)
    rows = context.evaluate(jax.jit(task.predict), state, split, config.eval_batch)
    table = context.films.table(split)
    arrays = {
        "label": rows["label"], "probability": classify.scores(classify.options_of(config), rows["logits"]),
        "patient": table["patient"][rows["index"]],
    }  # fmt: skip
    if context.films.has_truth:
        arrays |= _maps(context, state, split)
    write_arrays(path, **arrays)
    return arrays


def _fitted(
    context: Context, task: Any, arm: str, seed: int, films: tuple[np.ndarray, np.ndarray], condition: np.ndarray
) -> State:
    """One training of an arm; `pretrained` goes on from the weights that `made` ends with, its optimizer anew."""
    config, carry = context.config.use, None
    if arm == "pretrained":
        carry = partial(start.bring, config, _fitted(context, task, "made", seed, films, condition))
    number = zlib.crc32(f"{context.config.seed}/use_{seed}".encode()) & 0x7FFFFFFF  # the same for every arm
    return context.fit(
        task, loop.Phase(f"use/{arm}_{seed}", config.steps, config.log_every, 0, config.save_every),
        stream=_stream(context, arm, films, condition, number), evals=None,
        example=Batch.blank(context.mesh.size, context.config.data.size, len(context.classes)),
        key=jax.random.fold_in(context.key, number), carry=carry,
    )  # fmt: skip


def _maps(context: Context, state: State, split: str) -> dict[str, np.ndarray]:
    """Detection (pointing game) and segmentation (IoU at one half) by the network's map of each finding, no mask used
    in training."""
    config, classes = context.config.use, context.classes
    seeing = classifier.of(config, state, classes, context.config.data.size, context.mesh)
    label = data.labels.select(context.films.table(split)["labels"], context.films.columns, classes)
    pointing, iou, patients = [], [], []
    for c, name in enumerate(classes):
        place = np.flatnonzero(label[:, c] == 1)[: MOST_MAPS // len(classes)]
        if name == NORMAL or not len(place):
            continue
        films = data.films(context.films, split, place)
        maps = seeing.maps(films["image"], np.full(len(place), c), config.eval_batch)
        pointing.append(localization.pointing(maps, films["masks"][name]))
        iou.append(localization.overlap(maps, films["masks"][name], LEVEL).iou)
        patients.append(films["patient"])
    found = {"pointing": np.concatenate(pointing), "iou": np.concatenate(iou), "boxed": np.concatenate(patients)}
    known = np.isfinite(found["iou"])
    return {name: value[known] for name, value in found.items()}
