"""What stands between a film in [0, 1] and a network: crops, the border-only control, channels and normalization."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array

# Mean and standard deviation of ImageNet's red, green and blue, as CheXNet normalizes its films.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Shift and scale of the other normalizations; `film` is about zero mean and unit variance on chest films.
NORMALIZATIONS = {"film": (0.5, 0.25), "symmetric": (0.5, 0.5), "unit": (0.0, 1.0), "imagenet": IMAGENET}


def normalize(image: Array, kind: str = "film") -> Array:
    """[0, 1] to what a network wants: `film` (x - 0.5) / 0.25, `symmetric` [-1, 1], `unit` as it is, `imagenet`.

    Args:
      image: (b, h, w, c); c is 3 for `imagenet`.
      kind: a key of `NORMALIZATIONS`.
    """
    shift, scale = (jnp.asarray(v, image.dtype) for v in NORMALIZATIONS[kind])
    return (image - jnp.broadcast_to(shift, image.shape)) / jnp.broadcast_to(scale, image.shape)


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


def resized(image: Array, size: int) -> Array:
    """Films at another side, antialiased where it is smaller. (b, h, w, c) -> (b, size, size, c)."""
    b, h, w, c = image.shape
    return image if h == w == size else jax.image.resize(image, (b, size, size, c), "bilinear")


def ten_crops(image: Array, size: int) -> Array:
    """The four corners, the middle, and their mirror images. (b, h, w, c) -> (10, b, size, size, c)."""
    bottom, right = image.shape[1] - size, image.shape[2] - size
    corners = [image[:, y : y + size, x : x + size] for y in (0, bottom) for x in (0, right)]
    five = jnp.stack([*corners, center_crop(image, size)])
    return jnp.concatenate([five, five[:, :, :, ::-1]])


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
