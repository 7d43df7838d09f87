"""Inception-v3 (Szegedy et al. 2016) and its auxiliary head, layer for layer and name for name as torchvision's."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.nn.conv import HE_FAN_IN, TORCH_UNIFORM, adaptive_mean, conv, max_pool, mean3
from cxrjax.nn.norm import batch_norm

Array = jax.Array


class BasicConv2d(nn.Module):
    """Convolution, BatchNorm with epsilon 1e-3, ReLU. `pad` as in `conv`: None keeps the side, 0 trims it."""

    width: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    pad: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        cv = conv(self.width, self.kernel, self.stride, pad=self.pad, init=HE_FAN_IN, dtype=self.dtype, name="conv")
        norm = batch_norm(train, epsilon=1e-3, dtype=self.dtype, name="bn")
        return nn.relu(norm(cv(x)))


class _Block(nn.Module):
    """What the five blocks share: `scale` multiplies every printed width; `path` chains convolutions by name."""

    scale: float = 1.0
    dtype: Any = jnp.float32

    def path(self, x: Array, train: bool, **convs: tuple[Any, ...]) -> Array:
        """`x` through convolutions `name=(width, kernel[, stride[, pad]])`, in order."""
        unit: Any = partial(BasicConv2d, dtype=self.dtype)
        for name, (width, *how) in convs.items():
            x = unit(scaled(width, self.scale), *how, name=name)(x, train)
        return x


def scaled(width: int, scale: float) -> int:
    """`width * scale` rounded to an even number, at least 2."""
    return max(2, 2 * round(width * scale / 2))


class InceptionA(_Block):
    """1x1, 5x5, two 3x3 and a mean pool, side by side. (b, h, w, c) -> (b, h, w, 224 + pool_features)."""

    pool_features: int = 32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        one = self.path(x, train, branch1x1=(64, 1))
        five = self.path(x, train, branch5x5_1=(48, 1), branch5x5_2=(64, 5))
        three = self.path(x, train, branch3x3dbl_1=(64, 1), branch3x3dbl_2=(96, 3), branch3x3dbl_3=(96, 3))
        pool = self.path(mean3(x), train, branch_pool=(self.pool_features, 1))
        return jnp.concatenate([one, five, three, pool], axis=-1)


class InceptionB(_Block):
    """To half the side: a strided 3x3, two 3x3, a max-pool. (b, h, w, c) -> (b, (h - 1) // 2, ..., 480 + c)."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        three = self.path(x, train, branch3x3=(384, 3, 2, 0))
        double = self.path(x, train, branch3x3dbl_1=(64, 1), branch3x3dbl_2=(96, 3), branch3x3dbl_3=(96, 3, 2, 0))
        return jnp.concatenate([three, double, max_pool(x, pad=0)], axis=-1)


class InceptionC(_Block):
    """1x1, one and two factored 7x7 (`channels_7x7` wide inside), a mean pool. (b, h, w, c) -> (b, h, w, 768)."""

    channels_7x7: int = 128

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        c = self.channels_7x7
        one = self.path(x, train, branch1x1=(192, 1))
        seven = self.path(x, train, branch7x7_1=(c, 1), branch7x7_2=(c, (1, 7)), branch7x7_3=(192, (7, 1)))
        double = self.path(
            x,
            train,
            branch7x7dbl_1=(c, 1),
            branch7x7dbl_2=(c, (7, 1)),
            branch7x7dbl_3=(c, (1, 7)),
            branch7x7dbl_4=(c, (7, 1)),
            branch7x7dbl_5=(192, (1, 7)),
        )
        pool = self.path(mean3(x), train, branch_pool=(192, 1))
        return jnp.concatenate([one, seven, double, pool], axis=-1)


class InceptionD(_Block):
    """To half the side: 3x3, a factored 7x7 then 3x3, a max-pool. (b, h, w, c) -> (b, (h - 1) // 2, ..., 512 + c)."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        three = self.path(x, train, branch3x3_1=(192, 1), branch3x3_2=(320, 3, 2, 0))
        seven = self.path(
            x,
            train,
            branch7x7x3_1=(192, 1),
            branch7x7x3_2=(192, (1, 7)),
            branch7x7x3_3=(192, (7, 1)),
            branch7x7x3_4=(192, 3, 2, 0),
        )
        return jnp.concatenate([three, seven, max_pool(x, pad=0)], axis=-1)


class InceptionE(_Block):
    """1x1, two paths that end in a 1x3 beside a 3x1, a mean pool. (b, h, w, c) -> (b, h, w, 2048)."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        one = self.path(x, train, branch1x1=(320, 1))
        three = self.path(x, train, branch3x3_1=(384, 1))
        row = self.path(three, train, branch3x3_2a=(384, (1, 3)))
        column = self.path(three, train, branch3x3_2b=(384, (3, 1)))
        double = self.path(x, train, branch3x3dbl_1=(448, 1), branch3x3dbl_2=(384, 3))
        double_row = self.path(double, train, branch3x3dbl_3a=(384, (1, 3)))
        double_column = self.path(double, train, branch3x3dbl_3b=(384, (3, 1)))
        pool = self.path(mean3(x), train, branch_pool=(192, 1))
        return jnp.concatenate([one, row, column, double_row, double_column, pool], axis=-1)


class Inception(nn.Module):
    """Stem, A blocks, B, C blocks, D, E blocks.

    Attributes:
      blocks: how many A, C and E blocks; (3, 4, 2) is Inception-v3, fewer leave out the last of a kind.
      stem: "imagenet" (five convolutions and two max-pools, an eighth of the side) or "small" (3x3 stride 2, 3x3).
      scale: multiplies every width.
      dtype: compute dtype; parameters and statistics stay float32.
      remat: recompute each block in the backward pass, for memory.
    """

    blocks: tuple[int, int, int] = (3, 4, 2)
    stem: str = "imagenet"
    scale: float = 1.0
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> the last map, and each block's output by name (`Mixed_5b`, ..., `Mixed_7c`).

        299 px end as 8x8, 256 px as 6x6; the last C block's output is `aux_input` as well, for `AuxHead`.

        Raises:
          UserError: films smaller than one position of the last map.
        """
        least = 75 if self.stem == "imagenet" else 13
        if min(x.shape[1:3]) < least:
            raise UserError(
                f"films of {x.shape[1]}x{x.shape[2]} px are too small for Inception with stem {self.stem!r}: "
                f"at least {least} px a side"
            )
        x = self._stem(x.astype(self.dtype), train)
        a, c, e = self.blocks
        plan: list[tuple[str, Any, dict[str, int]]] = []
        for letter, pool_features in list(zip("bcd", (32, 64, 64), strict=True))[:a]:
            plan.append((f"Mixed_5{letter}", InceptionA, {"pool_features": pool_features}))
        plan.append(("Mixed_6a", InceptionB, {}))
        for letter, channels in list(zip("bcde", (128, 160, 160, 192), strict=True))[:c]:
            plan.append((f"Mixed_6{letter}", InceptionC, {"channels_7x7": channels}))
        plan.append(("Mixed_7a", InceptionD, {}))
        plan += [(f"Mixed_7{letter}", InceptionE, {}) for letter in "bc"[:e]]
        endpoints: dict[str, Array] = {}
        for name, cls, widths in plan:
            if name == "Mixed_7a":
                endpoints["aux_input"] = x
            block = nn.remat(cls, static_argnums=(2,)) if self.remat else cls
            x = endpoints[name] = block(scale=self.scale, dtype=self.dtype, name=name, **widths)(x, train)
        return x, endpoints

    def _stem(self, x: Array, train: bool) -> Array:
        unit: Any = partial(BasicConv2d, dtype=self.dtype)

        def cv(name: str, width: int, *how: Any) -> Array:
            return unit(scaled(width, self.scale), *how, name=name)(x, train)

        if self.stem == "small":
            x = cv("Conv2d_1a_3x3", 64, 3, 2)
            return cv("Conv2d_2a_3x3", 128, 3)  # (b, h / 2, w / 2, c)
        x = cv("Conv2d_1a_3x3", 32, 3, 2, 0)
        x = cv("Conv2d_2a_3x3", 32, 3, 1, 0)
        x = max_pool(cv("Conv2d_2b_3x3", 64, 3), pad=0)
        x = cv("Conv2d_3b_1x1", 80, 1)
        return max_pool(cv("Conv2d_4a_3x3", 192, 3, 1, 0), pad=0)  # (b, h / 8, w / 8, 192)


class AuxHead(nn.Module):
    """The auxiliary classifier on the last C block: mean pool, 1x1, 5x5, global mean, dense.

    Attributes:
      num_classes: logits.
      scale: multiplies both widths.
      dtype: compute dtype; the logits are float32.
    """

    num_classes: int
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, stages: dict[str, Array], train: bool = False) -> Array:
        """The backbone's endpoints -> logits (b, num_classes) float32, read from `aux_input`.

        torchvision pools 5x5 three apart, 17x17 to 5x5 at 299 px; where that would leave less than the 5x5 kernel
        (256 px: 14x14 to 4x4) an adaptive mean pool to 5x5 stands in.
        """
        x = stages["aux_input"]
        large = min(x.shape[1:3]) >= 17
        x = nn.avg_pool(x, (5, 5), strides=(3, 3)) if large else adaptive_mean(x, 5)  # (b, 5, 5, c) at 299 px
        x = BasicConv2d(scaled(128, self.scale), 1, dtype=self.dtype, name="conv0")(x, train)
        x = BasicConv2d(scaled(768, self.scale), 5, 1, 0, dtype=self.dtype, name="conv1")(x, train)
        pooled = x.astype(jnp.float32).mean(axis=(1, 2))
        return nn.Dense(self.num_classes, kernel_init=TORCH_UNIFORM, name="fc")(pooled)


inception_v3 = Inception
# For films of 64 px: 7x7 at the end, one block of every kind.
inception_tiny = partial(Inception, blocks=(1, 1, 1), stem="small", scale=0.125)
