"""Whose film is it: embeddings in which films of one patient lie together, by a contrastive loss on pairs of films.

A batch holds pairs, image (b, h, w, 2); each pair is of another patient. A classifier network's logits are the
embedding, at unit length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.metrics import identity
from cxrjax.ops import augment, losses
from cxrjax.tasks import classify
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task


class Options(NamedTuple):
    """What `step` needs beside the network.

    Attributes:
      temperature: of the loss.
      seen: how films are varied in training, and shown to the network.
    """

    temperature: float = 0.1
    seen: classify.Options = classify.Options()


def embed(net: nn.Module, options: Options, variables: PyTree, image: Array) -> Array:
    """Embeddings (b, d) float32 of unit length of films (b, h, w, 1) in [0, 1]."""
    return unit(net.apply(variables, classify.shown(options.seen, image), train=False)[0])


def unit(x: Array) -> Array:
    """Rows (b, d) at length 1."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-12)


def step(
    net: nn.Module, tx: optax.GradientTransformation, options: Options, state: State, batch: Batch, key: Key
) -> tuple[State, Scalars]:
    """One optimizer step on a batch of pairs, each film varied by its own draw."""
    augment_key, dropout_key = jax.random.split(key)
    b = len(batch.image)
    films = jnp.concatenate([batch.image[..., :1], batch.image[..., 1:]])  # (2b, h, w, 1)
    number = jnp.concatenate([2 * batch.index, 2 * batch.index + 1])
    x = classify.shown(options.seen, augment.vary(options.seen.ranges, augment_key, films, number))

    def loss_of(params: PyTree) -> tuple[Array, PyTree]:
        (out, _), changed = net.apply(
            {"params": params, **state.stats["net"]}, x, train=True, mutable=list(state.stats["net"]),
            rngs={"dropout": dropout_key},
        )  # fmt: skip
        found = unit(out)
        return losses.nt_xent(found[:b], found[b:], batch.valid, options.temperature), changed

    params = state.params["net"]
    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt = tx.update(grads, state.opt["net"], params)
    new = dataclasses.replace(
        state, step=state.step + 1, params={"net": optax.apply_updates(params, updates)}, stats={"net": stats},
        opt={"net": opt},
    )  # fmt: skip
    return new, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def variables_of(state: State) -> PyTree:
    """The weights that embed, and the statistics."""
    return {"params": state.params["net"], **state.stats["net"]}


def predict(net: nn.Module, options: Options, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """Rows of the embeddings of each pair, `first` and `second` (b, d)."""
    del key
    one, other = (embed(net, options, variables_of(state), batch.image[..., i : i + 1]) for i in (0, 1))
    return {"first": one, "second": other}


def summarize(options: Options, rows: Rows) -> dict[str, float]:
    """The loss over all pairs at once, and the AUROC of pairs of one patient against pairs of two."""
    one, other = rows["first"], rows["second"]
    loss = losses.nt_xent(jnp.asarray(one), jnp.asarray(other), jnp.ones(len(one)), options.temperature)
    return {"loss": float(loss), "auroc": identity.verification(identity.similarity(one, other))}


def on_eval(state: State, summary: Mapping[str, float]) -> State:
    """Remembers the best validation loss."""
    best = jnp.fmin(state.evals["best_loss"], np.float32(summary["loss"]))
    return dataclasses.replace(state, evals={"best_loss": best})


def init(net: nn.Module, tx: optax.GradientTransformation, options: Options, key: Key, batch: Batch) -> State:
    """A fresh state for films of the batch's side."""
    first = dataclasses.replace(batch, image=jnp.asarray(batch.image)[..., :1])
    fresh = classify.init(net, tx, options.seen, key, first)
    return dataclasses.replace(fresh, evals={"best_loss": jnp.float32(jnp.inf)})


def options_of(config: Any) -> Options:
    """A phase's options.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    ranges = augment.Ranges(**{name: config[name] for name in augment.Ranges._fields if name in config})
    if not config.temperature > 0:
        raise UserError(f"temperature = {config.temperature}: expected a number above 0")
    seen = classify.Options(normalize=config.normalize, input_size=config.input_size, ranges=ranges)
    return Options(config.temperature, seen)


def network(config: Any) -> nn.Module:
    """The phase's network: `config.net`, with as many outputs as the embedding is wide."""
    options = dict(config.net)
    return models.build(options.pop("name"), num_classes=config.width, **options)


def make(config: Any) -> Task:
    """Binds a phase's configuration: `net`, `width`, `optim`, `steps`, and the fields of `Options`."""
    net, tx, options = network(config), optim.make(config.optim, config.steps), options_of(config)
    return Task(
        init=partial(init, net, tx, options), step=partial(step, net, tx, options),
        predict=partial(predict, net, options), summarize=partial(summarize, options), on_eval=on_eval,
    )  # fmt: skip
