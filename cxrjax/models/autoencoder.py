"""The KL autoencoder of latent diffusion (Rombach et al. 2022), in its form for chest films, and its patch critic.

The form for chest films is that of Pinaya et al. 2023 (MONAI Generative Models; Warvito/generative_chestxray), with two
differences: SiLU stands before the last convolutions, as in Rombach et al., and the 1x1 convolutions on both sides of
the latent are left out, since they are part of the 3x3 ones next to them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.models.unet import fold, unfold
from cxrjax.nn.conv import TORCH_UNIFORM, conv
from cxrjax.nn.norm import group_norm

Array = jax.Array
LOGVAR = (-30.0, 20.0)  # its bounds
PIX2PIX_NORMAL = nn.initializers.normal(0.02)


class ResBlock(nn.Module):
    """GroupNorm-SiLU-conv twice; residual, through a 1x1 convolution where channels differ. Keeps the map's side."""

    features: int
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = partial(group_norm, self.groups, dtype=self.dtype)
        cv = partial(conv, self.features, bias=True, init=TORCH_UNIFORM, dtype=self.dtype)
        y = cv(3, name="conv1")(nn.silu(norm(name="norm1")(x)))
        y = cv(3, name="conv2")(nn.silu(norm(name="norm2")(y)))
        if x.shape[-1] != self.features:
            x = cv(1, name="skip")(x)
        return x + y


class Encoder(nn.Module):
    """Films (b, h, w, 1) -> (b, h / f, w / f, 2 latent) float32. Attributes as in `Autoencoder`."""

    channels: tuple[int, ...]
    latent: int
    num_res_blocks: int
    middle: int
    groups: int
    patch: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cv = partial(conv, kernel=3, bias=True, init=TORCH_UNIFORM)
        block = partial(ResBlock, groups=self.groups, dtype=self.dtype)
        h = fold(x, self.patch).astype(self.dtype)
        h = cv(self.channels[0], dtype=self.dtype, name="stem")(h)
        for i, width in enumerate(self.channels):
            for j in range(self.num_res_blocks):
                h = block(width, name=f"down{i}_{j}")(h)
            if i < len(self.channels) - 1:
                # Padded below and to the right alone, as published: every window then starts at an even position.
                h = jnp.pad(h, ((0, 0), (0, 1), (0, 1), (0, 0)))
                h = cv(width, stride=2, pad=0, dtype=self.dtype, name=f"down{i}_halve")(h)
        for j in range(self.middle):
            h = block(self.channels[-1], name=f"middle_{j}")(h)
        return cv(2 * self.latent, name="out")(nn.silu(group_norm(self.groups, name="norm_last")(h)))


class Decoder(nn.Module):
    """Latents (b, h / f, w / f, latent) -> films (b, h, w, 1) float32. Attributes as in `Autoencoder`."""

    channels: tuple[int, ...]
    num_res_blocks: int
    middle: int
    groups: int
    patch: int
    dtype: Any

    @nn.compact
    def __call__(self, z: Array) -> Array:
        cv = partial(conv, kernel=3, bias=True, init=TORCH_UNIFORM)
        block = partial(ResBlock, groups=self.groups, dtype=self.dtype)
        h = cv(self.channels[-1], dtype=self.dtype, name="stem")(z.astype(self.dtype))
        for j in range(self.middle):
            h = block(self.channels[-1], name=f"middle_{j}")(h)
        for i, width in reversed(list(enumerate(self.channels))):
            for j in range(self.num_res_blocks):
                h = block(width, name=f"up{i}_{j}")(h)
            if i > 0:
                h = cv(width, doubled=True, dtype=self.dtype, name=f"up{i}_double")(h)
        h = nn.silu(group_norm(self.groups, name="norm_last")(h))
        return unfold(cv(self.patch**2, name="out")(h), self.patch)


class Autoencoder(nn.Module):
    """Films in [-1, 1] -> normal distributions over latents f times smaller a side -> films.

    f = patch 2^(levels - 1).

    Attributes:
      channels: of each level; every level but the last halves the map.
      latent: channels of the latent.
      num_res_blocks: residual blocks a level, in the encoder and in the decoder.
      middle: residual blocks between the last level and the latent, on both sides; the published form, which has no
        attention, has none.
      groups: of every GroupNorm.
      patch: side of the squares that are folded into channels first and unfolded last, as in `UNet`; 1 is the published
        form.
      dtype: compute dtype; parameters, normalization, latents and films are float32.
    """

    channels: tuple[int, ...] = (64, 128, 128, 128)
    latent: int = 3
    num_res_blocks: int = 2
    middle: int = 0
    groups: int = 32
    patch: int = 1
    dtype: Any = jnp.float32

    def setup(self) -> None:
        shared = (self.num_res_blocks, self.middle, self.groups, self.patch, self.dtype)
        self.encoder = Encoder(self.channels, self.latent, *shared)
        self.decoder = Decoder(self.channels, *shared)

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Of the latents of films of a shape (b, h, w, 1).

        Raises:
          UserError: the film has several channels, or its sides do not divide by f.
        """
        factor = self.patch * 2 ** (len(self.channels) - 1)
        if shape[1] % factor or shape[2] % factor:
            raise UserError(
                f"autoencoder: a film of {shape[1]}x{shape[2]} px does not halve {len(self.channels) - 1} times after "
                f"patches of {self.patch}; use sides divisible by {factor}, or fewer `channels`"
            )
        if shape[3] != 1:
            raise UserError(f"autoencoder: films of {shape[3]} channels; it takes gray films, of one")
        return shape[0], shape[1] // factor, shape[2] // factor, self.latent

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Films (b, h, w, 1) in [-1, 1] -> mean and log variance (b, h / f, w / f, latent), the latter in [-30, 20].

        Raises:
          UserError: as `latent_shape`; or the groups do not divide a level's channels.
        """
        self.latent_shape(x.shape)
        if any(width % self.groups for width in self.channels):
            raise UserError(
                f"autoencoder: channels {self.channels} must each divide by groups={self.groups}; change one of them"
            )
        mean, logvar = jnp.split(self.encoder(x), 2, axis=-1)
        return mean, jnp.clip(logvar, *LOGVAR)

    def decode(self, z: Array) -> Array:
        """Latents (b, h, w, latent) -> films (b, f h, f w, 1), in about [-1, 1]: nothing bounds them."""
        return self.decoder(z)

    def __call__(self, x: Array, noise: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """A film's reconstruction from a latent drawn from its distribution.

        Args:
          x: (b, h, w, 1) in [-1, 1]; h and w divisible by f.
          noise: (b, h / f, w / f, latent) standard normal; zeros for the reconstruction from the mean.
          train: changes nothing, there is no dropout.

        Returns:
          (b, h, w, 1); endpoints `mean`, `logvar` and `z`, each (b, h / f, w / f, latent).
        """
        del train
        mean, logvar = self.encode(x)
        z = mean + jnp.exp(0.5 * logvar) * noise
        return self.decode(z), {"mean": mean, "logvar": logvar, "z": z}


class PatchDiscriminator(nn.Module):
    """Scores overlapping squares of a film (Isola et al. 2017; of 70 px in the published form), not the whole film.

    A 4x4 convolution of stride 2, `layers` - 1 more that double the channels, one of stride 1, and one to the score;
    LeakyReLU 0.2 between them. GroupNorm stands in place of the published BatchNorm: a film's score then depends on no
    other film, so that padding has no share in it, patients' films and reconstructions need not be mixed in one pass,
    no statistics are kept, and devices that split a batch compute what one would.

    Attributes:
      features: channels of the first convolution; the last hidden map has 2^layers times more, at most 8 times.
      layers: convolutions with normalization.
      groups: of every GroupNorm.
      dtype: compute dtype; the scores are float32.
    """

    features: int = 64
    layers: int = 3
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, 1) in [-1, 1] -> scores (b, h', w') float32; h' = h / 2^layers - 2.

        Raises:
          UserError: a film too small for one score, or groups that do not divide the channels.
        """
        if min(x.shape[1:3]) < 3 * 2**self.layers:
            raise UserError(
                f"patch discriminator: a film of {x.shape[1]}x{x.shape[2]} px is too small for {self.layers} layers; "
                f"at least {3 * 2**self.layers} px a side, or fewer `d_layers`"
            )
        if 2 * self.features % self.groups:
            raise UserError(
                f"patch discriminator: {2 * self.features} channels do not divide by groups={self.groups}; change "
                "`d_features` or `groups`"
            )
        cv = partial(conv, kernel=4, pad=1, init=PIX2PIX_NORMAL)
        act = partial(nn.leaky_relu, negative_slope=0.2)
        x = cv(self.features, stride=2, bias=True, dtype=self.dtype, name="conv0")(x.astype(self.dtype))
        x = act(x)
        for i in range(1, self.layers + 1):
            stride = 2 if i < self.layers else 1
            x = cv(self.features * min(2**i, 8), stride=stride, dtype=self.dtype, name=f"conv{i}")(x)
            x = act(group_norm(self.groups, dtype=self.dtype, name=f"norm{i}")(x))
        return cv(1, bias=True, name="score")(x.astype(jnp.float32))[..., 0]


# For films of 64 px on a CPU: 16x16x4. Patches, since maps of the full side cost most there.
autoencoder_tiny = partial(Autoencoder, channels=(32, 64), latent=4, num_res_blocks=1, groups=8, patch=2)
patch_tiny = partial(PatchDiscriminator, features=16, layers=2)
