"""Any task in the latent space of a trained autoencoder: its films are latents, scaled to unit variance.

`state.frozen["autoencoder"]` holds the autoencoder's parameters, which the task reads and never changes, and
`state.stats["latent"]["scale"]` the one factor that gives latents unit variance: 1 / std over the first batch (Rombach
et al. 2022, appendix G). It is 0 until that batch has come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.ops import augment
from cxrjax.ops.losses import weighted_mean
from cxrjax.tasks import autoencoder, classify
from cxrjax.types import Array, Batch, Key, PyTree, Scalars, State, Task

CODEC, STATS = "autoencoder", "latent"  # what is added to a state's `frozen` and `stats`


def to_latent(net: models.Autoencoder, params: PyTree, scale: Array, image: Array) -> Array:
    """Films (b, h, w, 1) in [0, 1] -> scaled latents (b, h / f, w / f, c): the mean of each film's, times `scale`."""
    return autoencoder.encode(net, params, image) * scale


def from_latent(net: models.Autoencoder, params: PyTree, scale: Array, z: Array) -> Array:
    """Scaled latents (b, h / f, w / f, c) -> films (b, h, w, 1) in [0, 1]: they are divided by `scale` first."""
    return autoencoder.decode(net, params, z / scale)


def unit_scale(z: Array, valid: Array) -> Array:
    """1 / std of latents (b, h, w, c) over everything, () float32; films of weight 0 have no share."""
    mean = weighted_mean(z.mean(axis=(1, 2, 3)), valid)
    return 1.0 / jnp.sqrt(weighted_mean(jnp.square(z - mean).mean(axis=(1, 2, 3)), valid))


def _inside(net: models.Autoencoder, state: State, batch: Batch) -> tuple[State, Batch, Array]:
    """The inner task's own state, the batch in latent space, and the scale, measured where it has not been."""
    z = autoencoder.encode(net, state.frozen[CODEC], batch.image)
    scale = state.stats[STATS]["scale"]
    scale = jnp.where(scale > 0, scale, unit_scale(z, batch.valid))
    # Tasks map films from [0, 1] to [-1, 1]: what they see is z times scale.
    return _own(state), dataclasses.replace(batch, image=0.5 * (z * scale + 1.0)), scale


def _own(state: State) -> State:
    stats = {name: value for name, value in state.stats.items() if name != STATS}
    frozen = {name: value for name, value in state.frozen.items() if name != CODEC}
    return dataclasses.replace(state, stats=stats, frozen=frozen)


def _outside(inner: State, params: PyTree, scale: Array) -> State:
    """The inner task's state with the autoencoder and the scale."""
    stats, frozen = {**inner.stats, STATS: {"scale": scale}}, {**inner.frozen, CODEC: params}
    return dataclasses.replace(inner, stats=stats, frozen=frozen)


def init(inner: Task, net: models.Autoencoder, key: Key, batch: Batch) -> State:
    """A fresh inner state for the latents of films of the batch's shape; the autoencoder is fresh until replaced."""
    image = jnp.asarray(batch.image)
    blank = jnp.zeros(net.latent_shape(image.shape))
    params = net.init(key, image, blank)["params"]
    state = inner.init(key, dataclasses.replace(batch, image=blank + 0.5))
    return _outside(state, params, jnp.float32(0))


def step(inner: Task, net: models.Autoencoder, state: State, batch: Batch, key: Key) -> tuple[State, Scalars]:
    """The inner task's step on latents; the first one sets the scale."""
    own, latents, scale = _inside(net, state, batch)
    new, scalars = inner.step(own, latents, key)
    return _outside(new, state.frozen[CODEC], scale), scalars


def predict(inner: Task, net: models.Autoencoder, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """The inner task's rows of latents."""
    own, latents, _ = _inside(net, state, batch)
    return inner.predict(own, latents, key)


def wrap(inner: Task, net: models.Autoencoder) -> Task:
    """The task `inner` on latents: its films are (b, h / f, w / f, c), 0.5 (z scale + 1) where z is a film's latent.

    Args:
      inner: maps its films to 2 film - 1, as a diffusion does, so that it works on z scale.
      net: the autoencoder.
    """
    return inner._replace(init=partial(init, inner, net), step=partial(step, inner, net),
                          predict=partial(predict, inner, net))  # fmt: skip


def make(config: Any, inner: Task) -> Task:
    """`inner` in the latent space of the phase configuration `config.autoencoder`."""
    return wrap(inner, autoencoder.network(config.autoencoder))


def classifier(config: Any, classes: Sequence[str]) -> Task:
    """A classifier of latents.

    Raises:
      UserError: an option that means something for films alone.
    """
    if config.normalize != "symmetric":
        raise UserError(f"normalize = {config.normalize!r}: latents need 'symmetric', which returns them as they are")
    for name in (*augment.Ranges._fields, "border", "tta"):
        if config[name] and name not in ("noise", "optical_limit"):
            raise UserError(f"{name} = {config[name]}: it is for films, not for latents; leave it at its default")
    if config.input != "cxr" or config.channels != 1:
        raise UserError("a classifier of latents takes them as they are: set input = 'cxr' and channels = 1")
    return make(config, classify.make(config, len(classes)))
