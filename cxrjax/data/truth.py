"""What a phantom knows of itself, packed: sixteen finding masks and two organs in three bytes a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cxrjax.data.labels import FINDINGS


def pack(masks: Mapping[str, np.ndarray], lungs: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """Packs boolean masks into bits.

    Args:
      masks: (s, s) bool by finding, each a name of `FINDINGS`.
      lungs: (s, s) bool.
      heart: (s, s) bool.

    Returns:
      (s, s, 3) uint8: channels 0 and 1 are the low and high byte of a word whose bit i is `FINDINGS[i]`; channel 2 has
      the lungs in bit 0 and the heart in bit 1.
    """
    word = np.zeros(lungs.shape, np.uint16)
    for name, mask in masks.items():
        word |= mask.astype(np.uint16) << FINDINGS.index(name)
    organs = lungs.astype(np.uint8) | (heart.astype(np.uint8) << 1)
    return np.stack([(word & 0xFF).astype(np.uint8), (word >> 8).astype(np.uint8), organs], axis=-1)


def masks(packed: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Unpacks finding masks: (..., 3) uint8 to a dict of (...) bool, for each of `names`."""
    out = {}
    for name in names:
        byte, bit = divmod(FINDINGS.index(name), 8)
        out[name] = (packed[..., byte] >> bit & 1).astype(bool)
    return out


def organs(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unpacks (lungs, heart): (..., 3) uint8 to two (...) bool."""
    return (packed[..., 2] & 1).astype(bool), (packed[..., 2] >> 1 & 1).astype(bool)
