"""Classification: one network, softmax or sigmoid cross-entropy, optional warps of the ETRI study."""

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
from cxrjax.errors import lookup
from cxrjax.metrics import classification
from cxrjax.ops import cam, losses, warp
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task


class Options(NamedTuple):
    """What `step` needs beside the network.

    Attributes:
      loss: `softmax` (exclusive classes) or `sigmoid`.
      class_weight: (k,) weights (of the class, or of the positives under `sigmoid`); empty for none.
      warp: how many of the six augmentations each training film gets; 0 for none.
      optical_limit: bound of the optical distortion.
      noise: largest standard deviation of the Gaussian noise added to a training film; 0 for none.
      blur: pixels; each training film is mixed with its Gaussian blur of this width, in a random share; 0 for none. A
        judge of generated films must not take a smoothed lesion for a healed one.
    """

    loss: str = "softmax"
    class_weight: tuple[float, ...] = ()
    warp: int = 0
    optical_limit: float = 2.0
    noise: float = 0.0
    blur: float = 0.0


def normalize(image: Array) -> Array:
    """[0, 1] to about zero mean and unit variance on chest films."""
    return (image - 0.5) / 0.25


def augment(options: Options, key: Key, image: Array) -> Array:
    """The ETRI study's "randomly select 4", then blur and noise of a random strength per film."""
    warp_key, blur_key, strength_key, noise_key = jax.random.split(key, 4)
    if options.warp:
        image = warp.some_of(
            warp_key, image, n=options.warp, amounts=warp.TUTORIAL._replace(optical_limit=options.optical_limit)
        )
    if options.blur:
        share = jax.random.uniform(blur_key, (image.shape[0], 1, 1, 1))
        image = image + share * (cam.blur(image[..., 0], options.blur)[..., None] - image)
    if options.noise:
        strength = options.noise * jax.random.uniform(strength_key, (image.shape[0], 1, 1, 1))
        image = image + strength * jax.random.normal(noise_key, image.shape)
    return image


def step(
    net: nn.Module,
    tx: optax.GradientTransformation,
    options: Options,
    state: State,
    batch: Batch,
    key: Key,
) -> tuple[State, Scalars]:
    """One optimizer step on a batch of films."""
    augment_key, dropout_key = jax.random.split(key)
    x = normalize(augment(options, augment_key, batch.image))
    weight = jnp.asarray(options.class_weight) if options.class_weight else None

    def objective(params: PyTree) -> tuple[Array, tuple[PyTree, Array]]:
        (logits, _), changed = net.apply(
            {"params": params, **state.stats["net"]},
            x,
            train=True,
            mutable=list(state.stats["net"]),
            rngs={"dropout": dropout_key},
        )
        return losses.LOSSES[options.loss](logits, batch.label, batch.valid, weight), (changed, logits)

    params = state.params["net"]
    (loss, (stats, _)), grads = jax.value_and_grad(objective, has_aux=True)(params)
    updates, opt = tx.update(grads, state.opt["net"], params)
    new = dataclasses.replace(
        state,
        step=state.step + 1,
        params={"net": optax.apply_updates(params, updates)},
        stats={"net": stats},
        opt={"net": opt},
    )
    return new, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def predict(net: nn.Module, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """Rows of logits (b, k) and labels (b, k)."""
    del key
    logits, _ = net.apply({"params": state.params["net"], **state.stats["net"]}, normalize(batch.image), train=False)
    return {"logits": logits, "label": batch.label}


def scores(options: Options, logits: np.ndarray) -> np.ndarray:
    """Logits -> probabilities (n, k) in float64, on the host."""
    logits = logits.astype(np.float64)
    if options.loss == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def summarize(options: Options, rows: Rows) -> dict[str, float]:
    """Loss, mean AUROC over the classes that have both labels, and accuracy for exclusive classes."""
    label = rows["label"]
    valid = jnp.ones(len(label), jnp.float32)
    out = {"loss": float(losses.LOSSES[options.loss](jnp.asarray(rows["logits"]), jnp.asarray(label), valid))}
    probability = scores(options, rows["logits"])
    per_class = np.asarray(classification.auroc_per_class(label, probability))
    out["auroc"] = float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")
    if options.loss == "softmax":
        known = ~np.isnan(label).any(axis=1)
        out["accuracy"] = classification.accuracy(label[known].argmax(axis=1), probability[known].argmax(axis=1))
    return out


def on_eval(state: State, summary: Mapping[str, float]) -> State:
    """Remembers the best validation loss."""
    best = jnp.fmin(state.evals["best_loss"], jnp.float32(summary["loss"]))
    return dataclasses.replace(state, evals={**state.evals, "best_loss": best})


def init(net: nn.Module, tx: optax.GradientTransformation, key: Key, batch: Batch) -> State:
    """A fresh state for films of the batch's shape."""
    variables = dict(net.init(key, normalize(jnp.asarray(batch.image)), train=False))
    params = variables.pop("params")
    return State(
        step=jnp.int32(0),
        params={"net": params},
        stats={"net": variables},
        opt={"net": tx.init(params)},
        ema={},
        frozen={},
        evals={"best_loss": jnp.float32(jnp.inf)},
    )


def options_of(config: Any) -> Options:
    """A phase's options, from its `loss`, `class_weight`, `warp`, `optical_limit`, `noise` and `blur`."""
    lookup(losses.LOSSES, config.loss, "the classification loss")
    return Options(
        loss=config.loss,
        class_weight=tuple(config.class_weight),
        warp=config.warp,
        optical_limit=config.optical_limit,
        noise=config.noise,
        blur=config.blur,
    )


def network(config: Any, num_classes: int) -> nn.Module:
    """The phase's network, `config.net.name` with the other keys of `config.net` as options."""
    options = dict(config.net)
    return models.build(options.pop("name"), num_classes=num_classes, **options)


def make(config: Any, num_classes: int) -> Task:
    """Binds a phase's configuration: `net`, `optim`, `steps`, and the fields of `Options`."""
    net, tx, options = network(config, num_classes), optim.make(config.optim, config.steps), options_of(config)
    return Task(
        init=partial(init, net, tx),
        step=partial(step, net, tx, options),
        predict=partial(predict, net),
        summarize=partial(summarize, options),
        on_eval=on_eval,
    )
