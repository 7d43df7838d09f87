"""A small source for tests: films that can be told apart, with labels, some unknown."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrjax.data.preparation import Prepared, materialize
from cxrjax.data.sources.base import Record, Source, digest

COLUMNS = ("Effusion", "Mass")


def records(counts: dict[str, int], size: int = 16, truth: bool = False) -> list[Record]:
    """Films of noise; every third is normal, every fourth has an unknown Mass; patients have two films each."""
    out = []
    for split, count in counts.items():
        for i in range(count):
            image = np.random.default_rng([i, len(split)]).integers(0, 256, (size, size), np.uint8)
            labels = np.array([i % 3 > 0, np.nan if i % 4 == 3 else i % 3 == 2], np.float32)
            out.append(Record(f"{split}{i}", split, f"{split}-p{i // 2}", labels, image, math.nan))
            if truth:
                out[-1] = out[-1]._replace(twin=image[::-1], truth=np.stack([image, image.T, image], -1))
    return out


def source(films: list[Record], columns: tuple[str, ...] = COLUMNS, has_truth: bool = False) -> Source:
    splits: dict[str, int] = {}
    for film in films:
        splits[film.split] = splits.get(film.split, 0) + 1
    fingerprint = digest({"keys": [film.key for film in films]})
    return Source("fake", columns, "fake-1", fingerprint, lambda: iter(films), has_truth, splits)


def prepared(cache: Path, size: int = 16, **counts: int) -> Prepared:
    return materialize(source(records(counts, size)), cache, size=size, limit=0.0)


@pytest.fixture(scope="session")
def fake() -> SimpleNamespace:
    return SimpleNamespace(COLUMNS=COLUMNS, records=records, source=source, prepared=prepared)
