"""Streams of generated films: the same batches whatever the number of processes, and from where they stood."""

from __future__ import annotations

import jax
import numpy as np

from cxrjax.studies.synthesis.use import Generated, Mixed

FILMS = np.random.default_rng(0).integers(0, 256, (30, 4, 4), np.uint8)
LABEL = np.eye(3, dtype=np.float32)[np.arange(30) % 3]


def stream(index: int = 0, count: int = 1, seed: int = 7) -> Mixed:
    """Real films and generated ones, as the `use` study mixes them; here both are drawn."""
    shard = index, count
    return Mixed(Generated(FILMS, LABEL, 8, seed, shard), Generated(255 - FILMS, LABEL, 8, seed + 1, shard))


def test_processes_hold_the_blocks_of_the_one_processs_batch():
    whole, parts = stream(), [stream(i, 4) for i in range(4)]
    for _ in range(3):
        batch = next(whole)
        together = jax.tree.map(lambda *rows: np.concatenate(rows), *(next(part) for part in parts))
        for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(batch), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_another_number_of_processes_goes_on_with_the_same_films():
    whole, half = stream(), stream(1, 2)
    for _ in range(2):
        next(whole)
        next(half)
    later = stream()
    later.set_state(half.get_state())
    np.testing.assert_array_equal(next(later).index, next(whole).index)
