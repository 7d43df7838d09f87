"""Class activation maps and the masks made of them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

ROUNDING = 1e-5  # of a map's largest value: what enlarging and blurring a constant map leaves of differences, and more


def grad_cam(
    features: jax.Array, head: Callable[[jax.Array], jax.Array], score: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Grad-CAM = ReLU(sum_k alpha_k A^k), alpha_k the mean gradient over positions (Selvaraju et al. 2017, eqs. 1, 2).

    For pooling and one linear layer it is ReLU(CAM) / (h w).

    Args:
      features: (b, h, w, k), the last feature map.
      head: `features -> logits (b, classes)`.
      score: `logits -> (b,)`, what the map should explain.

    Returns:
      (b, h, w), non-negative.
    """
    features = features.astype(jnp.float32)  # a map of a bfloat16 network is float32 all the same
    gradient = jax.grad(lambda f: score(head(f)).sum())(features)
    weights = gradient.mean(axis=(1, 2), keepdims=True)  # (b, 1, 1, k)
    return jax.nn.relu((weights * features).sum(axis=-1))


def min_max(x: jax.Array) -> jax.Array:
    """Scales each map of (b, h, w) to [0, 1].

    A map that is constant up to rounding becomes zeros, one with a value that is not finite NaN everywhere.
    """
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    span = jnp.where(jnp.isfinite(high - low), high - low, jnp.nan)
    constant = span <= ROUNDING * jnp.maximum(jnp.abs(low), jnp.abs(high))
    return jnp.where(constant, 0.0, (x - low) / jnp.where(constant, 1.0, span))


def blur(x: jax.Array, std: float) -> jax.Array:
    """Gaussian blur of (b, h, w) with standard deviation `std` pixels, edges repeated; 0 returns `x`."""
    if std <= 0:
        return x
    radius = int(4 * std + 0.5)
    taps = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / std) ** 2)
    taps = (taps / taps.sum()).astype(x.dtype)
    padded = jnp.pad(x, ((0, 0), (radius, radius), (radius, radius)), mode="edge")[..., None]  # (b, h+2r, w+2r, 1)
    dims = ("NHWC", "HWIO", "NHWC")
    rows = jax.lax.conv_general_dilated(padded, taps[:, None, None, None], (1, 1), "VALID", dimension_numbers=dims)
    both = jax.lax.conv_general_dilated(rows, taps[None, :, None, None], (1, 1), "VALID", dimension_numbers=dims)
    return both[..., 0]  # (b, h, w)


def to_mask(
    heat: jax.Array,
    size: tuple[int, int],
    *,
    blur_std: float = 0.0,
    power: float = 1.0,
    floor: float = 0.0,
    threshold: float | None = None,
) -> jax.Array:
    """Turns a heat map into the guidance mask M (ETRI deck, "CAM"; the recipe is ours).

    Upsamples bilinearly, scales to [0, 1], blurs, raises to `power`, lifts to at least `floor`; or, with a threshold,
    1 above it and 0 elsewhere.

    Args:
      heat: (b, h', w'); its least value is where nothing is treated.
      size: (h, w) of the film.
      blur_std: standard deviation of a Gaussian blur in pixels of the film; 0 is off.
      power: exponent of the scaled map; below 1 more of the film is treated.
      floor: least value of the mask; a threshold ignores it.
      threshold: above it the mask is 1, elsewhere 0; None keeps it soft.

    Returns:
      (b, h, w, 1) float32 in [0, 1]; `floor` everywhere for a heat that is constant, NaN for one that is not finite.
    """
    heat = heat.astype(jnp.float32)
    big = jax.image.resize(heat, (heat.shape[0], *size), "bilinear")  # (b, h, w)
    mask = min_max(blur(min_max(big), blur_std)) ** power
    if threshold is not None:
        mask = jnp.where(jnp.isnan(mask), jnp.nan, (mask > threshold).astype(jnp.float32))
        return mask[..., None]
    return jnp.maximum(mask, floor)[..., None]
