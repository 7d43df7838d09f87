"""Films on their way into the records: decoded in a few threads, and their phase features computed in batches."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cxrjax.data import decode
from cxrjax.data.sources.base import Record

DECODERS = 4
# Films a call of the phase features; larger batches are no faster on a CPU, and this is little beside a network's.
ENH_BATCH = 8
Result = TypeVar("Result")


class Item(NamedTuple):
    """A record with its film (s, s) uint8 or the fault it has, the hash of what the film was decoded from, its phase
    features (s, s, 3) uint8 or None, and of a film from a file its size (h, w), its bits and how it was shown."""

    record: Record
    film: np.ndarray | decode.CorruptFilm
    content: bytes
    enh: np.ndarray | None = None
    shape: tuple[int, ...] = ()
    bits: int = 0
    shown: str = ""


def decoded(records: Iterable[Record], size: int, depth: int) -> Iterator[Item]:
    """Decodes films, 16-bit ones as of `depth` bits, see `decode.decode`."""

    def one(record: Record) -> Item:
        film = record.film
        try:
            if isinstance(film, np.ndarray):
                return Item(record, decode.from_array(record.key, film, size), hashlib.sha256(film.tobytes()).digest())
            found = decode.film(film, size, depth)
            content = hashlib.sha256(film.read_bytes()).digest()
            return Item(record, found.pixels, content, None, found.shape, found.bits, found.shown)
        except decode.CorruptFilm as fault:
            return Item(record, fault, b"")

    return _in_order(one, records)


def own_depths(records: Iterable[Record]) -> Iterator[int]:
    """The depth that each film needs by itself, 0 for one of 8 bits or one that cannot be read."""

    def one(record: Record) -> int:
        try:
            return 0 if isinstance(record.film, np.ndarray) else decode.own_depth(record.film)
        except decode.CorruptFilm:
            return 0

    return _in_order(one, records)


def _in_order(one: Callable[[Record], Result], records: Iterable[Record]) -> Iterator[Result]:
    """Maps in a few threads (Pillow releases the lock), in order, with a bounded number in flight."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for record in records:
            waiting.append(pool.submit(one, record))
            if len(waiting) > 4 * DECODERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
