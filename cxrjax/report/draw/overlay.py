"""What is laid over a film: a map, and the change of a treatment."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

DIFFERENCE_SPAN = 0.3  # the gray change at which the difference map's color saturates
# Dark where nothing changed, so that the maps sit quietly beside films on black.
DIFFERENCE_COLORS = ("#cfe8ff", "#3f8fe0", "#153a63", "#15171a", "#6b2a12", "#e0703f", "#ffe3c2")
LEVELS = 33  # odd, so that "no change" is its own color; few, so that a sheet compresses


def resized(image: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """An image (h, w) float at another size (h, w), by the mean over each new pixel."""
    if image.shape == tile:
        return image
    picture = Image.fromarray(np.asarray(image, np.float32))
    return np.asarray(picture.resize(tile[::-1], Image.Resampling.BOX))


def difference_sheet(difference: np.ndarray) -> Image.Image:
    """A palette picture of gray changes `(h, w)` in [-1, 1]: blue darker, orange brighter, near black the same."""
    level = np.clip(difference / DIFFERENCE_SPAN, -1.0, 1.0)
    picture = Image.fromarray(np.round((level + 1.0) * 0.5 * (LEVELS - 1)).astype(np.uint8), mode="P")
    colors = LinearSegmentedColormap.from_list("difference", DIFFERENCE_COLORS)(np.linspace(0.0, 1.0, LEVELS))
    palette = (colors[:, :3] * 255.0).round().astype(np.uint8)
    picture.putpalette(palette.tobytes())
    return picture


def cam_overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """The film under its map, uint8 `(h, w, 3)`; the map's opacity is its value, so a map of 0 leaves the film."""
    alpha = 0.6 * np.clip(cam, 0.0, 1.0)[..., None]
    color = colormaps["inferno"](np.clip(cam, 0.0, 1.0))[..., :3]
    blend = (1.0 - alpha) * np.clip(image, 0.0, 1.0)[..., None] + alpha * color
    return (blend * 255.0).round().astype(np.uint8)
