"""Labels as a sequence: the LSTM decoder of Yao et al. 2017, in which a finding may depend on the ones before it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax.models.classifier import global_pool
from cxrjax.nn.conv import TORCH_UNIFORM

Array = jax.Array


class _Step(nn.Module):
    """One label: the state and the label before it -> the state, this logit."""

    units: int

    @nn.compact
    def __call__(self, carry: tuple[Any, Array], x: tuple[Array, Array]) -> tuple[tuple[Any, Array], Array]:
        state, previous = carry  # ((b, units), (b, units)), (b,)
        place, told = x  # (k,) one-hot, (b,) label or NaN
        place = jnp.broadcast_to(place[None, :], (previous.shape[0], place.shape[0]))
        seen = jnp.concatenate([place, previous[:, None]], axis=-1)  # (b, k + 1)
        state, y = nn.OptimizedLSTMCell(self.units, name="cell")(state, seen)
        logit = nn.Dense(1, kernel_init=TORCH_UNIFORM, name="out")(y)[:, 0]
        known = ~jnp.isnan(told)
        previous = jnp.where(known, jnp.where(known, told, 0.0), jax.nn.sigmoid(logit))
        return (state, previous), logit


class LstmHead(nn.Module):
    """Pool, two dense layers for the first state of an LSTM, then one step a label; sums of step losses train it.

    Step j sees the one-hot of j and label j - 1: the true one in training where it is told and known, else the
    network's own probability of it (0 before the first). In the order of the classes, so logit j depends on labels
    before j alone.

    Attributes:
      num_classes: labels, steps, and logits.
      units: width of the LSTM's state.
      pool: "gap", "gmp" or "lse".
      lse_r: sharpness of "lse".
      dtype: taken for uniformity with the other heads; the decoder is float32 always.
    """

    num_classes: int
    units: int = 100
    pool: str = "gap"
    lse_r: float = 10.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Array, train: bool = False, label: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """(b, h, w, c) -> logits (b, num_classes) float32; `pooled` and `penultimate` are both the pooled vector.

        Args:
          features: the last map.
          train: read `label`; without it the decoder runs freely.
          label: (b, num_classes) in [0, 1], NaN unknown; None for free running.
        """
        k, b = self.num_classes, features.shape[0]
        pooled = global_pool(features, self.pool, self.lse_r)  # (b, c)
        h, c = (nn.Dense(self.units, kernel_init=TORCH_UNIFORM, name=name)(pooled) for name in ("h0", "c0"))
        told = jnp.full((k, b), jnp.nan) if label is None or not train else label.astype(jnp.float32).T
        scan = nn.scan(_Step, variable_broadcast="params", split_rngs={"params": False})
        carry = ((c, h), jnp.zeros((b,), jnp.float32))
        _, logits = scan(self.units, name="steps")(carry, (jnp.eye(k), told))  # (k, b)
        return logits.T, {"pooled": pooled, "penultimate": pooled}
