"""A trained network that tells patients apart: films become embeddings, of which a patient's lie together."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from cxrjax.infer.batches import in_batches
from cxrjax.tasks import identify
from cxrjax.train import mesh as meshes
from cxrjax.types import PyTree, State


class Identifier(NamedTuple):
    """A finished phase of task `identify`; `variables` apart, everything is static."""

    net: nn.Module
    options: identify.Options
    variables: PyTree
    mesh: Mesh

    def embed(self, films: np.ndarray, batch: int) -> np.ndarray:
        """Embeddings (n, d) float32 of unit length of films (n, h, w, 1) in [0, 1] of the phase's side."""
        return in_batches(self.mesh, batch, partial(_embed, self.net, self.options, self.variables), films)


_embed = jax.jit(identify.embed, static_argnums=(0, 1))


def of(config: Any, state: State, mesh: Mesh) -> Identifier:
    """The network of a finished phase."""
    variables = meshes.replicate(mesh, identify.variables_of(state))
    return Identifier(identify.network(config), identify.options_of(config), variables, mesh)
