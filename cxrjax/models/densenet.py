"""DenseNet feature extractors (Huang et al. 2017), layer for layer as torchvision builds them."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.nn.conv import HE_FAN_IN, conv, halve, max_pool
from cxrjax.nn.norm import batch_norm

Array = jax.Array


class DenseLayer(nn.Module):
    """BN-ReLU-1x1-BN-ReLU-3x3, the new channels appended to the old. (b, h, w, c) -> (b, h, w, c + growth)."""

    growth: int
    bn_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        norm = partial(batch_norm, train, dtype=self.dtype)
        cv = partial(conv, init=HE_FAN_IN, dtype=self.dtype)
        y = nn.relu(norm(name="norm1")(x))
        y = cv(self.bn_size * self.growth, 1, name="conv1")(y)
        y = nn.relu(norm(name="norm2")(y))
        y = cv(self.growth, 3, name="conv2")(y)
        return jnp.concatenate([x, y], axis=-1)


class DenseNet(nn.Module):
    """Stem, dense blocks with halving transitions between them, a last BatchNorm and ReLU.

    Attributes:
      blocks: layers in each block; every block but the last is followed by a transition that halves the map.
      growth: channels each layer adds.
      bn_size: the 1x1 bottleneck is bn_size * growth wide.
      stem: "imagenet" (7x7 stride 2, then 3x3 max-pool stride 2) or "small" (3x3 of stride `stem_stride`).
      stem_features: channels of the stem.
      stem_stride: stride of the "small" stem.
      dtype: compute dtype; parameters and statistics stay float32.
      remat: recompute each layer in the backward pass, for memory.
    """

    blocks: tuple[int, ...]
    growth: int = 32
    bn_size: int = 4
    stem: str = "imagenet"
    stem_features: int = 64
    stem_stride: int = 2
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> the last map after its ReLU, and `block1`, `block2`, ...: each block's output."""
        norm = partial(batch_norm, train, dtype=self.dtype)
        cv = partial(conv, init=HE_FAN_IN, dtype=self.dtype)
        layer = nn.remat(DenseLayer, static_argnums=(2,)) if self.remat else DenseLayer
        endpoints: dict[str, Array] = {}
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, self.stem_stride)
        x = cv(self.stem_features, kernel, stride, name="conv0")(x.astype(self.dtype))
        x = nn.relu(norm(name="norm0")(x))
        if self.stem == "imagenet":
            x = max_pool(x)  # (b, h / 4, w / 4, stem_features)
        for i, layers in enumerate(self.blocks, start=1):
            for j in range(1, layers + 1):
                x = layer(self.growth, self.bn_size, self.dtype, name=f"block{i}_layer{j}")(x, train)
            endpoints[f"block{i}"] = x
            if i < len(self.blocks):
                x = nn.relu(norm(name=f"transition{i}_norm")(x))
                x = halve(cv(x.shape[-1] // 2, 1, name=f"transition{i}_conv")(x))
        # torchvision applies this ReLU in the functional part, outside its `features`: easy to forget in a port.
        return nn.relu(norm(name="norm_last")(x)), endpoints


densenet121 = partial(DenseNet, blocks=(6, 12, 24, 16))
# For films of 32 and 64 px: a quarter of the side, so that a map of 32 px is still 8x8; one layer alone at
# half the side, where a layer costs a CPU four times as much.
densenet_tiny = partial(DenseNet, blocks=(1, 6), growth=16, bn_size=2, stem="small", stem_features=24)
