"""How much the tangent kernel of a two-layer head moves in training, by its width: a diagnostic, and no claim.

In the limit of width the kernel stands still (Jacot et al. 2018). A head whose kernel moves much learns features of
its own; that says nothing of how well it, or the network below it, classifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError
from cxrjax.ops import losses, ntk
from cxrjax.types import Array, PyTree

WIDTHS = (256, 512, 1024, 2048, 4096)


def standardize(features: np.ndarray) -> np.ndarray:
    """Centered features (n, d), scaled to a mean square of 1 over all of them; columns keep their relative size."""
    centered = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    return (centered / max(float(np.sqrt(np.mean(centered**2))), 1e-12)).astype(np.float32)


def diagnose(
    features: np.ndarray,
    labels: np.ndarray,
    widths: Sequence[int] = WIDTHS,
    steps: int = 200,
    lr: float = 1.0,
    seed: int = 0,
    loss: str = "softmax",
) -> dict[str, list[Any]]:
    """Trains a two-layer ReLU head of each width and compares its kernel with that of its start and of infinite width.

    The head is in the NTK parametrization, without biases; it learns by full-batch gradient descent, so that one
    learning rate fits all widths. Each width starts from weights of its own.

    Args:
      features: (n, d) pooled features of a network, at most 256 films; centered and scaled here.
      labels: (n, k) 1, 0 or NaN.
      widths: hidden widths.
      steps: of gradient descent.
      lr: learning rate; the kernel's diagonal is about 1, so that 1 is stable under a cross-entropy.
      seed: of the weights.
      loss: a key of `losses.LOSSES`.

    Returns:
      Lists with an entry a width: `width`; `change`, |K_T - K_0| / |K_0|; `smallest_eigenvalue` and `condition` of
      K_0, and `trained_smallest_eigenvalue` and `trained_condition` of K_T (None where infinite); `arc_cosine_error`,
      |K_0 - K_inf| / |K_inf|; `loss` before and `trained_loss` after.

    Raises:
      UserError: more than 256 films.
    """
    x, y = jnp.asarray(standardize(features)), jnp.asarray(labels, jnp.float32)
    if len(x) > ntk.MOST_INPUTS:
        raise UserError(f"the tangent kernel is for at most {ntk.MOST_INPUTS} films, not {len(x)}; give fewer")
    valid = jnp.ones(len(x), jnp.float32)
    limit = ntk.arc_cosine(np.asarray(x))

    def objective(params: PyTree) -> Array:
        return losses.LOSSES[loss](ntk.two_layer(params, x), y, valid)

    @jax.jit
    def step(params: PyTree) -> PyTree:
        return jax.tree.map(lambda p, g: p - lr * g, params, jax.grad(objective)(params))

    out: dict[str, list[Any]] = {}
    for i, width in enumerate(widths):
        key = jax.random.fold_in(jax.random.key(seed), i)
        start = ntk.two_layer_init(key, x.shape[1], width, y.shape[1])
        trained = start
        for _ in range(steps):
            trained = step(trained)
        before, after = (ntk.empirical(ntk.two_layer, params, x) for params in (start, trained))
        (smallest, condition), (later_smallest, later_condition) = ntk.spectrum(before), ntk.spectrum(after)
        row = {
            "width": int(width),
            "change": ntk.relative_change(after, before),
            "smallest_eigenvalue": smallest,
            "condition": condition if np.isfinite(condition) else None,
            "trained_smallest_eigenvalue": later_smallest,
            "trained_condition": later_condition if np.isfinite(later_condition) else None,
            "arc_cosine_error": ntk.relative_change(before, limit),
            "loss": float(objective(start)),
            "trained_loss": float(objective(trained)),
        }
        for name, value in row.items():
            out.setdefault(name, []).append(value)
    return out
