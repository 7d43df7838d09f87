"""Denoising diffusion of films: noise (or v) prediction with a plain mean squared error, and a moving average."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxrjax import models
from cxrjax.errors import lookup
from cxrjax.ops import diffusion, losses
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task, UserError


class Options(NamedTuple):
    """What `step` needs beside the network and the schedule.

    Attributes:
      prediction: `epsilon` or `v`.
      t_max: times are drawn from 1 ... t_max; only those up to the largest lambda are ever needed.
      ema: decay of the moving average that samples.
    """

    prediction: diffusion.Prediction = "epsilon"
    t_max: int = 1000
    ema: float = 0.9999


def _loss(
    net: nn.Module, schedule: diffusion.Schedule, options: Options, params: PyTree, x0: Array, t: Array, key: Key,
    train: bool,
) -> Array:  # fmt: skip
    """Mean squared error per film, (b,)."""
    noise_key, dropout_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, x0.shape)
    x = diffusion.q_sample(schedule, x0, t, noise)
    output, _ = net.apply({"params": params}, x, t - 1, train=train, rngs={"dropout": dropout_key})
    return jnp.square(output - diffusion.target(schedule, x0, t, noise, options.prediction)).mean(axis=(1, 2, 3))


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

    def objective(params: PyTree) -> Array:
        return losses.weighted_mean(_loss(net, schedule, options, params, x0, t, noise_key, True), batch.valid)

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
    """Rows of the moving average's loss (b, 4) at four times spread over 1 ... t_max, the same at every evaluation."""
    x0 = 2.0 * batch.image - 1.0
    at = jnp.asarray([max((2 * i + 1) * options.t_max // 8, 1) for i in range(4)], jnp.int32)

    def one(t: Array, k: Key) -> Array:
        return _loss(net, schedule, options, state.ema["unet"], x0, jnp.full(x0.shape[:1], t), k, False)

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
    net: nn.Module, schedule: diffusion.Schedule, prediction: diffusion.Prediction, params: PyTree
) -> Callable[[Array, Array], Array]:
    """`(x, index) -> epsilon` of a trained network, as `ops.guidance.treat` wants it."""

    def epsilon(x: Array, index: Array) -> Array:
        output, _ = net.apply({"params": params}, x, index, train=False)
        return diffusion.to_epsilon(schedule, x, index + 1, output, prediction)

    return epsilon


def schedule_of(config: Any) -> diffusion.Schedule:
    """The phase's noise schedule."""
    return lookup(diffusion.SCHEDULES, config.schedule, "the noise schedule")(config.num_timesteps)


def make(config: Any) -> Task:
    """Binds a phase's configuration: `net`, `optim`, `steps`, `schedule`, `num_timesteps`, `prediction`, `t_max`."""
    net, tx, schedule = network(config), optim.make(config.optim, config.steps), schedule_of(config)
    if config.prediction not in get_args(diffusion.Prediction):
        raise UserError(f"prediction is {config.prediction!r}: expected epsilon or v")
    options = Options(config.prediction, config.t_max or config.num_timesteps, config.ema)
    return Task(
        init=partial(init, net, tx),
        step=partial(step, net, tx, schedule, options),
        predict=partial(predict, net, schedule, options),
        summarize=summarize,
        on_eval=on_eval,
    )
