"""Plain stacks of convolutions: VGG16 (Simonyan and Zisserman 2015), as torchvision builds it, and CNN-5."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.errors import UserError
from cxrjax.nn.conv import HE_FAN_IN, conv, max_halve

Array = jax.Array


class VGG(nn.Module):
    """Blocks of 3x3 convolutions with bias and ReLU, each block ended by a 2x2 max-pool; no normalization.

    He-normal kernels: from Glorot's a plain network of this depth often does not start (He et al. 2015).

    Attributes:
      convs: convolutions in each block.
      widths: channels of each block.
      dtype: compute dtype; parameters stay float32.
    """

    convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> the last pooled map, and `block1`, `block2`, ...: each block's output before its pool.

        Every pool drops an odd last row, so that 299 px end as 9x9.

        Raises:
          UserError: films smaller than one position of the last map.
        """
        del train
        least = 2 ** len(self.convs)
        if min(x.shape[1:3]) < least:
            raise UserError(
                f"films of {x.shape[1]}x{x.shape[2]} px are too small for {len(self.convs)} halvings: "
                f"at least {least} px a side, or fewer blocks"
            )
        endpoints: dict[str, Array] = {}
        x = x.astype(self.dtype)
        for i, (count, width) in enumerate(zip(self.convs, self.widths, strict=True), start=1):
            for j in range(1, count + 1):
                cv = conv(width, 3, bias=True, init=HE_FAN_IN, dtype=self.dtype, name=f"conv{i}_{j}")
                x = nn.relu(cv(x))
            endpoints[f"block{i}"] = x
            x = max_halve(x)  # (b, h / 2^i, w / 2^i, width)
        return x, endpoints


vgg16 = VGG
# For films of 64 px: 8x8 at the end; one convolution at the full side, where it costs a CPU most.
vgg_tiny = partial(VGG, convs=(1, 2, 2), widths=(16, 32, 64))
# Three blocks of one convolution; with its two dense layers, five layers that learn.
cnn5 = partial(VGG, convs=(1, 1, 1), widths=(32, 64, 128))
cnn5_tiny = partial(VGG, convs=(1, 1, 1), widths=(16, 32, 64))
