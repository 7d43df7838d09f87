"""The tfds builder: checked films become ArrayRecord files, in order, without TensorFlow."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer as tfds_writer

from cxrjax.data.prepared import whole
from cxrjax.data.spool import Spool

# Raw bytes, not PNG: at 256 px PNG halves the files, and is read five times and written six times slower.
RAW = tfds.features.Encoding.BYTES
FULL = os.strerror(errno.ENOSPC)


class Films(tfds.core.GeneratorBasedBuilder):
    """Gray films with labels, patients and, where known, the truth about them."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        data_dir: str,
        size: int,
        columns: int,
        has_truth: bool,
        has_enh: bool,
        examples: Mapping[str, Iterable[dict]],
    ):
        """Args: the folder to write to, side in pixels, number of label columns, and the examples by split."""
        self._size = size
        self._columns = columns
        self._has_truth = has_truth
        self._has_enh = has_enh
        self._examples = examples
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> Any:
        side = self._size
        features = {
            "image": tfds.features.Tensor(shape=(side, side), dtype=np.uint8, encoding=RAW),
            "labels": tfds.features.Tensor(shape=(self._columns,), dtype=np.float32, encoding=RAW),
            "key": tfds.features.Text(),
            "patient": tfds.features.Text(),
            "severity": tfds.features.Scalar(np.float32),
            "position": tfds.features.Scalar(np.int32),
        }
        if self._has_truth:
            features["twin"] = tfds.features.Tensor(shape=(side, side), dtype=np.uint8, encoding=RAW)
            features["truth"] = tfds.features.Tensor(shape=(side, side, 3), dtype=np.uint8, encoding=RAW)
        if self._has_enh:
            features["enh"] = tfds.features.Tensor(shape=(side, side, 3), dtype=np.uint8, encoding=RAW)
        # In order, so that a film's position in its split is its position in the source.
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        return {split: self._generate_examples(split) for split in self._examples}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for example in self._examples[split]:
            yield example["position"], example


def write(
    folder: Path,
    *,
    size: int,
    columns: int,
    has_truth: bool,
    examples: Mapping[str, Iterable[dict]],
    has_enh: bool = False,
) -> None:
    """Writes every split's examples under `folder`, silently; `examples` are consumed in their order.

    Raises:
      OSError: the disk is full.
    """
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # tfds prints two lines of its own
        films = Films(
            data_dir=str(folder),
            size=size,
            columns=columns,
            has_truth=has_truth,
            has_enh=has_enh,
            examples=examples,
        )
        try:
            with mock.patch.object(tfds_writer.shuffle, "Shuffler", Spool):
                films.download_and_prepare()
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
            builder = tfds.builder_from_directory(str(folder / "films" / str(Films.VERSION)))
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
