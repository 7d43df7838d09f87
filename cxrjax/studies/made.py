"""Films that a finished generator makes, with what a page shows of how it makes them."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.ops.conditions import NORMAL
from cxrjax.studies import finished
from cxrjax.studies.chunks import in_chunks
from cxrjax.tasks import gan
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, State

TITLES = {"cgan": "proposed", "cdcgan": "cdcgan"}
UNTRAINED = "untrained"
# Where attention is looked at: both lungs, the heart and the diaphragm, as shares of the side (row, column).
POINTS = ((0.4, 0.3), (0.4, 0.7), (0.6, 0.55), (0.8, 0.3))


class Generator(NamedTuple):
    """A generator that samples.

    Attributes:
      name: "proposed", "cdcgan" or "untrained".
      nets: its players.
      options: its task's.
      state: weights and step, on every device.
    """

    name: str
    nets: gan.Networks
    options: gan.Options
    state: State

    @property
    def names(self) -> tuple[str, ...]:
        """Every condition, Normal last."""
        return (*self.options.classes, NORMAL)


def own(context: Any, phase: str) -> Generator:
    """The generator of a phase of this run."""
    config, classes = context.config[phase], tuple(context.config.data.classes)
    state = meshes.replicate(context.mesh, context.states[phase])
    return Generator(TITLES[config.net.name], gan.networks(config), gan.options_of(config, classes), state)


def untrained(context: Any, phase: str) -> Generator:
    """The same generator as chance begins it."""
    config, classes = context.config[phase], tuple(context.config.data.classes)
    nets, options = gan.networks(config), gan.options_of(config, classes)
    example = finished.blank(context.mesh.size, context.config.data.size, len(classes))
    state = jax.jit(partial(gan.init, nets, options))(jax.random.key(context.config.seed), example)
    return Generator(UNTRAINED, nets, options, meshes.replicate(context.mesh, state))


def another(context: Any, workdir: str) -> Generator:
    """The generator of a finished run."""
    run = finished.open_run(workdir)
    phase = finished.phase_of(run, "gan")
    config = run.config[phase]
    example = finished.blank(context.mesh.size, run.config.data.size, len(run.classes))
    state = finished.state_of(run, phase, example, context.mesh)
    return Generator(TITLES[config.net.name], gan.networks(config), gan.options_of(config, run.classes), state)


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


def films(context: Any, generator: Generator, z: np.ndarray, c: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
    """Films (n, s, s) uint8 at every scale, from noise (n, noise) and codes (n, width)."""

    @jax.jit
    def make(state: State, z: Array, c: Array) -> tuple[Array, ...]:
        made = gan.sample(generator.nets.g, generator.options, state, z, c)
        return tuple(to_uint8(film[..., 0]) for film in made)

    state = State(generator.state.step, generator.state.params, generator.state.stats, {}, generator.state.ema, {}, {})
    return in_chunks(context.mesh, batch, partial(make, state), z, c)


def interpolation(context: Any, generator: Generator, steps: int, seed: int, batch: int) -> dict[str, np.ndarray]:
    """One noise vector while the condition moves from each class to the next, from Normal to begin with."""
    names = (generator.names[-1], *generator.names[:-1])
    ends = codes(generator.options, np.array([generator.names.index(name) for name in names]))
    share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    path = np.concatenate([(1 - share) * a + share * b for a, b in itertools.pairwise(ends)])
    z = np.repeat(noise(generator.options, 1, seed), len(path), axis=0)
    made = films(context, generator, z, path, batch)[-1]
    return {
        "start": np.array(names[:-1]), "end": np.array(names[1:]),
        "films": made.reshape(len(names) - 1, steps, *made.shape[1:]),
    }  # fmt: skip


def attention(context: Any, generator: Generator, seed: int) -> dict[str, np.ndarray]:
    """A film of each class and where the attention of a few of its points goes; empty for a network without any."""
    n = len(generator.names)
    options = generator.options
    z, c = noise(options, n, seed), codes(options, np.arange(n))

    @jax.jit
    def look(state: State, z: Array, c: Array) -> tuple[Array, dict[str, Array]]:
        variables = gan.variables_of(options, state)
        tau = gan.sampling_tau(options, state.step)
        made, _, endpoints = gan.generate(generator.nets.g, variables, z, c, tau, False)
        return to_uint8(0.5 * (made[-1][..., 0] + 1)), endpoints

    film, endpoints = look(generator.state, z, c)
    if "query" not in endpoints:
        return {}
    query, key = np.asarray(endpoints["query"], np.float64), np.asarray(endpoints["key"], np.float64)
    side = round(query.shape[1] ** 0.5)
    at = [min(int(row * side), side - 1) * side + min(int(column * side), side - 1) for row, column in POINTS]
    scores = np.einsum("bqd,bnd->bqn", query[:, at], key)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    small = round(key.shape[1] ** 0.5)
    return {
        "film": np.asarray(film), "finding": np.array(generator.names),
        "point": np.broadcast_to(np.array(POINTS), (n, len(POINTS), 2)).copy(),
        "map": weights.reshape(n, len(POINTS), small, small).astype(np.float32),
    }  # fmt: skip
