"""What a classifier makes of films, three layers of it: the space that distances between sets of films are taken in."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.infer import finished
from cxrjax.infer.batches import in_chunks
from cxrjax.studies.classification import localization
from cxrjax.tasks import classify
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, Batch, PyTree, UserError

Features = dict[str, np.ndarray]
# Probabilities of the findings (the paper's), their logits, and the pooled last map.
LAYERS = ("prob", "logit", "pool")


class Network(NamedTuple):
    """A classifier that films are looked at with.

    Attributes:
      net: the network.
      options: how it is shown films.
      variables: its weights and statistics, on every device.
      classes: its logits.
      size: side of the films that it was trained on; others are resized to it.
      source: where it is from, in words.
    """

    net: nn.Module
    options: classify.Options
    variables: PyTree
    classes: tuple[str, ...]
    size: int
    source: str

    def column(self, finding: str) -> int:
        """Its logit of a finding. Raises UserError where it has none."""
        if finding not in self.classes:
            raise UserError(
                f"the feature network knows {', '.join(self.classes)}, not {finding!r}; train one that does, or leave "
                "fdd.run empty"
            )
        return self.classes.index(finding)


def own(context: Any, phase: str) -> Network:
    """The classifier of a phase of this run."""
    config = context.config[phase]
    classes = tuple(context.config.data.classes)
    options = classify.options_of(config)
    variables = meshes.replicate(context.mesh, classify.variables_of(options, context.states[phase]))
    net = classify.network(config, len(classes))
    return Network(net, options, variables, classes, context.config.data.size, f"phase {phase} of this run")


def check(run: str, phase: str, classes: tuple[str, ...]) -> None:
    """Raises UserError where another run has no such classifier, or one that does not know these findings."""
    other = finished.open_run(run)
    finished.phase_of(other, "classify", phase)
    missing = [name for name in classes if name not in other.classes]
    if missing:
        raise UserError(f"fdd.run = {run}: its classifier does not know {', '.join(missing)}, which data.classes has")


def another(context: Any, run: str, phase: str) -> Network:
    """The classifier of a finished run."""
    other = finished.open_run(run)
    name = finished.phase_of(other, "classify", phase)
    config, size = other.config[name], other.config.data.size
    example = Batch.blank(context.mesh.size, size, len(other.classes))
    state = finished.state_of(other, name, example, context.mesh)
    options = classify.options_of(config)
    net = classify.network(config, len(other.classes))
    return Network(
        net, options, classify.variables_of(options, state), other.classes, size, f"phase {name} of {other.workdir}"
    )


def of(context: Any) -> Network:
    """The run's feature network: `fdd.run`, or the phase `fdd.phase` of this run."""
    fdd = context.config.fdd
    return another(context, fdd.run, fdd.phase) if fdd.run else own(context, fdd.own_phase)


# The network is static: films of every set and finding share one compilation.
@partial(jax.jit, static_argnums=(0, 1, 2))
def _look(net: nn.Module, options: classify.Options, size: int, variables: PyTree, image: Array) -> dict[str, Array]:
    x = fitted(image, size)
    logits, endpoints = net.apply(variables, classify.shown(options, classify.middle(options, x)), train=False)
    prob = jax.nn.softmax(logits) if options.exclusive else jax.nn.sigmoid(logits)
    return {"prob": prob, "logit": logits, "pool": endpoints["pooled"].astype(jnp.float32)}


@partial(jax.jit, static_argnums=(0, 1, 2))
def _heat(
    net: nn.Module, options: classify.Options, size: int, variables: PyTree, column: Array, image: Array
) -> Array:
    found, _ = localization.class_map(net, options, variables, fitted(image, size), column)
    return jax.image.resize(found, image.shape[:3], "bilinear")


def fitted(image: Array, size: int) -> Array:
    """Films (b, h, w, 1) at a network's own side, antialiased."""
    b, h, _, c = image.shape
    return image if h == size else jax.image.resize(image, (b, size, size, c), "bilinear")


def extract(context: Any, network: Network, image: np.ndarray, batch: int) -> Features:
    """`prob`, `logit` (n, k) and `pool` (n, d) float32 of films (n, h, w) uint8."""
    look = partial(_look, network.net, network.options, network.size, network.variables)
    return in_chunks(context.mesh, batch, look, _as_float(image))


def maps(context: Any, network: Network, image: np.ndarray, finding: str, batch: int) -> np.ndarray:
    """Where the network sees a finding in films (n, h, w) uint8: (n, h, w) in [0, 1]."""
    column = jnp.int32(network.column(finding))
    heat = partial(_heat, network.net, network.options, network.size, network.variables, column)
    return in_chunks(context.mesh, batch, heat, _as_float(image))


def _as_float(image: np.ndarray) -> np.ndarray:
    """Films (n, h, w) uint8 -> (n, h, w, 1) float32 in [0, 1]."""
    return (image[..., None] / np.float32(255)).astype(np.float32)
