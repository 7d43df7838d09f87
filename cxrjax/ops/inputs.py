"""What stands between a film in [0, 1] and a network: crops, the border-only control, channels and normalization."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Mean and standard deviation of ImageNet's red, green and blue, as CheXNet normalizes its films.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Shift and scale of the other normalizations; `film` is about zero mean and unit variance on chest films.
NORMALIZATIONS = {
    "film": (0.5, 0.25),
    "symmetric": (0.5, 0.5),
    "unit": (0.0, 1.0),
    "imagenet": IMAGENET,
    "efficientnet_lite": (127 / 255, 128 / 255),
}
# Of one gray channel: the means of the three, beside which stands a plane of ones, see `normalize`.
_GRAY = tuple(sum(values) / 3 for values in IMAGENET)


def normalize(image: Array, kind: str = "film") -> Array:
    """[0, 1] to what a network wants: `film` (x - 0.5) / 0.25, `symmetric` [-1, 1], `unit` as it is, `imagenet`,
    `efficientnet_lite` (255 x - 127) / 128.

    Args:
      image: (b, h, w, c); for `imagenet` c is 3, or 1 for a gray film.
      kind: a key of `NORMALIZATIONS`.

    Returns:
      (b, h, w, c). `imagenet` makes two planes of a gray film, of which its three channels are sums: film and ones. A
      network adds zeros beyond the border after this, so that a shift which differs by channel is no shift of one.
    """
    shift, scale = NORMALIZATIONS[kind]
    if kind == "imagenet" and image.shape[-1] == 1:
        plane = (image - jnp.asarray(_GRAY[0], image.dtype)) / jnp.asarray(_GRAY[1], image.dtype)
        return jnp.concatenate([plane, jnp.ones_like(plane)], axis=-1)
    shift, scale = (jnp.asarray(v, image.dtype) for v in (shift, scale))
    return (image - jnp.broadcast_to(shift, image.shape)) / jnp.broadcast_to(scale, image.shape)


def like_channels(kind: str) -> np.ndarray:
    """What each of three like channels, normalized, is of the planes that `normalize` makes of one.

    (3, planes) float64: (3, 1) of ones, since like channels stay alike; for `imagenet` (3, 2).
    """
    if kind != "imagenet":
        return np.ones((3, 1))
    shift, scale = (np.array(values) for values in IMAGENET)
    return np.stack([_GRAY[1] / scale, (_GRAY[0] - shift) / scale], axis=-1)


def random_crop(key: Array, image: Array, size: int) -> Array:
    """A square of `size` at a uniformly drawn offset, one a film. (b, h, w, c) -> (b, size, size, c)."""
    b, h, w, c = image.shape
    row_key, column_key = jax.random.split(key)
    rows = jax.random.randint(row_key, (b,), 0, h - size + 1)
    columns = jax.random.randint(column_key, (b,), 0, w - size + 1)

    def cut(film: Array, row: Array, column: Array) -> Array:
        return jax.lax.dynamic_slice(film, (row, column, 0), (size, size, c))

    return jax.vmap(cut)(image, rows, columns)


def center_crop(image: Array, size: int) -> Array:
    """The middle square. (b, h, w, c) -> (b, size, size, c)."""
    top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
    return image[:, top : top + size, left : left + size]


VIEWS = ("flip", "shift")
SHIFT = 1 / 32  # of the side: how far the views of a whole film are moved


def views(image: Array, kinds: Sequence[str], size: int = 0) -> Array:
    """The same films seen several times, for an average over what a network says of them.

    Args:
      image: (b, h, w, c).
      kinds: some of `VIEWS`. "shift": the film moved to each corner by `SHIFT` of its side, its border mirrored, and as
        it is; of crops, those in the four corners and the middle. "flip": each of these mirrored too; of crops, the two
        kinds together are ten-crop.
      size: side of crops; 0 for whole films.

    Returns:
      (v, b, s, s, c), s the side of the crops or of the film.
    """
    if "shift" not in kinds:
        seen = (center_crop(image, size) if size else image)[None]
    else:
        if not size:
            size, pad = image.shape[1], max(1, round(image.shape[1] * SHIFT))
            image = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        bottom, right = image.shape[1] - size, image.shape[2] - size
        corners = [image[:, y : y + size, x : x + size] for y in (0, bottom) for x in (0, right)]
        seen = jnp.stack([*corners, center_crop(image, size)])
    return jnp.concatenate([seen, seen[:, :, :, ::-1]]) if "flip" in kinds else seen


def border_only(image: Array, share: float) -> Array:
    """Blanks all but a frame whose width is `share` of the side.

    Lung reaches into the frame: its found part is to be blank already. What is left holds the source and a rim of lung,
    so that what a network tells from it is an upper bound of what the source tells.
    """
    h, w = image.shape[1:3]
    rows, columns = jnp.arange(h), jnp.arange(w)
    inner_rows = (rows >= round(share * h)) & (rows < h - round(share * h))
    inner_columns = (columns >= round(share * w)) & (columns < w - round(share * w))
    inside = inner_rows[:, None] & inner_columns[None, :]
    return jnp.where(inside[None, :, :, None], jnp.zeros((), image.dtype), image)
