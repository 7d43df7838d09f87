"""Augmentations that are compiled into a training step: what each does to films, and how far each is drawn.

A film's draw follows from the step's key and the film's number alone, so that it is the same in any place of any batch
and on any devices. At range 0 an augmentation is not in the program.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cxrjax.ops import cam, warp
from cxrjax.types import Array, Key


class Ranges(NamedTuple):
    """How far each augmentation goes; a film gets all that are not 0, in this order.

    Attributes:
      warp: how many of the six of `ops.warp`, drawn without replacement ("randomly select 4" of the ETRI deck).
      optical_limit: bound of the optical distortion among them.
      degrees: rotation about the center, drawn from +-degrees.
      shift: along each axis, drawn from +-shift, a share of the side.
      zoom: magnification, drawn from 1 +- zoom, below 1.
      shear: of columns along rows, drawn from +-shear degrees.
      exposure: added to every gray, drawn from +-exposure: a film's gray is about the logarithm of its exposure.
      contrast: factor of every gray's distance to the film's mean, drawn from 1 +- contrast, below 1.
      gamma: exponent of the gray, drawn between 1 / (1 + gamma) and 1 + gamma, its logarithm uniformly.
      blur: pixels; the film is mixed with its Gaussian blur of this width, in a random share. A judge of generated
        films must not take a smoothed lesion for a healed one.
      cutout: side of a square of the film's mean gray, a share of the film's drawn from [0, cutout], anywhere.
      noise: largest standard deviation of Gaussian noise; not cut at black and white.
    """

    warp: int = 0
    optical_limit: float = 2.0
    degrees: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    exposure: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    noise: float = 0.0

    @property
    def on(self) -> tuple[str, ...]:
        """The names of those that are not off."""
        return tuple(name for name, value in self._asdict().items() if value and name != "optical_limit")


NONE = Ranges()
SHARES = ("shift", "zoom", "contrast", "cutout")  # below 1


def vary(ranges: Ranges, key: Key, image: Array, index: Array) -> Array:
    """Films after every augmentation of `ranges`.

    Args:
      ranges: how far each goes.
      key: of the step.
      image: (b, h, w, c) in [0, 1]; of noise alone, any.
      index: (b,) int32, the films' numbers.

    Returns:
      (b, h, w, c); in [0, 1] before noise is added.
    """
    if not ranges.on:
        return image
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    unit_keys, warp_keys, noise_keys = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(keys), 1, 0)
    # One draw for all: a key split costs as much as the maths.
    unit = jax.vmap(lambda k: jax.random.uniform(k, (13,), minval=-1.0))(unit_keys)  # (b, 13) in [-1, 1)
    u = [unit[:, i] for i in range(unit.shape[1])]
    if ranges.warp:
        amounts = warp.TUTORIAL._replace(optical_limit=ranges.optical_limit)
        image = jax.vmap(lambda k, x: warp.some_of(k, x[None], n=ranges.warp, amounts=amounts)[0])(warp_keys, image)
    if ranges.degrees or ranges.shift or ranges.zoom or ranges.shear:
        linear = linear_map(u[0] * ranges.degrees, 1.0 + u[1] * ranges.zoom, u[2] * ranges.shear)
        offset = unit[:, 3:5] * ranges.shift * jnp.asarray(image.shape[1:3], jnp.float32)[None]
        image = jnp.clip(warp.affine(image, linear, offset), 0.0, 1.0)
    if ranges.exposure:
        image = exposure(image, u[5] * ranges.exposure)
    if ranges.contrast:
        image = contrast(image, 1.0 + u[6] * ranges.contrast)
    if ranges.gamma:
        image = gamma(image, (1.0 + ranges.gamma) ** u[7])
    if ranges.blur:
        blurred = jnp.stack([cam.blur(image[..., c], ranges.blur) for c in range(image.shape[-1])], axis=-1)
        image = image + _by_film(0.5 * (u[8] + 1.0)) * (blurred - image)
    if ranges.cutout:
        image = cut_out(image, 0.5 * (unit[:, 9:11] + 1.0), ranges.cutout * 0.5 * (u[11] + 1.0))
    if ranges.noise:
        noise = jax.vmap(lambda k: jax.random.normal(k, image.shape[1:]))(noise_keys)
        image = image + _by_film(ranges.noise * 0.5 * (u[12] + 1.0)) * noise
    return image


def linear_map(degrees: Array, zoom: Array, shear: Array) -> Array:
    """(b, 2, 2) sampling maps, on (row, column), of films turned, magnified and sheared by (b,) each."""
    turn, slope = degrees * math.pi / 180, jnp.tan(shear * math.pi / 180)
    cos, sin, one, nought = jnp.cos(turn), jnp.sin(turn), jnp.ones_like(turn), jnp.zeros_like(turn)
    turned = jnp.stack([cos, sin, -sin, cos], axis=-1).reshape(-1, 2, 2)
    sheared = jnp.stack([one, nought, slope, one], axis=-1).reshape(-1, 2, 2)
    return jnp.einsum("bij,bjk->bik", turned, sheared) / zoom[:, None, None]


def exposure(image: Array, amount: Array) -> Array:
    """Films (b, h, w, c) with (b,) added to every gray, cut at black and white."""
    return jnp.clip(image + _by_film(amount), 0.0, 1.0)


def contrast(image: Array, factor: Array) -> Array:
    """Films (b, h, w, c) whose grays' distances to their film's mean are times (b,), cut at black and white."""
    mean = image.mean(axis=(1, 2, 3), keepdims=True)
    return jnp.clip(mean + _by_film(factor) * (image - mean), 0.0, 1.0)


def gamma(image: Array, exponent: Array) -> Array:
    """Films (b, h, w, c) in [0, 1] with every gray to the power (b,): black and white stay."""
    return image ** _by_film(exponent)


def cut_out(image: Array, center: Array, side: Array) -> Array:
    """Films (b, h, w, c) with a square of their mean gray: center (b, 2) and side (b,) in shares of the film's sides.

    Source: DeVries and Taylor 2017.
    """
    h, w = image.shape[1:3]
    rows, columns = (jnp.arange(n) + 0.5 for n in (h, w))

    def within(at: Array, places: Array, n: int) -> Array:
        return jnp.abs(places[None] - at[:, None] * n) < 0.5 * side[:, None] * n

    inside = within(center[:, 0], rows, h)[:, :, None] & within(center[:, 1], columns, w)[:, None, :]  # (b, h, w)
    return jnp.where(inside[..., None], image.mean(axis=(1, 2, 3), keepdims=True), image)


def _by_film(values: Array) -> Array:
    return values[:, None, None, None]
