"""One classifier for every family: a backbone that yields a feature map, a head that yields logits."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.nn.conv import GLOROT, HE_FAN_IN, TORCH_UNIFORM, ZEROS, adaptive_mean, bordered, conv
from cxrjax.nn.norm import batch_norm

Array = jax.Array

DENSE_INITS = {"torch": TORCH_UNIFORM, "he": HE_FAN_IN}


def global_pool(x: Array, kind: str, lse_r: float = 10.0) -> Array:
    """Pool over space in float32. (b, h, w, c) -> (b, c).

    Args:
      x: feature map.
      kind: "gap" mean; "gmp" maximum; "lse" (1 / r) log mean exp(r x), between the two (Wang et al. 2017, eq. 1).
      lse_r: r of "lse", positive.
    """
    x = x.astype(jnp.float32)
    if kind == "gap":
        return x.mean(axis=(1, 2))
    if kind == "gmp":
        return x.max(axis=(1, 2))
    area = x.shape[1] * x.shape[2]
    return (jax.nn.logsumexp(lse_r * x, axis=(1, 2)) - math.log(area)) / lse_r


class Head(nn.Module):
    """Pool, dense layers, logits.

    `hidden=(2048,)` is the "2048-wide" head of the ETRI deck read as a dense layer (pool, dense 2048, ReLU, dense);
    `widen_features=2048` reads it as a wider last convolution (1x1 conv, ReLU, pool, dense). Only without hidden layers
    and without flattening does the network have a class activation map.

    Attributes:
      num_classes: logits.
      hidden: widths of dense layers with ReLU between the pool and the logits.
      hidden_init: kernels of the hidden layers: "torch" (uniform within 1 / sqrt(fan_in)) or "he" (normal).
      pool: "gap", "gmp", "lse", or "flatten": every position its own input (h, w, c order), one size of film only.
      lse_r: sharpness of "lse".
      grid: side of an adaptive mean pool before "flatten", which makes it take any size; 0 for none.
      transition: channels of a 3x3 conv-BatchNorm-ReLU before the pool (Wang et al. 2017); 0 for none.
      border: what the transition sees beyond the map: "edge" (its border repeated) or "zeros".
      dropout: rate, after every hidden layer, or after the pool where there is none; needs the rng `dropout` in
        training.
      widen_features: channels of a 1x1 convolution before the pool; 0 for none.
      ntk: dense kernels are standard normal and divided by sqrt(fan_in) in the forward pass (Jacot et al. 2018),
        whatever `hidden_init`.
      dtype: compute dtype; the pool and the logits are float32 always.
    """

    num_classes: int
    hidden: tuple[int, ...] = ()
    hidden_init: str = "torch"
    pool: str = "gap"
    lse_r: float = 10.0
    grid: int = 0
    transition: int = 0
    border: str = "edge"
    dropout: float = 0.0
    widen_features: int = 0
    ntk: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Array, train: bool = False, label: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> logits (b, num_classes) float32, and `pooled`, `penultimate`, and `map` where there is one.

        `map` (b, h, w, num_classes) float32 holds each position's logits, bias included: under "gap" its mean over
        space is the logits exactly, and without the bias it is the CAM of Zhou et al. 2016.
        """
        del label
        x = features
        if self.transition:
            x = bordered(x, self.border)
            x = conv(self.transition, 3, pad=0, dtype=self.dtype, name="transition_conv")(x)
            x = nn.relu(batch_norm(train, dtype=self.dtype, name="transition_bn")(x))  # (b, h, w, transition)
        if self.widen_features:
            x = nn.relu(
                conv(self.widen_features, 1, bias=True, init=HE_FAN_IN, dtype=self.dtype, name="widen")(x)
            )  # (b, h, w, widen_features)
        if self.pool == "flatten":
            y = adaptive_mean(x, self.grid) if self.grid else x
            pooled = y.astype(jnp.float32).reshape(x.shape[0], -1)  # (b, h w c)
        else:
            pooled = global_pool(x, self.pool, self.lse_r)  # (b, c)
        dense: Any = NtkDense if self.ntk else partial(nn.Dense, kernel_init=TORCH_UNIFORM)
        init = {} if self.ntk else {"kernel_init": DENSE_INITS[self.hidden_init]}
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = pooled if self.hidden else drop(pooled)
        for i, width in enumerate(self.hidden):
            y = nn.relu(dense(width, dtype=self.dtype, name=f"hidden{i}", **init)(y))
            y = drop(y.astype(jnp.float32))
        classes = dense(self.num_classes, dtype=jnp.float32, name="classes")
        endpoints = {"pooled": pooled, "penultimate": y}
        logits = classes(y)
        if not self.hidden and self.pool != "flatten":
            endpoints["map"] = classes(x.astype(jnp.float32))  # costs nothing under jit where nobody reads it
        return logits, endpoints


class NtkDense(nn.Module):
    """A dense layer in the NTK parametrization: x W / sqrt(fan_in) + b, W standard normal, b from zero.

    The scale in the forward pass, not in W, is what makes the tangent kernel converge as layers widen under one
    learning rate (Jacot et al. 2018). (..., fan_in) -> (..., features).
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.normal(1.0), (x.shape[-1], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        y = x.astype(self.dtype) @ (kernel / math.sqrt(x.shape[-1])).astype(self.dtype)
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)


class ConvHead(nn.Module):
    """1x1 conv, 3x3 conv to one map a class, global pool: the head of the fully convolutional DenseNet-121.

    Neither convolution has a bias. With nothing between them they compose to one 3x3 convolution, as the paper's
    formula has it; `activation="relu"` is the other reading.

    Attributes:
      num_classes: maps, and logits.
      width: channels of the 1x1 convolution.
      activation: "none" or "relu", between the two.
      last_init: standard deviation of both kernels, n = kernel area times channels: "glorot_sqrt" is
        sqrt(2 / (n_in + n_out)), "literal" is 2 / (n_in + n_out), as the formula is printed without its root.
      border: what the 3x3 sees beyond the map, where the paper's sum has no terms: "edge" (the map's border repeated)
        or "zeros", under which the border, of fewer terms, holds nearly every maximum.
      pool, lse_r: as in `Head`.
      dtype: compute dtype of the 1x1; the maps and the logits are float32.
    """

    num_classes: int
    width: int = 1024
    activation: str = "none"
    last_init: str = "glorot_sqrt"
    border: str = "edge"
    pool: str = "gmp"
    lse_r: float = 10.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Array, train: bool = False, label: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> logits (b, num_classes) float32; `map` (b, h, w, num_classes), whose pool they are exactly.

        `pooled` and `penultimate` are both the mean (b, c) of `features`: no dense layer follows.
        """
        del train, label
        init = GLOROT if self.last_init == "glorot_sqrt" else _literal_normal
        y = conv(self.width, 1, init=init, dtype=self.dtype, name="mix")(features)
        if self.activation == "relu":
            y = nn.relu(y)
        y = bordered(y.astype(jnp.float32), self.border)
        maps = conv(self.num_classes, 3, pad=0, init=init, name="classes")(y)
        pooled = global_pool(features, "gap")
        return global_pool(maps, self.pool, self.lse_r), {"pooled": pooled, "penultimate": pooled, "map": maps}


def _literal_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    area = math.prod(shape[:-2])
    return jax.random.normal(key, shape, dtype) * 2 / (area * (shape[-2] + shape[-1]))


class Classifier(nn.Module):
    """A backbone and a head, whose parameters live under `backbone/` and `head/`, and an auxiliary head under `aux/`.

    Attributes:
      backbone: `(x, train) -> (features, endpoints)`.
      head: `(features, train, label) -> (logits, endpoints)`.
      aux: `(the backbone's endpoints, train) -> logits`, for the loss in training alone; None for none.
    """

    backbone: nn.Module
    head: nn.Module
    aux: nn.Module | None = None

    def __call__(
        self, x: Array, train: bool = False, backbone_train: bool | None = None, label: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Logits and every named intermediate.

        Args:
          x: (b, h, w, c) films.
          train: BatchNorm takes the batch's statistics, dropout is on.
          backbone_train: the same for the backbone alone, default `train`; false while the backbone is frozen, since a
            frozen part whose running statistics move is not frozen.
          label: (b, num_classes) in [0, 1], NaN unknown; read in training by heads that decode labels one after
            another, which see the ones before.

        Returns:
          logits (b, num_classes) float32; endpoints `features` (b, h', w', c') last map, `pooled` (b, c'),
          `penultimate` (b, d) what enters the last dense layer, `map` where the head has one, the stages', and in
          training `aux_logits` (b, num_classes) where there is an auxiliary head.
        """
        features, stages = self.backbone(x, train=train if backbone_train is None else backbone_train)
        logits, tops = self.head(features, train=train, label=label)
        if self.aux is not None and (train or self.is_initializing()):
            aux_logits = self.aux(stages, train=train)  # in evaluation only so that its parameters are made
            if train:
                tops = {**tops, "aux_logits": aux_logits}
        return logits, {**stages, "features": features, **tops}

    def head_from(self, features: Array, train: bool = False, label: Array | None = None) -> Array:
        """Logits (b, num_classes) from the last map (b, h', w', c'): for Grad-CAM, and to train the head alone."""
        return self.head(features, train=train, label=label)[0]
