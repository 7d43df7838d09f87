"""The KL autoencoder of latent diffusion: reconstruction, a perceptual and an adversarial term, and a slight KL term.

The recipe is that of Pinaya et al. 2023 for chest films. What they measure with a network of photographs is measured
here with a classifier of films, that of an earlier phase, which `state.frozen` holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.ops import adversarial
from cxrjax.ops.losses import weighted_mean
from cxrjax.tasks import classify
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task

LOSS = adversarial.ADVERSARIAL["least_squares"]
UNIT = 1e-6  # under the root of a position's squared length, so that a position of zeros has a gradient


class Options(NamedTuple):
    """What a step needs beside the networks: the weight of each term, that of L1 being 1.

    Attributes:
      perceptual: of the distance of features; 0 needs no classifier.
      adversarial: of half the squared distance of the patches' scores from 1. The published code leaves out the half:
        its 0.005 is 0.01 here.
      kl: of the KL divergence, summed over a film's latent.
      adversarial_from: step from which the adversarial term takes part; the discriminator trains from the first.
      ema: decay of the moving average that predicts; 0 for the weights themselves.
    """

    perceptual: float = 0.002
    adversarial: float = 0.005
    kl: float = 1e-8
    adversarial_from: int = 0
    ema: float = 0.0


class Networks(NamedTuple):
    """The networks and their optimizers.

    Attributes:
      net: the autoencoder.
      patch: its discriminator.
      tx: optimizers, by the names in `State.params`.
      classifier: the one whose features the perceptual term compares; None for none.
      shown: how the classifier is shown films.
    """

    net: models.Autoencoder
    patch: nn.Module
    tx: dict[str, optax.GradientTransformation]
    classifier: nn.Module | None = None
    shown: classify.Options = classify.Options()


def kl_divergence(mean: Array, logvar: Array) -> Array:
    """KL of N(mean, exp logvar) from N(0, 1), summed over the latent, in nats (Kingma and Welling 2014, appendix B).

    (b, h, w, c), (b, h, w, c) -> (b,).
    """
    return 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar).sum(axis=(1, 2, 3))


def feature_distance(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
    """How far apart two films' feature maps are: LPIPS without its learned weights (Zhang et al. 2018, eq. 1).

    At every position the channels become a vector of length 1; the squared distance of two such is averaged over
    positions and summed over maps.

    Args:
      one, other: maps (b, h, w, c) by name, any h, w and c for each name.

    Returns:
      (b,), between 0 and 4 times the number of maps.
    """

    def unit(x: Array) -> Array:
        x = x.astype(jnp.float32)
        return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + UNIT)

    apart = [jnp.square(unit(one[name]) - unit(other[name])).sum(axis=-1).mean(axis=(1, 2)) for name in one]
    return jnp.stack(apart).sum(axis=0)


def features(nets: Networks, variables: PyTree, image: Array) -> dict[str, Array]:
    """The classifier's maps of films (b, h, w, 1) in [0, 1]: its last, `features`, and those of its stages.

    The head, which may want one size of film, is not run.
    """
    x = classify.shown(nets.shown, image)
    last, stages = nets.classifier.apply(variables, x, method=lambda net, x: net.backbone(x, train=False))  # type: ignore[union-attr]
    return {**stages, "features": last}


def _patches(nets: Networks, params: PyTree, x: Array, valid: Array) -> tuple[Array, Array]:
    """The score of every patch and its film's weight, (n,) each."""
    score: Any = nets.patch.apply({"params": params}, x)  # (b, h, w)
    return score.reshape(-1), jnp.broadcast_to(valid[:, None, None], score.shape).reshape(-1)


def step(nets: Networks, options: Options, state: State, batch: Batch, key: Key) -> tuple[State, Scalars]:
    """One update of the autoencoder and, on the same reconstructions, one of the discriminator.

    `l1` is in the films' own units, [0, 1]. `loss` is the autoencoder's, `loss_d` the discriminator's.
    """
    x, valid = 2.0 * batch.image - 1.0, batch.valid
    noise = jax.random.normal(key, nets.net.latent_shape(x.shape))
    late = (state.step >= options.adversarial_from).astype(jnp.float32)
    of_film = features(nets, state.frozen["classifier"], batch.image) if nets.classifier else {}

    def of_autoencoder(params: PyTree) -> tuple[Array, tuple[Scalars, Array]]:
        made, endpoints = nets.net.apply({"params": params}, x, noise, train=True)
        parts = {
            "l1": weighted_mean(0.5 * jnp.abs(made - x).mean(axis=(1, 2, 3)), valid),
            "adversarial": LOSS.fool(*_patches(nets, state.params["patch"], made, valid)),
            "kl": weighted_mean(kl_divergence(endpoints["mean"], endpoints["logvar"]), valid),
        }
        total = parts["l1"] + late * options.adversarial * parts["adversarial"] + options.kl * parts["kl"]
        if nets.classifier:
            of_made = features(nets, state.frozen["classifier"], 0.5 * (made + 1.0))
            parts["perceptual"] = weighted_mean(feature_distance(of_made, of_film), valid)
            total = total + options.perceptual * parts["perceptual"]
        return total, ({"loss": total, **parts}, made)

    def of_patch(params: PyTree, made: Array) -> Array:
        return LOSS.real(*_patches(nets, params, x, valid)) + LOSS.fake(*_patches(nets, params, made, valid))

    params, opt, grads = dict(state.params), dict(state.opt), {}
    (_, (scalars, made)), grads["autoencoder"] = jax.value_and_grad(of_autoencoder, has_aux=True)(params["autoencoder"])
    scalars["loss_d"], grads["patch"] = jax.value_and_grad(of_patch)(params["patch"], made)
    for name in grads:
        updates, opt[name] = nets.tx[name].update(grads[name], opt[name], params[name])
        params[name] = optax.apply_updates(params[name], updates)
    ema = state.ema
    if options.ema:
        average = optim.update_ema(ema["autoencoder"], params["autoencoder"], state.step, options.ema)
        ema = {"autoencoder": average}
    new = dataclasses.replace(state, step=state.step + 1, params=params, opt=opt, ema=ema)
    return new, {**scalars, "grad_norm": optax.tree.norm(grads["autoencoder"])}


def variables_of(state: State) -> PyTree:
    """The parameters that encode and decode: their moving average, where one is kept."""
    return (state.ema or state.params)["autoencoder"]


def encode(net: nn.Module, params: PyTree, image: Array) -> Array:
    """Films (b, h, w, 1) in [0, 1] -> the mean of their latents (b, h / f, w / f, c)."""
    mean: Any = net.apply({"params": params}, 2.0 * image - 1.0, method="encode")[0]
    return mean


def decode(net: nn.Module, params: PyTree, z: Array) -> Array:
    """Latents (b, h / f, w / f, c) -> films (b, h, w, 1), cut off at 0 and 1."""
    x: Any = net.apply({"params": params}, z, method="decode")
    return jnp.clip(0.5 * (x + 1.0), 0.0, 1.0)


def predict(nets: Networks, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """Rows (b,): `l1` and `psnr` in dB of each film's reconstruction from the mean of its latent; the latent's `kl`."""
    del key
    params = variables_of(state)
    posterior: Any = nets.net.apply({"params": params}, 2.0 * batch.image - 1.0, method="encode")
    error = decode(nets.net, params, posterior[0]) - batch.image
    square = jnp.square(error).mean(axis=(1, 2, 3))
    return {
        "l1": jnp.abs(error).mean(axis=(1, 2, 3)),
        "psnr": -10.0 * jnp.log10(jnp.maximum(square, 1e-10)),
        "kl": kl_divergence(*posterior),
    }


def summarize(rows: Rows) -> dict[str, float]:
    """Means over films; `loss` is `l1`."""
    out = {name: float(rows[name].mean(dtype=np.float64)) for name in ("l1", "psnr", "kl")}
    return {"loss": out["l1"], **out}


def on_eval(state: State, summary: Mapping[str, float]) -> State:
    """Remembers the best L1 of an evaluation."""
    best = jnp.fmin(state.evals["best_l1"], jnp.float32(summary["l1"]))
    return dataclasses.replace(state, evals={**state.evals, "best_l1": best})


def init(nets: Networks, options: Options, key: Key, batch: Batch) -> State:
    """A fresh state for films of the batch's shape; its classifier, too, is fresh, until it is replaced."""
    keys = jax.random.split(key, 3)
    image = jnp.asarray(batch.image)
    params = {
        "autoencoder": nets.net.init(keys[0], image, jnp.zeros(nets.net.latent_shape(image.shape)))["params"],
        "patch": nets.patch.init(keys[1], image)["params"],
    }
    frozen = {}
    if nets.classifier:
        x = classify.shown(nets.shown, classify.middle(nets.shown, image))
        frozen["classifier"] = dict(nets.classifier.init({"params": keys[2], "dropout": keys[2]}, x, train=True))
    return State(
        step=jnp.int32(0),
        params=params,
        stats={},
        opt={name: nets.tx[name].init(params[name]) for name in params},
        ema={"autoencoder": jax.tree.map(jnp.copy, params["autoencoder"])} if options.ema else {},
        frozen=frozen,
        evals={"best_l1": jnp.float32(jnp.inf)},
    )


def network(config: Any) -> models.Autoencoder:
    """The phase's autoencoder, `config.net.name` with the other keys of `config.net` as options."""
    return models.build_autoencoder(**config.net)[0]


def make(config: Any, classes: Sequence[str]) -> Task:
    """Binds a phase's configuration: `net`, `optim`, `optim_d`, `steps`, `classifier`, and the fields of `Options`.

    Args:
      config: of the phase; its `classifier` is the whole configuration of a classification phase, and is not read where
        `perceptual` is 0.
      classes: of that classifier.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    options = Options(**{name: config[name] for name in Options._fields if name in config})
    for name in ("perceptual", "adversarial", "kl"):
        if getattr(options, name) < 0:
            raise UserError(f"{name} = {getattr(options, name)}: expected the weight of a loss, at least 0")
    net, patch = models.build_autoencoder(**config.net)
    tx = {"autoencoder": optim.make(config.optim, config.steps), "patch": optim.make(config.optim_d, config.steps)}
    nets = Networks(net, patch, tx)
    if options.perceptual:
        if "classifier" not in config:
            raise UserError("perceptual compares a classifier's features: set classifier, or perceptual = 0")
        classifier = classify.network(config.classifier, len(classes))
        nets = nets._replace(classifier=classifier, shown=classify.options_of(config.classifier))
    return Task(
        init=partial(init, nets, options),
        step=partial(step, nets, options),
        predict=partial(predict, nets),
        summarize=summarize,
        on_eval=on_eval,
    )
