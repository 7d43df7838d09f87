"""A trained autoencoder: films to latents and back."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cxrjax import models
from cxrjax.errors import UserError
from cxrjax.infer import films as door
from cxrjax.infer.batches import in_batches
from cxrjax.tasks import autoencoder
from cxrjax.train import mesh as meshes
from cxrjax.types import PyTree, State

BATCH = 64


class Autoencoder(NamedTuple):
    """An autoencoder that has been trained.

    Attributes:
      net: the network.
      params: its weights, on every device.
      size: side of its films.
      mesh: the devices.
      depth: bits that the run took its 16-bit files to hold; 0 for each file's own.
    """

    net: models.Autoencoder
    params: PyTree
    size: int
    mesh: Mesh
    depth: int = 0

    def encode(self, films: door.Films) -> np.ndarray:
        """The mean of each film's latent (n, h', w', c) float32, unscaled; films as in `infer.films.read`."""
        image = door.read(films, self.size, self.depth)
        return in_batches(self.mesh, BATCH, partial(_encode, self.net, self.params), image)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Latents (n, h', w', c), as `encode` gives them -> films (n, size, size) float32 in [0, 1].

        Raises:
          UserError: latents of another shape.
        """
        latents = np.asarray(latents, np.float32)
        expected = self.net.latent_shape((1, self.size, self.size, 1))[1:]
        if latents.ndim != 4 or latents.shape[1:] != expected:
            raise UserError(f"latents are an array of shape {latents.shape}; expected (n, {expected})")
        return in_batches(self.mesh, BATCH, partial(_decode, self.net, self.params), latents)[..., 0]


@partial(jax.jit, static_argnums=0)
def _encode(net: models.Autoencoder, params: PyTree, image: Any) -> Any:
    return autoencoder.encode(net, params, image)


@partial(jax.jit, static_argnums=0)
def _decode(net: models.Autoencoder, params: PyTree, z: Any) -> Any:
    return autoencoder.decode(net, params, z)


def of(config: Any, state: State, size: int, mesh: Mesh, depth: int = 0) -> Autoencoder:
    """The autoencoder of a finished phase of task `autoencoder`."""
    params = meshes.replicate(mesh, autoencoder.variables_of(state))
    return Autoencoder(autoencoder.network(config), params, size, mesh, depth)
