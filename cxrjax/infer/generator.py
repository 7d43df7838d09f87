"""A trained generator: films of a finding, or of none."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cxrjax.errors import UserError, lookup
from cxrjax.infer.batches import in_batches
from cxrjax.ops.conditions import NORMAL
from cxrjax.tasks import gan
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, Batch, State

TITLES = {"cgan": "proposed", "cdcgan": "cdcgan"}
UNTRAINED = "untrained"
BATCH = 64


class Generator(NamedTuple):
    """A generator that samples.

    Attributes:
      name: "proposed", "cdcgan" or "untrained".
      nets: its players.
      options: its task's.
      state: weights and step, on every device.
      mesh: the devices.
    """

    name: str
    nets: gan.Networks
    options: gan.Options
    state: State
    mesh: Mesh

    @property
    def names(self) -> tuple[str, ...]:
        """Every condition, Normal last."""
        return (*self.options.classes, NORMAL)

    def sample(self, finding: str, n: int, seed: int = 0) -> np.ndarray:
        """Synthetic films of one finding, or of `Normal`: (n, s, s) uint8, of the largest scale.

        Args:
          finding: one of `names`.
          n: how many.
          seed: the same seed gives the same films; more films begin with the fewer.

        Raises:
          UserError: an unknown finding, or no films asked for.
        """
        if n < 1:
            raise UserError(f"num is {n}: expected at least 1 film")
        number = lookup({name: i for i, name in enumerate(self.names)}, finding, "finding")
        z, code = noise(self.options, n, seed), codes(self.options, np.full(n, number))
        return self.films(z, code, min(BATCH, n))[-1]

    def films(self, z: np.ndarray, c: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
        """Films (n, s, s) uint8 at every scale, from noise (n, noise) and codes (n, width)."""
        state = State(self.state.step, self.state.params, self.state.stats, {}, self.state.ema, {}, {})
        return in_batches(self.mesh, batch, partial(_generate, self.nets.g, self.options, state), z, c)


@partial(jax.jit, static_argnums=(0, 1))
def _generate(net: nn.Module, options: gan.Options, state: State, z: Array, c: Array) -> tuple[Array, ...]:
    """One program for every generator of a network, whatever its weights."""
    return tuple(to_uint8(film[..., 0]) for film in gan.sample(net, options, state, z, c))


def of(config: Any, state: State, classes: tuple[str, ...], mesh: Mesh) -> Generator:
    """The generator of a finished phase of task `gan`."""
    placed = meshes.replicate(mesh, state)
    return Generator(TITLES[config.net.name], gan.networks(config), gan.options_of(config, classes), placed, mesh)


def untrained(config: Any, classes: tuple[str, ...], size: int, seed: int, mesh: Mesh) -> Generator:
    """The same generator as chance begins it."""
    nets, options = gan.networks(config), gan.options_of(config, classes)
    example = Batch.blank(mesh.size, size, len(classes))
    state = jax.jit(partial(gan.init, nets, options))(jax.random.key(seed), example)
    return Generator(UNTRAINED, nets, options, meshes.replicate(mesh, state), mesh)


def codes(options: gan.Options, condition: np.ndarray) -> np.ndarray:
    """Positions of conditions (n,), Normal last -> codes (n, width) float32."""
    k = len(options.classes)
    label = np.eye(k + 1, dtype=np.float32)[condition][:, :k]
    return np.asarray(gan.condition_of(options, jnp.asarray(label)))


def noise(options: gan.Options, n: int, seed: int) -> np.ndarray:
    """(n, noise) float32 standard normal; a longer draw begins with a shorter one."""
    return np.random.default_rng(seed).standard_normal((n, options.noise)).astype(np.float32)


def to_uint8(film: Array) -> Array:
    """[0, 1] -> 0 ... 255: what a PNG holds is what is measured."""
    return jnp.round(jnp.clip(film, 0.0, 1.0) * 255.0).astype(jnp.uint8)
