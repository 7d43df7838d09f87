"""Denoising diffusion of films: noise (or v) prediction with a plain mean squared error, and a moving average.

A network is told one time a film, or, for the guidance mode `per_pixel_time`, a map of times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxrjax import models
from cxrjax.errors import UserError, lookup
from cxrjax.ops import diffusion, losses, simplex, timemap
from cxrjax.ops import noise as noises
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task

TIMES = ("scalar", "map")


class Options(NamedTuple):
    """What `step` needs beside the network and the schedule.

    Attributes:
      prediction: `epsilon` or `v`.
      t_max: times are drawn from 1 ... t_max; only those up to the largest lambda are ever needed.
      ema: decay of the moving average that samples.
      noise: what is added to films.
      time: `scalar`, or `map`: the drawn time is multiplied by a random map of blobs, and the loss is taken where the
        product is above 0 (RAD: Kim et al. 2025).
      drop: share of films whose class is not told, of a network that is told classes (Ho and Salimans 2022).
    """

    prediction: diffusion.Prediction = "epsilon"
    t_max: int = 1000
    ema: float = 0.9999
    noise: noises.Draw = noises.gaussian
    time: str = "scalar"
    drop: float = 0.35


_DROP = 7  # folded into a step's key, so that what is told changes no other draw


def told(classes: int, label: Array, drop: float = 0.0, key: Key | None = None) -> Array:
    """The class (b,) int32 that a network is told of films of one-hot labels (b, k): `classes` where it is not said.

    That is where a label is unknown, and where, of a share `drop` of films, it is left out by chance.
    """
    known = jnp.isfinite(label).all(axis=-1) & (label.sum(axis=-1) == 1)
    if drop and key is not None:
        known &= ~jax.random.bernoulli(key, drop, known.shape)
    return jnp.where(known, jnp.nan_to_num(label).argmax(axis=-1), classes).astype(jnp.int32)


def _classes(net: nn.Module) -> int:
    return int(getattr(net, "told", 0))


def _loss(
    net: nn.Module, schedule: diffusion.Schedule, options: Options, params: PyTree, x0: Array, t: Array, key: Key,
    train: bool, index: Array | None = None, label: Array | None = None,
) -> Array:  # fmt: skip
    """Mean squared error per film, (b,); with `index` (b,) a film's noise is its own, whatever batch it comes in."""
    noise_key, dropout_key, map_key = jax.random.split(key, 3)
    b, shape = x0.shape[0], x0.shape[1:]

    def each(key: Key) -> Key:
        return jax.random.split(key, b) if index is None else jax.vmap(partial(jax.random.fold_in, key))(index)

    noise = noises.draw(options.noise, each(noise_key), t, shape)
    counts = jnp.ones(x0.shape)
    if options.time == "map":
        maps = jax.vmap(partial(timemap.blobs, shape=shape[:2]))(each(map_key))  # (b, h, w)
        t = jnp.round(t[:, None, None] * maps).astype(jnp.int32)
        counts = jnp.broadcast_to((t > 0)[..., None], x0.shape).astype(x0.dtype)
    x = diffusion.q_sample(schedule, x0, t, noise)
    said: dict[str, Any] = {} if label is None else {"label": label}
    output, _ = net.apply({"params": params}, x, t - 1, train=train, rngs={"dropout": dropout_key}, **said)
    error = jnp.square(output - diffusion.target(schedule, x0, t, noise, options.prediction))
    return (counts * error).sum(axis=(1, 2, 3)) / jnp.maximum(counts.sum(axis=(1, 2, 3)), 1.0)


def step(
    net: nn.Module,
    tx: optax.GradientTransformation,
    schedule: diffusion.Schedule,
    options: Options,
    state: State,
    batch: Batch,
    key: Key,
) -> tuple[State, Scalars]:
    """One optimizer step on a batch of films (Ho et al. 2020, algorithm 1)."""
    time_key, noise_key = jax.random.split(key)
    x0 = 2.0 * batch.image - 1.0
    t = jax.random.randint(time_key, x0.shape[:1], 1, options.t_max + 1)
    label = None
    if classes := _classes(net):
        label = told(classes, batch.label, options.drop, jax.random.fold_in(key, _DROP))

    def objective(params: PyTree) -> Array:
        each = _loss(net, schedule, options, params, x0, t, noise_key, True, None, label)
        return losses.weighted_mean(each, batch.valid)

    params = state.params["unet"]
    loss, grads = jax.value_and_grad(objective)(params)
    updates, opt = tx.update(grads, state.opt["unet"], params)
    params = optax.apply_updates(params, updates)
    new = dataclasses.replace(
        state,
        step=state.step + 1,
        params={"unet": params},
        opt={"unet": opt},
        ema={"unet": optim.update_ema(state.ema["unet"], params, state.step, options.ema)},
    )
    return new, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def predict(
    net: nn.Module, schedule: diffusion.Schedule, options: Options, state: State, batch: Batch, key: Key
) -> dict[str, Array]:
    """Rows of the moving average's loss (b, 4) at four times spread over 1 ... t_max, every known class told.

    A film's noise follows from its index: it is the same at every evaluation, in any batch and on any devices.
    """
    x0 = 2.0 * batch.image - 1.0
    label = told(classes, batch.label) if (classes := _classes(net)) else None
    at = jnp.asarray([max((2 * i + 1) * options.t_max // 8, 1) for i in range(4)], jnp.int32)

    def one(t: Array, k: Key) -> Array:
        at = jnp.full(x0.shape[:1], t)
        return _loss(net, schedule, options, state.ema["unet"], x0, at, k, False, batch.index, label)

    # In turn: four times the batch at once would not fit where the batch just does.
    losses = jax.lax.map(lambda tk: one(*tk), (at, jax.random.split(key, 4)))  # (4, b)
    return {"loss": losses.T}


def summarize(rows: Rows) -> dict[str, float]:
    """Mean loss over films and times."""
    return {"loss": float(rows["loss"].mean(dtype=np.float64))}


def on_eval(state: State, summary: Mapping[str, float]) -> State:
    """Remembers the best validation loss."""
    best = jnp.fmin(state.evals["best_loss"], jnp.float32(summary["loss"]))
    return dataclasses.replace(state, evals={**state.evals, "best_loss": best})


def init(net: nn.Module, tx: optax.GradientTransformation, key: Key, batch: Batch) -> State:
    """A fresh state for films of the batch's shape."""
    image = jnp.asarray(batch.image)
    params = net.init(key, image, jnp.zeros(image.shape[:1], jnp.int32), train=False)["params"]
    return State(
        step=jnp.int32(0),
        params={"unet": params},
        stats={},
        opt={"unet": tx.init(params)},
        ema={"unet": jax.tree.map(jnp.copy, params)},  # a copy: the step is donated both
        frozen={},
        evals={"best_loss": jnp.float32(jnp.inf)},
    )


def network(config: Any) -> nn.Module:
    """The phase's U-Net, `config.net.name` with the other keys of `config.net` as options."""
    options = dict(config.net)
    return models.build(options.pop("name"), **options)


def noise_predictor(
    net: nn.Module,
    schedule: diffusion.Schedule,
    prediction: diffusion.Prediction,
    params: PyTree,
    time: str = "scalar",
    label: int | None = None,
) -> Callable[[Array, Array], Array]:
    """`(x, index) -> epsilon` of a trained network, as `ops.guidance.treat` wants it.

    Args:
      net, schedule, prediction, params: of a finished phase.
      time: what the network was trained to be told.
      label: the class that it is told, of a network that is; None tells none.

    Raises:
      UserError: when called with the other kind of time, whose answer would be wrong without a sign of it.
    """

    def epsilon(x: Array, index: Array) -> Array:
        asked = "map" if index.ndim > 1 else "scalar"
        if asked != time:
            raise UserError(
                f"this diffusion was trained with time = {time!r} and is asked with {asked!r}: per_pixel_time needs a "
                "phase with time = 'map', every other mode one with 'scalar'"
            )
        said: dict[str, Any] = {} if label is None else {"label": jnp.full(x.shape[:1], label)}
        output, _ = net.apply({"params": params}, x, index, train=False, **said)
        return diffusion.to_epsilon(schedule, x, index + 1, output, prediction)

    return epsilon


def schedule_of(config: Any) -> diffusion.Schedule:
    """The phase's noise schedule."""
    return lookup(diffusion.SCHEDULES, config.schedule, "the noise schedule")(config.num_timesteps)


def longest(config: Any) -> int:
    """The largest time that the phase is trained for.

    Raises:
      UserError: the schedule has no such time.
    """
    if not 0 <= config.t_max <= config.num_timesteps:
        raise UserError(
            f"t_max = {config.t_max}: expected 1 ... {config.num_timesteps}, the times of num_timesteps, or 0 for all"
        )
    return config.t_max or config.num_timesteps


def noise_of(config: Any) -> noises.Draw:
    """The phase's noise."""
    return noises.of(config.noise, config.simplex)


def notes(config: Any, phase: str) -> list[str]:
    """What a phase's page should warn of: octaves of simplex noise that pixels cannot show."""
    octaves = config.simplex.octaves
    seen = simplex.octaves_seen(config.simplex.wavelength, octaves) if config.noise == "simplex" else octaves
    if seen == octaves:
        return []
    shortest = config.simplex.wavelength / 2 ** (octaves - 1)
    return [
        f"{phase}: the simplex noise has {octaves} octaves, the shortest of {shortest:g} pixels, of which {seen} are "
        f"of the 2 pixels or more that a film can show: set {phase}.simplex.octaves to fewer, or a longer wavelength."
    ]


def make(config: Any, classes: Sequence[str] = ()) -> Task:
    """Binds a phase's configuration: `net`, `optim`, `steps`, `schedule`, `num_timesteps`, and the keys of `Options`.

    `classes` are those of the films' labels, which a network with `net.told` is told.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    net, tx, schedule = network(config), optim.make(config.optim, config.steps), schedule_of(config)
    if config.prediction not in get_args(diffusion.Prediction):
        raise UserError(f"prediction is {config.prediction!r}: expected epsilon or v")
    lookup(dict.fromkeys(TIMES), config.time, "time")
    if known := _classes(net):
        if classes and known != len(classes):
            raise UserError(f"net.told = {known}: expected {len(classes)}, one a class of {', '.join(classes)}, or 0")
        if config.only:
            raise UserError(f"net.told = {known} with only = {config.only!r}: a network that is told classes must see "
                            "films of all; set only to ''")  # fmt: skip
        if not 0 < config.drop < 1:
            raise UserError(
                f"drop = {config.drop}: expected a share between 0 and 1, or guidance has no second network"
            )
    options = Options(config.prediction, longest(config), config.ema, noise_of(config), config.time, config.drop)
    return Task(
        init=partial(init, net, tx),
        step=partial(step, net, tx, schedule, options),
        predict=partial(predict, net, schedule, options),
        summarize=summarize,
        on_eval=on_eval,
    )
