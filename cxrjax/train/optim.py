"""Optimizers by parameter path, learning-rate schedules, exponential moving averages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cxrjax.types import PyTree, UserError


def schedule(config: Any, steps: int) -> optax.Schedule:
    """The learning rate over `steps` optimizer steps.

    Args:
      config: `lr`, `schedule` (`constant` or `cosine`) and `warmup` steps (linear from 0).
    """
    if config.schedule == "constant":
        main: optax.Schedule = optax.constant_schedule(config.lr)
    elif config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.lr, max(steps - config.warmup, 1))
    else:
        raise UserError(f"schedule {config.schedule!r} is unknown: expected constant or cosine")
    if not config.warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, config.lr, config.warmup), main], [config.warmup])


def _base(config: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    name = config.name
    if name == "adamw":
        return optax.adamw(rate, config.b1, config.b2, weight_decay=config.weight_decay)
    bases = {
        "adam": optax.adam(rate, config.b1, config.b2),
        "sgd": optax.sgd(rate, momentum=config.b1),
        "nag": optax.sgd(rate, momentum=config.b1, nesterov=True),
    }
    if name not in bases:
        raise UserError(f"optimizer {name!r} is unknown: expected adam, adamw, sgd or nag")
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()
    return optax.chain(decay, bases[name])


def path_of(path: Sequence[Any]) -> str:
    """A leaf's path as `backbone/conv0/kernel`."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def labels(params: PyTree, rules: Sequence[tuple[str, str]], default: str) -> PyTree:
    """Labels every leaf by the first rule whose pattern is found in its path."""

    def label(path: Sequence[Any], _: Any) -> str:
        name = path_of(path)
        return next((to for pattern, to in rules if re.search(pattern, name)), default)

    return jax.tree_util.tree_map_with_path(label, params)


def make(config: Any, steps: int) -> optax.GradientTransformation:
    """An optimizer chain: clip the global norm, then a base optimizer, with leaves frozen by path.

    Args:
      config: `name`, `lr`, `schedule`, `warmup`, `b1` (momentum, for sgd and nag), `b2`, `weight_decay` (decoupled for
        adamw, else L2 in the gradient), `clip` (0 is off) and `frozen`, a tuple of patterns; a parameter whose path one
        of them is found in never changes and has no optimizer state.
      steps: the phase's optimizer steps.

    Raises:
      UserError: an unknown optimizer or schedule; at initialization, a pattern that fits no parameter.
    """
    chain = optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        _base(config, schedule(config, steps)),
    )
    if not config.frozen:
        return chain

    def of(params: PyTree) -> PyTree:
        names = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern in config.frozen:
            if not any(re.search(pattern, name) for name in names):
                raise UserError(f"frozen pattern {pattern!r} fits no parameter, such as {names[0]}")
        return labels(params, [(pattern, "frozen") for pattern in config.frozen], "train")

    return optax.partition({"train": chain, "frozen": optax.set_to_zero()}, of)


def update_ema(ema: PyTree, params: PyTree, step: jax.Array, decay: float) -> PyTree:
    """ema + (1 - d)(params - ema) with d = min(decay, (1 + n) / (10 + n)), a warm-up that forgets the random start."""
    n = jnp.asarray(step, jnp.float32)
    d = jnp.minimum(decay, (1 + n) / (10 + n))
    return jax.tree.map(lambda e, p: e + (1 - d) * (p - e), ema, params)
