"""The noise-predicting U-Net of AnoDDPM (Wyatt et al. 2022), of the guided-diffusion family (Dhariwal, Nichol 2021)."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.nn.attention import AttentionBlock
from cxrjax.nn.conv import TORCH_UNIFORM, ZEROS, conv, double, halve
from cxrjax.nn.embedding import TimeEmbedding
from cxrjax.nn.norm import group_norm
from cxrjax.ops import timemap

Array = jax.Array


class ResBlock(nn.Module):
    """GroupNorm-SiLU-conv, plus the time embedding, GroupNorm-SiLU-zero conv; residual.

    Attributes:
      features: output channels.
      resample: "" keeps the map, "down" halves it (mean), "up" doubles it (nearest); applied between the first SiLU and
        the first convolution, and on the skip.
      groups, dropout, dtype: as in `UNet`.
    """

    features: int
    resample: str = ""
    groups: int = 32
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, emb: Array, train: bool) -> Array:
        norm = partial(group_norm, self.groups, dtype=self.dtype)
        cv = partial(conv, self.features, bias=True, dtype=self.dtype)
        y = nn.silu(norm(name="norm1")(x))
        if self.resample:
            x, y = (double(x), y) if self.resample == "up" else (halve(x), halve(y))
        y = cv(3, doubled=self.resample == "up", init=TORCH_UNIFORM, name="conv1")(y)
        shift = nn.Dense(self.features, kernel_init=TORCH_UNIFORM, dtype=self.dtype, name="time")(nn.silu(emb))
        y = y + (shift if shift.ndim == 4 else shift[:, None, None, :])
        y = nn.silu(norm(name="norm2")(y))
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        y = cv(3, init=ZEROS, name="conv2")(y)
        if x.shape[-1] != self.features:
            x = cv(1, init=TORCH_UNIFORM, name="skip")(x)
        return x + y


def fold(x: Array, patch: int) -> Array:
    """(b, h, w, c) -> (b, h / patch, w / patch, c patch^2)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // patch, w // patch, c * patch**2)


def unfold(x: Array, patch: int) -> Array:
    """The inverse of `fold`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * patch, w * patch, c // patch**2)


class UNet(nn.Module):
    """Predicts the noise of a noised film; exactly zero at initialization.

    Attributes:
      base: channels that the multipliers multiply; the time embedding is 4 base wide.
      mults: channel multiplier of each level; every level but the last halves the map.
      attention: sides of the maps after whose blocks self-attention follows (besides the one in the middle).
      heads: attention heads.
      num_res_blocks: residual blocks a level on the way down; one more on the way up.
      groups: groups of every GroupNorm.
      dropout: rate, before each block's second convolution; needs the rng `dropout` in training.
      patch: side of the squares that are folded into channels first and unfolded last (Hoogeboom et al. 2023, "simple
        diffusion"); 2 makes every level a quarter as dear, and 1 is the published form.
      updown: "block" resamples in residual blocks (the published form), "plain" pools and repeats, no convolutions:
        the blocks work at the finer side with the coarser width and cost a third of a small network.
      dtype: compute dtype; parameters, normalization, softmax, time embedding and output are float32.
      remat: recompute each residual block in the backward pass, for memory.
      told: how many classes it may be told of, each an embedding that is added to the time's, and one for none; 0 is
        the published form (Ho and Salimans 2022 for those that are told).
    """

    base: int = 128
    mults: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    attention: tuple[int, ...] = (32, 16, 8)
    heads: int = 2
    num_res_blocks: int = 2
    groups: int = 32
    dropout: float = 0.0
    patch: int = 1
    updown: str = "block"
    dtype: Any = jnp.float32
    remat: bool = False
    told: int = 0

    @nn.compact
    def __call__(
        self, x: Array, t: Array, train: bool = False, label: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Noise in `x` at timestep `t`.

        Args:
          x: (b, h, w, c); h and w divisible by patch * 2 ** (levels - 1).
          t: (b,) 0-based timestep, integer or real; or (b, h, w), one a pixel, by the same parameters. A network that
            was trained on one form answers nonsense to the other, but for maps that are constant.
          train: dropout is on.
          label: (b,) int32 class, 0 ... told - 1, or `told` where it is not said; None says it of no film.

        Returns:
          (b, h, w, c) float32, and the endpoint `middle` (b, h', w', c').

        Raises:
          UserError: the sides, the groups or the heads do not divide.
        """
        widths = [int(self.base * m) for m in self.mults]
        self._check(x.shape, widths)
        channels = x.shape[-1]
        x = fold(x, self.patch)
        block_class: Any = nn.remat(ResBlock, static_argnums=(3,)) if self.remat else ResBlock
        block = partial(block_class, groups=self.groups, dropout=self.dropout, dtype=self.dtype)
        attend = partial(AttentionBlock, heads=self.heads, groups=self.groups, dtype=self.dtype)
        embed = TimeEmbedding(self.base, name="time")
        sides = [x.shape[2] >> i for i in range(len(widths))]
        # One time a film, or a map of them, which each level sees at its own side.
        embs = [embed(t)] * len(widths) if t.ndim == 1 else [embed(timemap.pooled(t, side)) for side in sides]
        if self.told:
            label = jnp.full(x.shape[:1], self.told) if label is None else label
            known = nn.Embed(self.told + 1, 4 * self.base, name="told")(label)  # (b, 4 base)
            embs = [emb + (known if emb.ndim == 2 else known[:, None, None, :]) for emb in embs]
        last = len(widths) - 1
        blocks = self.updown == "block"

        h = conv(widths[0], 3, bias=True, init=TORCH_UNIFORM, dtype=self.dtype, name="stem")(x.astype(self.dtype))
        skips = [h]
        for i, width in enumerate(widths):
            for j in range(self.num_res_blocks):
                h = block(width, name=f"down{i}_{j}")(h, embs[i], train)
                if h.shape[1] in self.attention:
                    h = attend(name=f"down{i}_{j}_attention")(h)
                skips.append(h)
            if i < last:
                h = block(width, "down", name=f"down{i}_halve")(h, embs[i + 1], train) if blocks else halve(h)
                skips.append(h)

        h = block(widths[-1], name="middle_0")(h, embs[-1], train)
        h = attend(name="middle_attention")(h)
        h = block(widths[-1], name="middle_1")(h, embs[-1], train)
        endpoints = {"middle": h}

        for i, width in reversed(list(enumerate(widths))):
            for j in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(width, name=f"up{i}_{j}")(h, embs[i], train)
                if h.shape[1] in self.attention:
                    h = attend(name=f"up{i}_{j}_attention")(h)
            if i > 0:
                h = block(width, "up", name=f"up{i}_double")(h, embs[i - 1], train) if blocks else double(h)

        h = nn.silu(group_norm(self.groups, name="norm_last")(h))
        return unfold(conv(channels * self.patch**2, 3, bias=True, init=ZEROS, name="out")(h), self.patch), endpoints

    def _check(self, shape: tuple[int, ...], widths: list[int]) -> None:
        factor = self.patch * 2 ** (len(widths) - 1)
        if shape[1] % factor or shape[2] % factor:
            raise UserError(
                f"unet: a film of {shape[1]}x{shape[2]} px does not halve {len(widths) - 1} times "
                f"after patches of {self.patch}; use sides divisible by {factor}, or fewer `mults` (now {len(widths)})"
            )
        for width in widths:
            if width % self.groups or width % self.heads:
                raise UserError(
                    f"unet: {width} channels (base {self.base} times a multiplier of {self.mults}) must divide by "
                    f"groups={self.groups} and heads={self.heads}; change `base`, `groups` or `heads`"
                )


unet = UNet
# For films of 32 to 64 px on a CPU: attention in the middle alone.
unet_tiny = partial(UNet, base=24, mults=(1, 2, 3), attention=(), heads=2, num_res_blocks=1, groups=8)
