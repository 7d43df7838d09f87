"""EfficientNet-Lite feature extractors (Tan and Le 2019; the Lite members, Google 2020), as TensorFlow builds them.

Lite is EfficientNet without squeeze-and-excitation, with ReLU6, and with a stem and a top that widths do not scale. Its
padding is TensorFlow's: where strided, the bottom and the right get more of it, by the side of the map.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.nn.conv import HE_FAN_IN, HE_FAN_OUT, conv
from cxrjax.nn.norm import batch_norm

Array = jax.Array


class Stage(NamedTuple):
    """Blocks of one width; the first has the stride. `expand` multiplies the channels that come in."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    width: int


# Table 1 of the paper. Depth scales the repeats of all stages but the first and the last.
B0 = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80), Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip


def rounded(width: float) -> int:
    """The nearest multiple of 8, the next one where that takes away more than a tenth."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


class Block(nn.Module):
    """1x1 that widens, depthwise, 1x1 that narrows; residual where the shape stays. (b, h, w, c) -> (b, h', w', width).

    Attributes:
      width: channels out.
      kernel, stride: of the depthwise convolution.
      expand: channels within, over channels in; 1 leaves the first 1x1 out.
      drop: share of films whose residual is left out in training (stochastic depth); needs the rng `dropout`.
      momentum, dtype: as in `EfficientNet`.
    """

    width: int
    kernel: int
    stride: int = 1
    expand: int = 6
    drop: float = 0.0
    momentum: float = 0.99
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        norm = partial(batch_norm, train, momentum=self.momentum, epsilon=1e-3, dtype=self.dtype)
        cv = partial(conv, pad="SAME", dtype=self.dtype)
        inside, y = self.expand * x.shape[-1], x
        if self.expand != 1:
            y = nn.relu6(norm(name="expand_bn")(cv(inside, 1, name="expand_conv")(y)))
        # A channel's kernel feeds that channel alone, so that its fan out is its fan in.
        y = cv(inside, self.kernel, self.stride, groups=inside, init=HE_FAN_IN, name="depthwise_conv")(y)
        y = nn.relu6(norm(name="depthwise_bn")(y))
        y = norm(name="project_bn")(cv(self.width, 1, name="project_conv")(y))
        if x.shape != y.shape:
            return y
        return x + nn.Dropout(self.drop, broadcast_dims=(1, 2, 3), deterministic=not train)(y)


class EfficientNet(nn.Module):
    """Stem of stride 2, stages of blocks, a wide 1x1 top.

    Attributes:
      stages: repeats, kernel, stride, expansion and width of each, before they are scaled.
      width_scale, depth_scale: what multiplies the stages' widths and repeats.
      stem_features, top_features: channels of the stem and of the last map, never scaled.
      drop_connect: drop of the residuals in training, from 0 at the first block to nearly this at the last.
      momentum: of BatchNorm's running statistics.
      dtype: compute dtype; parameters and statistics stay float32.
      remat: recompute each block in the backward pass, for memory.
    """

    stages: tuple[Stage, ...] = B0
    width_scale: float = 1.0
    depth_scale: float = 1.0
    stem_features: int = 32
    top_features: int = 1280
    drop_connect: float = 0.2
    momentum: float = 0.99
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> the last map, and `stride2`, `stride4`, ...: the last block's output at each stride."""
        norm = partial(batch_norm, train, momentum=self.momentum, epsilon=1e-3, dtype=self.dtype)
        cv = partial(conv, pad="SAME", init=HE_FAN_OUT, dtype=self.dtype)
        block: Any = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        plan = self._plan()
        x = nn.relu6(norm(name="stem_bn")(cv(self.stem_features, 3, 2, name="stem_conv")(x.astype(self.dtype))))
        endpoints, stride = {"stride2": x}, 2
        for i, (_, kernel, by, expand, width) in enumerate(plan):
            drop = self.drop_connect * i / len(plan)
            x = block(width, kernel, by, expand, drop, self.momentum, self.dtype, name=f"block{i}")(x, train)
            stride *= by
            endpoints[f"stride{stride}"] = x
        return nn.relu6(norm(name="top_bn")(cv(self.top_features, 1, name="top_conv")(x))), endpoints

    def _plan(self) -> list[Stage]:
        """The blocks, one by one."""
        out = []
        for i, stage in enumerate(Stage(*stage) for stage in self.stages):
            ends = i in (0, len(self.stages) - 1)
            repeats = stage.repeats if ends else math.ceil(self.depth_scale * stage.repeats)
            first = stage._replace(width=rounded(self.width_scale * stage.width))
            out += [first, *[first._replace(stride=1)] * (repeats - 1)]
        return out


efficientnet_lite0 = EfficientNet
efficientnet_lite1 = partial(EfficientNet, depth_scale=1.1)
efficientnet_lite2 = partial(EfficientNet, width_scale=1.1, depth_scale=1.2)
# For films of 32 and 64 px: a quarter of the side, so that a map of 32 px is still 8x8.
efficientnet_lite_tiny = partial(
    EfficientNet, stages=(Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 4, 24), Stage(1, 5, 1, 4, 40)), stem_features=16,
    top_features=128, drop_connect=0.0, momentum=0.9,
)  # fmt: skip
