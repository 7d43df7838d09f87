"""The multi-scale attention conditional GAN: one tree that makes films at three scales, a discriminator for each."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.nn.conv import conv
from cxrjax.nn.norm import BatchNorm
from cxrjax.nn.spectral import SpectralConv
from cxrjax.ops import attention
from cxrjax.ops.convolution import convolve_with_code, double_and_convolve

Array = jax.Array
FIRST = 4  # side of the map that the latent becomes
ORTHOGONAL = nn.initializers.orthogonal()


def near_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """BatchNorm scales N(1, 0.02), of DCGAN and StackGAN-v2's code."""
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


def batch_norm(train: bool, dtype: Any, name: str | None = None) -> BatchNorm:
    """BatchNorm with torch's constants and scales about 1."""
    return BatchNorm(not train, dtype=dtype, scale_init=near_one, name=name)


def conv3(features: int, dtype: Any, name: str | None = None, *, kernel: int = 3, bias: bool = False) -> nn.Conv:
    """A convolution that keeps the map's side, orthogonal at first."""
    return conv(features, kernel, bias=bias, init=ORTHOGONAL, dtype=dtype, name=name)


def tile(code: Array, like: Array) -> Array:
    """A code (b, k) at every position of a map (b, h, w, c): (b, h, w, k)."""
    b, h, w, _ = like.shape
    return jnp.broadcast_to(code[:, None, None, :], (b, h, w, code.shape[-1])).astype(like.dtype)


def steps_between(small: int, large: int) -> int:
    """How often `small` doubles to `large`. Raises UserError where it does not."""
    steps = round(math.log2(large / small)) if large >= small else -1
    if steps < 0 or small * 2**steps != large:
        raise UserError(f"a side of {large} pixels is no {small} times a power of 2; choose sizes such as 64, 128, 256")
    return steps


class Up(nn.Module):
    """Nearest doubling, 3x3 convolution, BatchNorm, GLU. (b, h, w, c) -> (b, 2h, 2w, features)."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (3, 3, x.shape[-1], 2 * self.features)
        kernel = self.param("kernel", ORTHOGONAL, shape).astype(self.dtype)
        y = double_and_convolve(x.astype(self.dtype), kernel)
        return nn.glu(batch_norm(train, self.dtype, "norm")(y))


class Join(nn.Module):
    """A code beside the map, 3x3 convolution, BatchNorm, GLU. (b, h, w, c), (b, k) -> (b, h, w, c)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, code: Array, train: bool) -> Array:
        shape = (3, 3, x.shape[-1] + code.shape[-1], 2 * x.shape[-1])
        kernel = self.param("kernel", ORTHOGONAL, shape).astype(self.dtype)
        y = convolve_with_code(x.astype(self.dtype), code.astype(self.dtype), kernel)
        return nn.glu(batch_norm(train, self.dtype, "norm")(y))


class Residual(nn.Module):
    """conv-BN-GLU-conv-BN plus the input, nothing after the sum."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        c = x.shape[-1]
        y = nn.glu(batch_norm(train, self.dtype, "norm1")(conv3(2 * c, self.dtype, "conv1")(x)))
        return x + batch_norm(train, self.dtype, "norm2")(conv3(c, self.dtype, "conv2")(y))


class SelfAttention(nn.Module):
    """y = tau o + x, where o_j is the mean of h(x_i) under softmax_i f(x_i) g(x_j) (Zhang et al. 2019).

    Attributes:
      bottleneck: f and g have this many times fewer channels.
      kv_pool: side of the windows over which f and h take their maximum; 1 for none.
      dtype: compute dtype; the softmax is float32.
    """

    bottleneck: int = 8
    kv_pool: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, tau: Array) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c), () -> the same shape; endpoints `query` and `key` (b, n, c / bottleneck)."""
        b, h, w, c = x.shape
        one = partial(conv3, dtype=self.dtype, kernel=1, bias=True)
        f, g, v = (one(width, name=name)(x) for name, width in
                   (("f", max(c // self.bottleneck, 1)), ("g", max(c // self.bottleneck, 1)), ("h", c)))  # fmt: skip
        if self.kv_pool > 1:
            window = (self.kv_pool, self.kv_pool)
            f, v = (nn.max_pool(y, window, strides=window) for y in (f, v))
        query, key, value = (y.reshape(b, -1, y.shape[-1]) for y in (g, f, v))
        out = attention.blockwise(query, key, value).reshape(b, h, w, c)
        return x + jnp.asarray(tau, out.dtype) * out, {"query": query, "key": key}


class Generator(nn.Module):
    """A latent with the condition in it -> films at rising scales, each branch growing out of the one before.

    Attributes:
      sizes: sides of the films, each twice the one before, the first a power of 2 times 4.
      features: channels of the first branch's last map; the stem has as many times more as the side is times 4.
      join: what branches after the first see again: "latent" (noise and condition) or "c" (the condition alone).
      residuals: residual blocks of each later branch.
      bottleneck, kv_pool: of the self-attention on the first branch's map.
      tau: "schedule" (given at each call) or "learned" (a parameter from 0).
      dtype: compute dtype; BatchNorm's statistics and the softmax are float32.
    """

    sizes: tuple[int, ...] = (64, 128, 256)
    features: int = 64
    join: str = "latent"
    residuals: int = 2
    bottleneck: int = 8
    kv_pool: int = 1
    tau: str = "schedule"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, z: Array, c: Array, tau: Array, train: bool = False
    ) -> tuple[tuple[Array, ...], dict[str, Array]]:
        """Films of every scale.

        Args:
          z: (b, n) standard normal.
          c: (b, k) condition; all zero for Normal.
          tau: () weight of the attention; not read where it is learned.
          train: BatchNorm takes the batch's statistics.

        Returns:
          One (b, s, s, 1) in [-1, 1] a size, float32; endpoints `query` and `key` of the attention, `h1`, `h2`, ...

        Raises:
          UserError: sizes that do not double.
        """
        doublings = steps_between(FIRST, self.sizes[0])
        if any(steps_between(a, b) != 1 for a, b in zip(self.sizes, self.sizes[1:], strict=False)):
            raise UserError(f"sizes {self.sizes}: each must be twice the one before")
        latent = jnp.concatenate([z, c.astype(z.dtype)], axis=-1)  # (b, n + k)
        joined = latent if self.join == "latent" else c
        width = self.features * 2**doublings
        dense = nn.Dense(
            FIRST * FIRST * width * 2, use_bias=False, kernel_init=ORTHOGONAL, dtype=self.dtype, name="stem"
        )
        x = nn.glu(batch_norm(train, self.dtype, "stem_norm")(dense(latent)))  # (b, 16 width), normalized one by one
        x = x.reshape(-1, FIRST, FIRST, width)
        for i in range(doublings):
            width //= 2
            x = Up(width, self.dtype, name=f"up1_{i + 1}")(x, train)
        if self.tau == "learned":
            tau = self.param("tau", nn.initializers.zeros_init(), ())
        x, endpoints = SelfAttention(self.bottleneck, self.kv_pool, self.dtype, name="attention")(x, tau)
        endpoints["h1"] = x
        films = [self._film(x, 1)]
        for branch in range(2, len(self.sizes) + 1):
            x = Join(self.dtype, name=f"join{branch}")(x, joined, train)
            for i in range(self.residuals):
                x = Residual(self.dtype, name=f"residual{branch}_{i + 1}")(x, train)
            x = Up(x.shape[-1] // 2, self.dtype, name=f"up{branch}")(x, train)
            endpoints[f"h{branch}"] = x
            films.append(self._film(x, branch))
        return tuple(films), endpoints

    def _film(self, x: Array, branch: int) -> Array:
        return jnp.tanh(conv3(1, self.dtype, f"film{branch}")(x).astype(jnp.float32))


class Discriminator(nn.Module):
    """Halving convolutions to a 4x4 map; one head scores the film, the other the film with its condition.

    Every convolution is spectrally normalized and has a bias; nothing else is normalized.

    Attributes:
      size: side of the films.
      first: side of the smallest scale, whose discriminator sets the width of the heads.
      features: channels of the first convolution.
      dtype: compute dtype; the scores are float32.
    """

    size: int = 64
    first: int = 64
    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, c: Array) -> tuple[tuple[Array, Array], dict[str, Array]]:
        """(b, size, size, 1), (b, k) -> scores (b,) float32 without and with the condition; endpoint `features`."""
        spectral = partial(SpectralConv, dtype=self.dtype)
        act = partial(nn.leaky_relu, negative_slope=0.2)
        width = self.features
        x = x.astype(self.dtype)
        for i in range(steps_between(FIRST, self.size)):
            x = act(spectral(width, 4, 2, name=f"down{i + 1}")(x))
            width *= 2
        if self.first == FIRST:
            raise UserError(f"the smallest scale is {FIRST} pixels: expected at least {2 * FIRST}")
        top = self.features * 2 ** (steps_between(FIRST, self.first) - 1)
        i = 0
        while x.shape[-1] > top:
            i += 1
            x = act(spectral(x.shape[-1] // 2, 3, name=f"narrow{i}")(x))
        score = partial(spectral, 1, FIRST, FIRST, 0)
        alone = score(name="score")(x)  # (b, 1, 1, 1)
        y = act(spectral(top, 3, name="join")(jnp.concatenate([x, tile(c, x)], axis=-1)))
        together = score(name="score_conditional")(y)
        scores = tuple(s.astype(jnp.float32).reshape(-1) for s in (alone, together))
        return (scores[0], scores[1]), {"features": x}
