"""Optimizers by parameter path, learning-rate schedules, exponential moving averages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cxrjax.errors import UserError
from cxrjax.types import PyTree, Scalars, State


def schedule(config: Any, steps: int) -> optax.Schedule:
    """The learning rate over `steps` optimizer steps.

    Args:
      config: `lr`, `schedule` and `warmup` steps (linear from 0). `plateau` is constant here: what lowers it is part of
        the state, see `plateau`. `steps` multiplies by `factor` at each of `boundaries`, shares of the whole run in
        (0, 1), warm-up and all; two that fall on one step multiply twice.

    Raises:
      UserError: an unknown schedule, or a boundary that is no share of the run.
    """
    if config.schedule in ("constant", "plateau"):
        main: optax.Schedule = optax.constant_schedule(config.lr)
    elif config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.lr, max(steps - config.warmup, 1))
    elif config.schedule == "steps":
        if not all(0 < b < 1 for b in config.boundaries):
            raise UserError(f"boundaries = {tuple(config.boundaries)}: expected shares of the run between 0 and 1")
        at = jnp.asarray([round(b * steps) for b in config.boundaries], jnp.int32)
        # Not joined to the warm-up as the others are, which would count the steps from its end.
        warm = optax.linear_schedule(0.0, 1.0, config.warmup) if config.warmup else optax.constant_schedule(1.0)
        return lambda step: config.lr * warm(step) * config.factor ** (step >= at).sum()
    else:
        raise UserError(f"schedule {config.schedule!r} is unknown: expected constant, cosine, plateau or steps")
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
        of them is found in never changes and has no optimizer state. `apart` names likewise the parameters whose
        optimizer state is counted by itself: those that were frozen in the phase whose optimizer state this one goes
        on with, so that Adam corrects the bias of their young moments. The global norm is each group's own.
        `slower` are pairs (pattern, factor) of the rate, the first that fits a path.
      steps: the phase's optimizer steps.

    Raises:
      UserError: an unknown optimizer or schedule, a factor that is not positive; at initialization, a pattern that fits
        no parameter.
    """
    chain = optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        _base(config, schedule(config, steps)),
    )
    groups = [("frozen", tuple(config.frozen)), ("apart", tuple(config.get("apart", ())))]
    slower = tuple(config.get("slower", ()))
    if any(patterns for _, patterns in groups):

        def of(params: PyTree) -> PyTree:
            for group, patterns in groups:
                _check_patterns(group, patterns, params)
            return labels(params, [(pattern, group) for group, patterns in groups for pattern in patterns], "train")

        # A group that is not asked for is not there: its count would run without parameters.
        each = {"train": chain, "frozen": optax.set_to_zero(), "apart": chain}
        chain = optax.partition(
            {name: each[name] for name in ("train", *(g for g, patterns in groups if patterns))}, of
        )
    return _slowed(chain, slower) if slower else chain


def _check_patterns(group: str, patterns: Sequence[str], params: PyTree) -> None:
    names = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise UserError(f"{group} pattern {pattern!r} fits no parameter, such as {names[0]}")


def _slowed(inner: optax.GradientTransformation, rules: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Updates times the factor of the first rule whose pattern is found in their path; the state is that of `inner`."""
    if wrong := [rule for rule in rules if not rule[1] > 0]:
        raise UserError(f"slower has {wrong[0]}: expected a factor above 0; use frozen for what should not move")

    def init(params: PyTree) -> PyTree:
        _check_patterns("slower", [pattern for pattern, _ in rules], params)
        return inner.init(params)

    def scaled(path: Sequence[Any], update: jax.Array) -> jax.Array:
        name = path_of(path)
        return update * next((factor for pattern, factor in rules if re.search(pattern, name)), 1.0)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        updates, state = inner.update(updates, state, params)
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def carry(earlier: PyTree, fresh: PyTree) -> PyTree:
    """A fresh optimizer state with every leaf of an earlier one that has the same place and shape.

    Between a phase with `frozen` patterns and one with the same patterns `apart`, these are the moments and counts of
    what was trained in both.
    """
    known = {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(earlier)}

    def pick(path: Sequence[Any], leaf: Any) -> Any:
        old = known.get(path_of(path))
        return leaf if old is None or old.shape != leaf.shape else old

    return jax.tree_util.tree_map_with_path(pick, fresh)


def sound(new: State, scalars: Scalars) -> jax.Array:
    """Whether a step may be kept, () bool: its scalars and all that it has moved, of every network, are finite.

    A loss alone does not tell: a gradient that is not finite shows in the loss of the next step, and that of one player
    may never show in the other's. `evals`, which no step moves, begins at infinity.
    """
    moved = jax.tree.leaves((scalars, new.params, new.stats, new.opt, new.ema))
    return jnp.stack([jnp.isfinite(x).all() for x in moved if jnp.issubdtype(x.dtype, jnp.inexact)]).all()


def averages(earlier: State, fresh: State) -> dict[str, PyTree]:
    """The averages that a fresh state goes on with: an earlier one's, or, where it kept none, those of its weights."""

    def begun(name: str) -> PyTree:
        weights = earlier.params[name]
        whole = "params" in fresh.ema[name]  # a GAN's hold the statistics too
        return {"params": weights, **earlier.stats[name]} if whole else weights

    return {name: earlier.ema[name] if name in earlier.ema else begun(name) for name in fresh.ema}


class Plateau(NamedTuple):
    """When a stalled validation loss lowers the learning rate, as torch's ReduceLROnPlateau with threshold 0.

    Attributes:
      patience: evaluations in a row without a better loss before the rate is lowered; 0 is off.
      factor: of the rate.
    """

    patience: int = 0
    factor: float = 0.1

    def update(self, evals: dict[str, jax.Array], loss: float) -> dict[str, jax.Array]:
        """`best_loss`, `bad_evals` and `lr_scale` after an evaluation; a loss that is not finite is no better one."""
        best, bad, scale = (evals[name] for name in ("best_loss", "bad_evals", "lr_scale"))
        better = jnp.float32(loss) < best
        bad = jnp.where(better, 0, bad + 1)
        lower = (bad >= self.patience) & (self.patience > 0)
        return {
            **evals,
            "best_loss": jnp.where(better, jnp.float32(loss), best),
            "bad_evals": jnp.where(lower, 0, bad).astype(jnp.int32),
            "lr_scale": jnp.where(lower, scale * self.factor, scale).astype(jnp.float32),
        }


def plateau(config: Any) -> Plateau:
    """The plateau rule of an optimizer config; off unless its `schedule` is `plateau`."""
    return Plateau(config.patience, config.factor) if config.schedule == "plateau" else Plateau()


def update_ema(ema: PyTree, params: PyTree, step: jax.Array, decay: float) -> PyTree:
    """ema + (1 - d)(params - ema) with d = min(decay, (1 + n) / (10 + n)), a warm-up that forgets the random start."""
    n = jnp.asarray(step, jnp.float32)
    d = jnp.minimum(decay, (1 + n) / (10 + n))
    return jax.tree.map(lambda e, p: e + (1 - d) * (p - e), ema, params)
