"""Films on their way into the records: decoded in a few threads, and their phase features computed in batches."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cxrjax.data import decode
from cxrjax.data.sources.base import Record

DECODERS = 4
# Films a call of the phase features; larger batches are no faster on a CPU, and this is little beside a network's.
ENH_BATCH = 8


class Item(NamedTuple):
    """A record with its film (s, s) uint8 or the fault it has, and its phase features (s, s, 3) uint8 or None."""

    record: Record
    film: np.ndarray | decode.CorruptFilm
    enh: np.ndarray | None = None


def decoded(records: Iterable[Record], size: int) -> Iterator[Item]:
    """Decodes in a few threads (Pillow releases the lock), in order, with a bounded number in flight."""

    def one(record: Record) -> np.ndarray | decode.CorruptFilm:
        try:
            if isinstance(record.film, np.ndarray):
                return decode.from_array(record.key, record.film, size)
            return decode.decode(record.film, size)
        except decode.CorruptFilm as fault:
            return fault

    waiting: deque[tuple[Record, Future]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for record in records:
            waiting.append((record, pool.submit(one, record)))
            if len(waiting) > 4 * DECODERS:
                done, future = waiting.popleft()
                yield Item(done, future.result())
        while waiting:
            done, future = waiting.popleft()
            yield Item(done, future.result())


def enhanced(items: Iterable[Item], options: Mapping[str, Any]) -> Iterator[Item]:
    """Adds the phase features to every film that could be read; `options` are `ops.enhance.enhance`'s.

    Each feature is in [0, 1] and is stored as a byte. A film for which they are not finite becomes a fault.
    """
    from cxrjax.ops.enhance import enhance  # only where asked for: it brings jax into reading a folder of files

    stream = iter(items)
    while batch := list(itertools.islice(stream, ENH_BATCH)):
        films = [item.film for item in batch if isinstance(item.film, np.ndarray)]
        if not films:
            yield from batch
            continue
        # The last film fills the batch up, so that one shape is compiled.
        full = np.stack(films + [films[-1]] * (ENH_BATCH - len(films))).astype(np.float32) / np.float32(255)
        found = iter(np.asarray(enhance(full, **options))[: len(films)])  # (n, s, s, 3)
        for item in batch:
            if not isinstance(item.film, np.ndarray):
                yield item
                continue
            enh = next(found)
            if np.isfinite(enh).all():
                yield item._replace(enh=np.rint(np.clip(enh, 0, 1) * 255).astype(np.uint8))
            else:
                yield item._replace(film=decode.CorruptFilm(item.record.key, "its phase features are not finite"))
