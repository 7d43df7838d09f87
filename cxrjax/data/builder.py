"""Checked films become a tfds data set of ArrayRecord files, in order, without TensorFlow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from cxrjax.data.prepared import whole

# Raw bytes, not PNG: at 256 px PNG halves the files, and is read five times and written six times slower.
RAW = tfds.features.Encoding.BYTES
FULL = os.strerror(errno.ENOSPC)
VERSION = "1.0.0"
SHARD = 2**28  # bytes of films in a file


class Serializer(example_serializer.ExampleSerializer):
    """One example, one sequence of bytes: by itself protobuf orders the fields of a map otherwise in each process."""

    def serialize_example(self, example: Any) -> bytes:
        """The bytes of a tf.train.Example, its features by the alphabet."""
        return self.get_tf_example(example).SerializeToString(deterministic=True)


class _Writer(tfds.core.SequentialWriter):
    def __init__(self, info: tfds.core.DatasetInfo, most: int, file_format: str) -> None:
        super().__init__(info, most, file_format=file_format)
        self._serializer = Serializer(info.features.get_serialized_info())


def write(
    folder: Path,
    *,
    size: int,
    columns: int,
    has_truth: bool,
    examples: Mapping[str, Iterable[dict]],
    has_enh: bool = False,
) -> None:
    """Writes every split's examples under `folder` as they come, so that a film's position is its place in the source.

    Args:
      folder: to write to.
      size: side of the films, pixels.
      columns: number of labels.
      has_truth: there are `twin` and `truth`.
      examples: by split, consumed in their order.
      has_enh: there is `enh`.

    Raises:
      OSError: the disk is full.
    """
    features: dict[str, Any] = {
        "image": tfds.features.Tensor(shape=(size, size), dtype=np.uint8, encoding=RAW),
        "labels": tfds.features.Tensor(shape=(columns,), dtype=np.float32, encoding=RAW),
        "key": tfds.features.Text(),
        "patient": tfds.features.Text(),
        "severity": tfds.features.Scalar(np.float32),
        "position": tfds.features.Scalar(np.int32),
    }
    if has_truth:
        features["twin"] = tfds.features.Tensor(shape=(size, size), dtype=np.uint8, encoding=RAW)
        features["truth"] = tfds.features.Tensor(shape=(size, size, 3), dtype=np.uint8, encoding=RAW)
    if has_enh:
        features["enh"] = tfds.features.Tensor(shape=(size, size, 3), dtype=np.uint8, encoding=RAW)
    place = folder / "films" / VERSION
    place.mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity("films", tfds.core.Version(VERSION), str(place), __name__),
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
    )
    planes = 1 + 4 * has_truth + 3 * has_enh
    writer = _Writer(info, max(1, SHARD // (planes * size * size)), file_format="array_record")
    try:
        writer.initialize_splits(list(examples))
        for split, found in examples.items():
            writer.add_examples({split: found})
        writer.close_all()
    except RuntimeError as error:  # the record writer tells a full disk in its text only
        if FULL not in str(error):
            raise
        raise OSError(errno.ENOSPC, FULL, str(folder)) from error


def read(folder: Path, split: str) -> Stored:
    """Opens one split that `write` made: a sequence of dicts of numpy arrays, read one record at a time."""
    return Stored(folder, split)


def read_images(folder: Path, split: str, field: str = "image") -> Images:
    """Opens one split for its images (or "enh") alone, which is twice as fast as `read`."""
    return Images(folder, split, field)


class Stored:
    """A sequence of records, of which `fields` are parsed; all if there are none.

    Raises:
      UserError: a record cannot be read, also where an item is taken.
    """

    def __init__(self, folder: Path, split: str, fields: Sequence[str] = ()):
        self._folder = folder
        with whole(folder):
            builder = tfds.builder_from_directory(str(folder / "films" / VERSION))
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._records = builder.as_data_source(split=split, deserialize_method=raw)
            features = builder.info.features
            self._features = tfds.features.FeaturesDict({name: features[name] for name in fields or features})

    def __len__(self) -> int:
        with whole(self._folder):
            return len(self._records)

    def __getitem__(self, i: int) -> Any:
        with whole(self._folder):
            return self._features.deserialize_example_np(self._records[i])


class Images(Stored):
    """A sequence of (s, s) uint8 films or (s, s, 3) phase features; the other features of a record are not parsed."""

    def __init__(self, folder: Path, split: str, field: str):
        super().__init__(folder, split, (field,))
        self._field = field

    def __getitem__(self, i: int) -> np.ndarray:
        return super().__getitem__(i)[self._field]
