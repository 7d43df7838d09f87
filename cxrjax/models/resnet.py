"""ResNet feature extractors (He et al. 2016), post-activation, layer for layer as torchvision builds them."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.nn.conv import conv, max_pool
from cxrjax.nn.norm import batch_norm

Array = jax.Array


class BasicBlock(nn.Module):
    """3x3-3x3 with a skip. (b, h, w, c) -> (b, h / stride, w / stride, width)."""

    width: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        norm = partial(batch_norm, train, dtype=self.dtype)
        cv = partial(conv, dtype=self.dtype)
        y = nn.relu(norm(name="bn1")(cv(self.width, 3, self.stride, name="conv1")(x)))
        y = norm(name="bn2")(cv(self.width, 3, name="conv2")(y))
        if x.shape != y.shape:
            x = norm(name="downsample_bn")(cv(self.width, 1, self.stride, name="downsample_conv")(x))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1-3x3-1x1 with a skip, the stride on the 3x3. (b, h, w, c) -> (b, h / stride, w / stride, 4 width)."""

    width: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        norm = partial(batch_norm, train, dtype=self.dtype)
        cv = partial(conv, dtype=self.dtype)
        y = nn.relu(norm(name="bn1")(cv(self.width, 1, name="conv1")(x)))
        y = nn.relu(norm(name="bn2")(cv(self.width, 3, self.stride, name="conv2")(y)))
        y = norm(name="bn3")(cv(4 * self.width, 1, name="conv3")(y))
        if x.shape != y.shape:
            x = norm(name="downsample_bn")(cv(4 * self.width, 1, self.stride, name="downsample_conv")(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stem and stages; every stage but the first halves the map.

    Attributes:
      blocks: blocks in each stage.
      bottleneck: bottleneck blocks (four times the width out) or basic ones.
      widths: width of each stage.
      stem: "imagenet" (7x7 stride 2, then 3x3 max-pool stride 2) or "cifar" (3x3 of stride `stem_stride`).
      stem_stride: stride of the "cifar" stem.
      dtype: compute dtype; parameters and statistics stay float32.
      remat: recompute each block in the backward pass, for memory.
    """

    blocks: tuple[int, ...]
    bottleneck: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: str = "imagenet"
    stem_stride: int = 1
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> the last map, and `layer1`, `layer2`, ...: each stage's output."""
        block: Any = Bottleneck if self.bottleneck else BasicBlock
        if self.remat:
            block = nn.remat(block, static_argnums=(2,))
        endpoints: dict[str, Array] = {}
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, self.stem_stride)
        x = conv(self.widths[0], kernel, stride, dtype=self.dtype, name="conv1")(x.astype(self.dtype))
        x = nn.relu(batch_norm(train, dtype=self.dtype, name="bn1")(x))
        if self.stem == "imagenet":
            x = max_pool(x)  # (b, h / 4, w / 4, widths[0])
        for i, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True), start=1):
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                x = block(width, stride, self.dtype, name=f"layer{i}_{j}")(x, train)
            endpoints[f"layer{i}"] = x
        return x, endpoints


resnet18 = partial(ResNet, blocks=(2, 2, 2, 2))
resnet34 = partial(ResNet, blocks=(3, 4, 6, 3))
resnet50 = partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True)
resnet101 = partial(ResNet, blocks=(3, 4, 23, 3), bottleneck=True)
resnet152 = partial(ResNet, blocks=(3, 8, 36, 3), bottleneck=True)
resnet200 = partial(ResNet, blocks=(3, 24, 36, 3), bottleneck=True)
# For films of 32 and 64 px: a quarter of the side, so that a map of 32 px is still 8x8.
resnet_tiny = partial(ResNet, blocks=(1, 2), widths=(24, 48), stem="cifar", stem_stride=2)
