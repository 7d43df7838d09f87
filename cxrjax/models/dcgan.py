"""The conditional DCGAN that the multi-scale GAN is compared with (Radford et al. 2016), at one scale."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.models.cgan import FIRST, batch_norm, steps_between, tile
from cxrjax.nn.conv import ZEROS
from cxrjax.ops.convolution import convolve, transposed

Array = jax.Array
DCGAN_NORMAL = nn.initializers.normal(0.02)


class Halving(nn.Module):
    """A 4x4 convolution of stride 2, or, `up`, its transpose. (b, h, w, c) -> (b, h / 2 or 2h, ..., features)."""

    features: int
    up: bool = False
    bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", DCGAN_NORMAL, (4, 4, x.shape[-1], self.features)).astype(self.dtype)
        x = x.astype(self.dtype)
        y = transposed(x, kernel) if self.up else convolve(x, kernel, (2, 2), ((1, 1), (1, 1)))
        if self.bias:
            y = y + self.param("bias", ZEROS, (self.features,)).astype(self.dtype)[None, None, None, :]
        return y


class Generator(nn.Module):
    """A latent with the condition in it -> a film, by transposed convolutions.

    Attributes:
      size: side of the films.
      features: channels of the last hidden map; each one before it has twice as many.
      dtype: compute dtype.
    """

    size: int = 256
    features: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, z: Array, c: Array, tau: Array, train: bool = False
    ) -> tuple[tuple[Array, ...], dict[str, Array]]:
        """(b, n), (b, k) -> one film (b, size, size, 1) in [-1, 1], as a tuple; `tau` is not read."""
        del tau
        doublings = steps_between(FIRST, self.size)
        width = self.features * 2 ** (doublings - 1)
        x = jnp.concatenate([z, c.astype(z.dtype)], axis=-1)
        dense = nn.Dense(FIRST * FIRST * width, use_bias=False, kernel_init=DCGAN_NORMAL, dtype=self.dtype, name="stem")
        x = dense(x).reshape(-1, FIRST, FIRST, width)
        x = nn.relu(batch_norm(train, self.dtype, "stem_norm")(x))
        for i in range(1, doublings):
            width //= 2
            x = Halving(width, True, dtype=self.dtype, name=f"up{i}")(x)
            x = nn.relu(batch_norm(train, self.dtype, f"norm{i}")(x))
        x = Halving(1, True, bias=True, dtype=self.dtype, name="film")(x)
        return (jnp.tanh(x.astype(jnp.float32)),), {}


class Discriminator(nn.Module):
    """The generator's mirror, the condition tiled beside the film at the input.

    Attributes:
      size, features, dtype: as in `Generator`; `features` are the first map's.
    """

    size: int = 256
    features: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, c: Array, train: bool = False) -> tuple[tuple[Array], dict[str, Array]]:
        """(b, size, size, 1), (b, k) -> scores (b,) float32, as a tuple; endpoint `features`."""
        act = partial(nn.leaky_relu, negative_slope=0.2)
        x = jnp.concatenate([x, tile(c, x)], axis=-1)
        width = self.features
        for i in range(1, steps_between(FIRST, self.size) + 1):
            x = Halving(width, bias=i == 1, dtype=self.dtype, name=f"down{i}")(x)
            x = act(batch_norm(train, self.dtype, f"norm{i}")(x) if i > 1 else x)
            width *= 2
        features = x.reshape(x.shape[0], -1).astype(jnp.float32)
        score = nn.Dense(1, kernel_init=DCGAN_NORMAL, name="score")(features)  # (b, 1), a 4x4 convolution
        return (score[:, 0],), {"features": x}
