"""Reading prepared films: an endless shuffled stream to train on, an exact ordered pass to evaluate, or all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from cxrjax.data import balancing, builder, transforms, truth
from cxrjax.data import labels as labels_lib
from cxrjax.data.labels import FINDINGS
from cxrjax.data.lungs import outside
from cxrjax.data.preparation import Prepared
from cxrjax.errors import UserError, did_you_mean
from cxrjax.types import Batch

# Films read ahead of the training step, in batches; grain's own default of 500 batches fills the memory.
READ_AHEAD = 4
# What a batch's image can be: the films, the phase features stored beside them, or the films with found lungs blank.
FIELDS = ("image", "enh", "outside")
Field = str | np.ndarray


class TrainIterator:
    """An endless stream of training batches that can be stopped and resumed exactly.

    The state is one number, the same in every process, so a run may resume on another number of processes or with
    another batch size: the order of films and each film's augmentation depend on the seed and the position alone.
    """

    def __init__(self, films: Any, labels: np.ndarray, identity: dict[str, Any]):
        self._films = films
        self._labels = labels
        self._identity = identity

    def __iter__(self) -> TrainIterator:
        return self

    def __next__(self) -> Batch:
        rows = next(self._films)
        index = np.asarray(rows["index"], np.int32)
        return Batch(
            image=_to_float(rows["image"]),
            label=self._labels[index],
            valid=np.ones(len(index), np.float32),
            index=index,
        )

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch given, as JSON-able data."""
        return {**self._films.get_state(), **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues after the batch at which `get_state` was called.

        Raises:
          UserError: the state is of other data, another choice of films or another seed.
        """
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise UserError(
                    f"the checkpoint was trained on other data: {name} was {state.get(name)!r} and now is {value!r}; "
                    "restore the data config, or start in a new workdir"
                )
        self._films.set_state({name: value for name, value in state.items() if name not in self._identity})

    def close(self) -> None:
        """Stops the reading threads."""
        self._films.close()


def batches(
    prepared: Prepared,
    split: str,
    *,
    classes: Sequence[str],
    batch_size: int,
    seed: int,
    keep: np.ndarray | None = None,
    augment: Sequence[str] = (),
    shard: tuple[int, int] = (0, 1),
    threads: int = 2,
    field: Field = "image",
    balance: bool | Sequence[str] | None = None,
) -> TrainIterator:
    """Training batches, for ever.

    Each epoch passes every film once in a new seeded order. Batches run across the border of two epochs, so no film
    is dropped and a batch is always full. With `balance` an epoch has as many films of each class as the largest class
    has: all films of a class are passed equally often, but for one time, and which ones once more is drawn anew every
    epoch.

    Args:
      prepared: the data.
      split: which split.
      classes: the labels wanted, see `labels.select`.
      batch_size: films a step over all processes.
      seed: decides the order and the augmentation.
      keep: positions in the split to draw from; all if None.
      augment: names from `transforms.TRANSFORMS`, applied in this order.
      shard: (process index, process count); each gets every count-th film of the global batch.
      threads: reading threads; 0 reads in the caller.
      field: "image" for films, "outside" for films with found lungs blank, image (b, s, s, 1), or "enh" for their phase
        features, image (b, s, s, 3); or (n, ...) float32 of what a film is replaced by, one a position, such as a
        network's features, image (b, ...).
      balance: True to balance `classes`, or the names of the classes to balance. They exclude each other, or one class
        alone is balanced against the films without it.

    Returns:
      An iterator of `Batch` with batch_size / process_count rows.

    Raises:
      UserError: no such split, class, field or augmentation; nothing to draw from; a class that is unknown on every
        film; a batch that cannot be divided; classes to balance that do not exclude each other.
    """
    positions = _positions(prepared, split, keep)
    if not len(positions):
        raise UserError(f"no film of split {split!r} is left to train on")
    _check_batch(batch_size, shard)
    labels = _labels(prepared, split, classes)
    unknown = np.isnan(labels[positions]).all(axis=0)  # (k,)
    if unknown.any():
        names = ", ".join(name for name, lost in zip(classes, unknown, strict=True) if lost)
        raise UserError(f"class {names} is unknown on every film of split {split!r}; drop it from data.classes")
    change = transforms.compose(augment)
    stored = _stored(prepared, split, field)
    groups: list[np.ndarray] = []
    if balance:
        wanted = tuple(classes) if balance is True else tuple(balance)
        groups = balancing.groups(_labels(prepared, split, wanted)[positions], positions, wanted)
    slots, pick = balancing.slots(groups, seed) if groups else (positions, None)

    def load(i: np.int64) -> dict[str, Any]:
        return {"image": stored[int(i)], "index": np.int32(i)}

    def vary(row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {**row, "image": change(row["image"], rng)}

    dataset = grain.MapDataset.source(slots).seed(seed).shuffle().repeat()
    dataset = (dataset.map_with_index(pick) if pick else dataset).map(load)
    if augment:
        dataset = dataset.random_map(vary)
    stream = grain.experimental.ElasticIterator(
        dataset,
        batch_size,
        grain.sharding.ShardOptions(shard_index=shard[0], shard_count=shard[1]),
        read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=READ_AHEAD if threads else 0),
    )
    identity = {
        "data": prepared.fingerprint + _suffix(field),
        "split": split + ("/balanced" if balance else ""),
        "films": len(positions),
        "seed": seed,
    }
    return TrainIterator(iter(stream), labels, identity)


def eval_batches(
    prepared: Prepared,
    split: str,
    *,
    classes: Sequence[str],
    batch_size: int,
    keep: np.ndarray | None = None,
    limit: int | None = None,
    shard: tuple[int, int] = (0, 1),
    threads: int = 2,
    field: Field = "image",
) -> Iterator[Batch]:
    """Every film once, in order; nothing is dropped.

    The last global batch is filled up with rows of valid 0 (image 0, label NaN, index -1); every process gets the
    same number of batches. Arguments as in `batches`; `limit` stops after so many films.

    Raises:
      UserError: as `batches`.
    """
    positions = _positions(prepared, split, keep)[:limit]
    _check_batch(batch_size, shard)
    labels = _labels(prepared, split, classes)
    stored = _stored(prepared, split, field)
    side = prepared.size
    blank = np.zeros((side, side, 3) if _suffix(field) == "/enh" else (side, side), np.uint8)
    if isinstance(field, np.ndarray):
        blank = np.zeros(field.shape[1:], field.dtype)
    missing = -len(positions) % batch_size
    padded = np.concatenate([positions, np.full(missing, -1, positions.dtype)])
    table = padded.reshape(-1, batch_size)[:, shard[0] :: shard[1]]  # (batches, batch_size / count)

    def load(index: np.ndarray) -> Batch:
        valid = index >= 0
        image = np.repeat(blank[None], len(index), axis=0)
        for row in np.flatnonzero(valid):
            image[row] = stored[int(index[row])]
        label = np.full((len(index), labels.shape[1]), np.nan, np.float32)
        label[valid] = labels[index[valid]]
        return Batch(_to_float(image), label, valid.astype(np.float32), index.astype(np.int32))

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=READ_AHEAD if threads else 0)
    return iter(grain.MapDataset.source(table).map(load).to_iter_dataset(options))


def films(prepared: Prepared, split: str, keep: np.ndarray | None = None) -> dict[str, Any]:
    """Films as plain arrays, for studies that look at a few.

    Returns:
      `image` (n, s, s, 1) float32 in [0, 1], `key` (n,), `patient` (n,), `labels` (n, k) in the order of
      `prepared.columns`, `severity` (n,), `index` (n,) int32; and `twin` (n, s, s, 1) float32, `masks` {finding:
      (n, s, s) bool}, `lungs` and `heart` (n, s, s) bool, or None where the data set has no truth; and `enh`
      (n, s, s, 3) float32 in [0, 1], or None where the phase features were not prepared.

    Raises:
      UserError: no such split, or a position outside it.
    """
    positions = _positions(prepared, split, keep)
    stored = builder.read(prepared.directory, prepared.stored(split))
    rows = [stored[int(i)] for i in positions]
    side = prepared.size
    out: dict[str, Any] = {name: column[positions] for name, column in prepared.table(split).items()}
    out["index"] = positions.astype(np.int32)
    out["image"] = _to_float(np.array([row["image"] for row in rows], np.uint8).reshape(-1, side, side))
    out |= dict.fromkeys(("twin", "masks", "lungs", "heart"))
    if prepared.has_truth:
        out["twin"] = _to_float(np.array([row["twin"] for row in rows], np.uint8).reshape(-1, side, side))
        packed = np.array([row["truth"] for row in rows], np.uint8).reshape(-1, side, side, 3)
        out["masks"] = truth.masks(packed, [name for name in prepared.columns if name in FINDINGS])
        out["lungs"], out["heart"] = truth.organs(packed)
    out["enh"] = None
    if prepared.has_enh:
        out["enh"] = _to_float(np.array([row["enh"] for row in rows], np.uint8).reshape(-1, side, side, 3))
    return out


def _to_float(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.float32:  # features, which are no grays
        return image
    scaled = np.multiply(image, np.float32(1 / 255), dtype=np.float32)
    return scaled[..., None] if image.ndim == 3 else scaled  # (b, h, w, c)


class _Outside:
    """Films (s, s) uint8 with found lungs blank; each film's are sought once."""

    def __init__(self, films: builder.Images):
        self._films = films
        self._packed: dict[int, np.ndarray] = {}

    def __getitem__(self, i: int) -> np.ndarray:
        film = self._films[i]
        if i not in self._packed:
            self._packed[i] = np.packbits(outside(film[None] / np.float32(255)))
        return film * np.unpackbits(self._packed[i], count=film.size).reshape(film.shape)


def _suffix(field: Field) -> str:
    """What tells a stream of this field from one of the films themselves."""
    return "/features" if isinstance(field, np.ndarray) else "" if field == "image" else f"/{field}"


def _stored(prepared: Prepared, split: str, field: Field) -> builder.Images | _Outside | np.ndarray:
    if isinstance(field, np.ndarray):
        if len(field) != prepared.count(split):
            raise UserError(f"{len(field)} rows for the {prepared.count(split)} films of split {split!r}")
        return field
    if field not in FIELDS:
        raise UserError(f"field is {field!r}: expected one of {', '.join(FIELDS)}{did_you_mean(field, FIELDS)}")
    if field == "enh" and not prepared.has_enh:
        raise UserError(f"{prepared.directory.name} was prepared without phase features; set data.enh=True")
    if field == "outside":
        return _Outside(builder.read_images(prepared.directory, prepared.stored(split)))
    return builder.read_images(prepared.directory, prepared.stored(split), field)


def _labels(prepared: Prepared, split: str, classes: Sequence[str]) -> np.ndarray:
    return labels_lib.select(prepared.table(split)["labels"], prepared.columns, classes)


def _positions(prepared: Prepared, split: str, keep: np.ndarray | None) -> np.ndarray:
    count = prepared.count(split)
    if keep is None:
        return np.arange(count)
    keep = np.asarray(keep)
    if keep.dtype == bool or keep.ndim != 1:
        raise UserError("keep holds positions in the split, a 1-D array of integers (np.flatnonzero of a mask)")
    if keep.size and (keep.min() < 0 or keep.max() >= count):
        raise UserError(f"keep has positions from {keep.min()} to {keep.max()}; split {split!r} has {count} films")
    return keep.astype(np.int64)


def _check_batch(batch_size: int, shard: tuple[int, int]) -> None:
    if batch_size < 1 or batch_size % shard[1]:
        raise UserError(f"batch_size {batch_size} is not a positive multiple of the number of processes, {shard[1]}")
