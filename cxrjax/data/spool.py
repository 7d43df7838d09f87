"""Records on their way to disk, in order, one file instead of the memory."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("=Q")


class Spool:
    """Takes the place of tfds's shuffler, which holds a whole split in memory and past 1 GB asks for TensorFlow.

    Records here have their final order, so there is nothing to shuffle: they wait in one unnamed file, until their
    number, which decides the shards, is known.
    """

    def __init__(self, dirpath: Any, **_: Any):
        Path(dirpath).mkdir(parents=True, exist_ok=True)
        # Closed when it has been read, and gone with the process: it never has a name.
        self._file = tempfile.TemporaryFile(dir=dirpath)  # noqa: SIM115
        self.size = 0
        self.num_examples = 0

    @property
    def bucket_lengths(self) -> list[int]:
        """One bucket of everything."""
        return [self.num_examples]

    def add(self, key: int, data: bytes) -> None:
        """Appends a record; its key is its place.

        Raises:
          OSError: the disk is full.
        """
        if key != self.num_examples:
            raise ValueError(f"records come in order: expected number {self.num_examples}, got {key}")
        self._file.write(_LENGTH.pack(len(data)) + data)
        self.size += len(data)
        self.num_examples += 1

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for key in range(self.num_examples):
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
            yield key, self._file.read(length)
        self._file.close()
