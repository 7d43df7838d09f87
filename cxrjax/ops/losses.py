"""Classification losses on labels that may be unknown (NaN): the label is replaced first and masked after.

Masking a NaN loss leaves a NaN gradient; replacing the label before the loss does not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean of `values` under `weights` of the same shape; 0 where every weight is 0."""
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1e-8)


def softmax_cross_entropy(
    logits: jax.Array, label: jax.Array, valid: jax.Array, class_weight: jax.Array | None = None
) -> jax.Array:
    """Cross-entropy for exclusive classes.

    Args:
      logits: (b, k) float32.
      label: (b, k) one-hot; a row that holds NaN is unknown and left out.
      valid: (b,) 1 for a film, 0 for padding.
      class_weight: (k,) or None; the loss is then the weighted mean, as in torch.

    Returns:
      () float32.
    """
    known = ~jnp.isnan(label).any(axis=-1)
    onehot = jnp.where(known[:, None], label, 0.0)
    weight = valid * known
    if class_weight is not None:
        weight = weight * (onehot * class_weight[None, :]).sum(axis=-1)
    return weighted_mean(optax.losses.safe_softmax_cross_entropy(logits, onehot), weight)


def sigmoid_cross_entropy(
    logits: jax.Array, label: jax.Array, valid: jax.Array, positive_weight: jax.Array | None = None
) -> jax.Array:
    """Binary cross-entropy per class, averaged over the known entries.

    Args:
      logits: (b, k) float32.
      label: (b, k) 1 present, 0 absent, NaN unknown.
      valid: (b,) 1 for a film, 0 for padding.
      positive_weight: (k,) factor on the positives' loss, or None.

    Returns:
      () float32.
    """
    known = ~jnp.isnan(label)
    target = jnp.where(known, label, 0.0)
    loss = optax.sigmoid_binary_cross_entropy(logits, target)
    if positive_weight is not None:
        loss = loss * (target * positive_weight[None, :] + (1 - target))
    return weighted_mean(loss, known * valid[:, None])


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}
