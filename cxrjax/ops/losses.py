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


def _exclusive(label: jax.Array, valid: jax.Array, class_weight: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """(b, k) the labels with unknown rows blank, and (b,) each film's weight."""
    known = ~jnp.isnan(label).any(axis=-1)
    onehot = jnp.where(known[:, None], label, 0.0)
    weight = valid * known
    if class_weight is not None:
        weight = weight * (onehot * class_weight[None, :]).sum(axis=-1)
    return onehot, weight


def _independent(label: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(b, k) the labels with unknown entries blank, and (b, k) which entries take part."""
    known = ~jnp.isnan(label)
    return jnp.where(known, label, 0.0), known * valid[:, None]


def _favor(loss: jax.Array, target: jax.Array, positive_weight: jax.Array | None) -> jax.Array:
    """(b, k) with the positives' entries times their class's weight."""
    return loss if positive_weight is None else loss * (target * positive_weight[None, :] + (1 - target))


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
    onehot, weight = _exclusive(label, valid, class_weight)
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
    target, known = _independent(label, valid)
    loss = optax.sigmoid_binary_cross_entropy(logits, target)
    return weighted_mean(_favor(loss, target, positive_weight), known)


def sparse_cross_entropy(
    logits: jax.Array, label: jax.Array, valid: jax.Array, class_weight: jax.Array | None = None
) -> jax.Array:
    """Cross-entropy from class numbers: the same function as `softmax_cross_entropy`, by another code path.

    Arguments and result as there; the number is the position of the label's one.
    """
    onehot, weight = _exclusive(label, valid, class_weight)
    number = onehot.argmax(axis=-1)
    return weighted_mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, number), weight)


def focal_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    valid: jax.Array,
    class_weight: jax.Array | None = None,
    gamma: float = 2.0,
) -> jax.Array:
    """Cross-entropy for exclusive classes, times (1 - p)^gamma of the true class (Lin et al. 2017, eq. 4).

    Arguments and result as `softmax_cross_entropy`; `gamma` 0 is that function.
    """
    onehot, weight = _exclusive(label, valid, class_weight)
    missed = 1 - (jax.nn.softmax(logits) * onehot).sum(axis=-1)
    # The floor keeps the power's gradient finite where a film is already certain.
    return weighted_mean(
        jnp.maximum(missed, 1e-7) ** gamma * optax.losses.safe_softmax_cross_entropy(logits, onehot), weight
    )


def batch_weighted_cross_entropy(
    logits: jax.Array, label: jax.Array, valid: jax.Array, positive_weight: jax.Array | None = None
) -> jax.Array:
    """W-CEL: positives weigh (P + N) / P and negatives (P + N) / N, counted over the batch's whole label matrix.

    A batch without positives (or negatives) counts one, so that the weight stays finite. Averaged over the known
    entries; other arguments as `sigmoid_cross_entropy` (Wang et al. 2017, section 4.1).
    """
    target, known = _independent(label, valid)
    positives, negatives = (known * target).sum(), (known * (1 - target)).sum()
    total = positives + negatives
    weight = target * total / jnp.maximum(positives, 1) + (1 - target) * total / jnp.maximum(negatives, 1)
    weight = _favor(weight, target, positive_weight)
    return weighted_mean(weight * optax.sigmoid_binary_cross_entropy(logits, target), known)


def sigmoid_focal_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    valid: jax.Array,
    positive_weight: jax.Array | None = None,
    gamma: float = 2.0,
) -> jax.Array:
    """Binary cross-entropy per class times (1 - p)^gamma of the true side; arguments as `sigmoid_cross_entropy`."""
    target, known = _independent(label, valid)
    loss = optax.losses.sigmoid_focal_loss(logits, target, gamma=gamma)
    return weighted_mean(_favor(loss, target, positive_weight), known)


def smooth(label: jax.Array, amount: float, exclusive: bool) -> jax.Array:
    """Label smoothing (Szegedy et al. 2016): a share `amount` in [0, 1) is spread over the classes, NaN stays NaN.

    Args:
      label: (b, k).
      amount: 0 changes nothing.
      exclusive: spread over the k classes, or over presence and absence of each.
    """
    return label * (1 - amount) + amount / (label.shape[-1] if exclusive else 2)


LOSSES = {
    "softmax": softmax_cross_entropy,
    "sparse": sparse_cross_entropy,
    "focal": focal_cross_entropy,
    "sigmoid": sigmoid_cross_entropy,
    "wcel": batch_weighted_cross_entropy,
    "sigmoid_focal": sigmoid_focal_cross_entropy,
}
# Those of exclusive classes, whose probabilities are a softmax; the others' are sigmoids.
EXCLUSIVE = ("softmax", "sparse", "focal")


def nt_xent(first: jax.Array, second: jax.Array, valid: jax.Array, temperature: float) -> jax.Array:
    """NT-Xent, the contrastive loss: each film's partner must be nearer to it than every other film of the batch.

    Args:
      first, second: (b, d) float32 of unit length, the embeddings of the two films of each pair.
      valid: (b,) 1 for a pair, 0 for padding, which is nobody's neighbor.
      temperature: that similarities are divided by.

    Returns:
      () float32.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", equation 1.
    """
    b = len(first)
    films = jnp.concatenate([first, second])  # (2b, d)
    there = jnp.concatenate([valid, valid]) > 0
    like = films @ films.T / temperature
    others = there[None, :] & ~jnp.eye(2 * b, dtype=bool)
    log_share = jax.nn.log_softmax(jnp.where(others, like, -1e9), axis=1)
    partner = (jnp.arange(2 * b) + b) % (2 * b)
    each = -jnp.take_along_axis(log_share, partner[:, None], axis=1)[:, 0]
    return weighted_mean(each, there.astype(each.dtype))
