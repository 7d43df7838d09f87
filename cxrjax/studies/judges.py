"""Classifiers that look at films of the treatment study: how normal they look, what they are like, and where."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cxrjax import models
from cxrjax.ops import cam
from cxrjax.tasks import autoencoder, classify, latent
from cxrjax.types import Array, PyTree, State, UserError

TASKS = ("classify", "latent_classify")
SOURCES = ("gradcam", "cam", "fcn_map", "latent_gradcam")


class Judge(NamedTuple):
    """A classifier of Normal against one disease; `variables` apart, everything is static.

    Attributes:
      net: the network.
      options: how it is shown films.
      variables: `net`, its weights and statistics; for a classifier of latents also `autoencoder` and `scale`.
      normal: the column of the class Normal.
      disease: the column that a map should explain.
      codec: the autoencoder whose latents it sees; None where it sees films.
    """

    net: nn.Module
    options: classify.Options
    variables: PyTree
    normal: int
    disease: int
    codec: models.Autoencoder | None = None

    def shown(self, image: Array) -> Array:
        """What the network sees of films (b, h, w, 1) in [0, 1]."""
        if self.codec is None:
            return classify.shown(self.options, classify.middle(self.options, image))
        z = latent.to_latent(self.codec, self.variables["autoencoder"], self.variables["scale"], image)
        return classify.shown(self.options, (z + 1.0) / 2.0)


def check(config: Any, classes: tuple[str, ...]) -> None:
    """Raises UserError unless a classification phase tells Normal from exactly one other class."""
    if config.task not in TASKS or len(classes) != 2 or "Normal" not in classes or config.loss != "softmax":
        raise UserError(
            f"the progress study needs classifiers of two exclusive classes, one of them 'Normal' (loss softmax); "
            f"data.classes is {classes}, a judge's task {config.task!r}"
        )


def of(config: Any, state: State, classes: tuple[str, ...]) -> Judge:
    """A judge from a finished classification phase."""
    check(config, classes)
    normal = classes.index("Normal")
    net, options = classify.network(config, len(classes)), classify.options_of(config)
    variables = {"net": classify.variables_of(options, state)}
    if config.task == "classify":
        return Judge(net, options, variables, normal, 1 - normal)
    variables |= {"autoencoder": state.frozen["autoencoder"], "scale": state.stats["latent"]["scale"]}
    return Judge(net, options, variables, normal, 1 - normal, autoencoder.network(config.autoencoder))


def look(judge: Judge, image: Array) -> tuple[Array, Array]:
    """Films (b, h, w, 1) in [0, 1] -> the softmax share of Normal (b,), and the pooled last map (b, d) float32."""
    logits, endpoints = judge.net.apply(judge.variables["net"], judge.shown(image), train=False)
    return jax.nn.softmax(logits, axis=-1)[:, judge.normal], endpoints["pooled"].astype(jnp.float32)


def heat(judge: Judge, source: str, target: str, image: Array) -> Array:
    """The map of the disease score, (b, h', w'), non-negative but for `cam`.

    Args:
      judge: the network to explain.
      source: `gradcam` (`latent_gradcam` of a classifier of latents); `cam` where the head is a mean and one linear
        layer, sum_k w_k A^k as the deck has it, without bias and ReLU; `fcn_map` where the head is convolutions and a
        pool: the ReLU of the map whose pool the logits are.
      target: `difference` explains y_disease - y_normal: with two logits the disease score alone ignores a shift of
        both; `class` explains y_disease.
      image: (b, h, w, 1) in [0, 1].

    Raises:
      UserError: `cam` or `fcn_map` of a head that has no such map.
    """
    variables = judge.variables["net"]
    _, endpoints = judge.net.apply(variables, judge.shown(image), train=False)

    def head(features: Array) -> Array:
        logits: Any = judge.net.apply(variables, features, method="head_from")
        return logits

    def score(logits: Array) -> Array:
        return logits[:, judge.disease] - (logits[:, judge.normal] if target == "difference" else 0.0)

    if source in ("gradcam", "latent_gradcam"):
        return cam.grad_cam(endpoints["features"], head, score)
    if "map" not in endpoints:
        raise UserError(f"study.guidance.source = {source!r} needs a head without hidden layers; use 'gradcam'")
    maps = endpoints["map"].astype(jnp.float32)  # (b, h', w', classes), the head at every position
    if source == "cam":
        maps -= variables["params"]["head"]["classes"]["bias"][None, None, None, :]
        return score(maps.reshape(-1, maps.shape[-1])).reshape(maps.shape[:3])
    return jax.nn.relu(score(maps.reshape(-1, maps.shape[-1]))).reshape(maps.shape[:3])
