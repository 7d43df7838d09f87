"""A pretrained backbone without a run: films to features, to cluster, search and probe with."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cxrjax import models, weights
from cxrjax.errors import lookup
from cxrjax.infer import films as door
from cxrjax.infer.batches import in_batches
from cxrjax.models.classifier import global_pool
from cxrjax.ops import inputs
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, PyTree

BATCH = 16


class Backbone(NamedTuple):
    """A network below its head, with the weights of a file.

    Attributes:
      net: the backbone.
      variables: its weights and statistics, on every device.
      normalize: of the films it is shown, a key of `inputs.NORMALIZATIONS`.
      size: side that films are brought to.
      mesh: the devices.
      depth: bits that 16-bit files hold; 0 for each file's own.
    """

    net: nn.Module
    variables: PyTree
    normalize: str
    size: int
    mesh: Mesh
    depth: int = 0

    def features(self, films: door.Films) -> np.ndarray:
        """The mean over space of each film's last map, (n, d) float32; films as in `infer.films.read`."""
        image = door.read(films, self.size, self.depth)
        return in_batches(self.mesh, BATCH, partial(_features, self.net, self.normalize, self.variables), image)


@partial(jax.jit, static_argnums=(0, 1))
def _features(net: nn.Module, kind: str, variables: PyTree, image: Array) -> Array:
    x: Any = net.apply(variables, inputs.normalize(image, kind), train=False)
    return global_pool(x[0], "gap")


def of(
    name: str, given: str | Path, size: int = 224, normalize: str = "", depth: int = 0, mesh: Mesh | None = None
) -> Backbone:
    """The backbone of a network by name, see `cxrjax.backbone`.

    Raises:
      UserError: an unknown network or normalization; weights that are not there or do not fit.
    """
    net: Any = models.build(name, num_classes=1)
    kind = normalize or weights.FAMILIES[weights.family_of(name)].normalize
    lookup(inputs.NORMALIZATIONS, kind, "normalize")
    source = weights.Source(given, name, head=False, normalize=kind)
    file, _ = source.read()
    film = inputs.normalize(jnp.zeros((1, size, size, 1)), kind)
    filled, _ = source.fill(file, dict(jax.eval_shape(net.init, jax.random.key(0), film)))
    variables = {
        collection: filled[collection]["backbone"] for collection in filled if "backbone" in filled[collection]
    }
    mesh = mesh or meshes.make(1)
    return Backbone(net.backbone, meshes.replicate(mesh, variables), kind, size, mesh, depth)
