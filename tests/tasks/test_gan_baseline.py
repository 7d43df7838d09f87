"""The baseline under the same alternation: BatchNorm in the discriminator, whose statistics only its own turn moves."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import models
from cxrjax.tasks import gan
from cxrjax.types import Batch

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
G, D = models.build_gan("cdcgan", size=16, features=4, d_features=4)
NETS = gan.Networks(G, D, {name: optax.adam(1e-3) for name in ("g", *D)})
OPTIONS = gan.Options(("Effusion", "Mass"), noise=5, loss="cross_entropy", together=False, ratio=2)
BATCH = Batch(
    np.random.default_rng(0).uniform(0, 1, (8, 16, 16, 1)).astype(np.float32),
    np.eye(3, dtype=np.float32)[np.arange(8) % 3, :2], np.ones(8, np.float32), np.arange(8, dtype=np.int32),
)  # fmt: skip


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def parts(state, name):
    """Everything of one player."""
    return [kind[name] for kind in (state.params, state.stats, state.opt, state.ema) if name in kind]


@pytest.fixture(scope="module")
def state():
    return jit(partial(gan.init, NETS, OPTIONS))(jax.random.key(0), BATCH)


def test_the_players_take_turns_and_its_generators_turn_moves_no_statistics_of_the_discriminator(state):
    step = jit(partial(gan.step, NETS, OPTIONS))
    last = dataclasses.replace(state, step=jnp.int32(1))
    (first, scalars), (second, _) = (step(s, BATCH, jax.random.key(0)) for s in (state, last))
    # At the start a discriminator knows nothing: log 2 for films and for made ones.
    assert float(scalars["loss"]) == pytest.approx(2 * np.log(2), abs=0.5)
    for before, alone, both in zip(*(parts(s, "g") for s in (state, first, second)), strict=True):
        assert same(before, alone)
        assert not same(before, both)
    for before, alone, both in zip(*(parts(s, "d16") for s in (state, first, second)), strict=True):
        assert not same(before, alone)
        assert same(alone, both)  # the generator's turn after it changed nothing
    assert set(state.stats["d16"]) == {"batch_stats"}


def test_the_discriminator_judges_films_and_made_ones_by_statistics_of_their_own(state):
    net, p, start = NETS.d["d16"], state.params["d16"], state.stats["d16"]
    x, c = 2 * jnp.asarray(BATCH.image) - 1, gan.condition_of(OPTIONS, jnp.asarray(BATCH.label))
    pairs = [(x, c), (0.1 * x - 0.9, c)]

    @jit
    def run(p, stats):
        alone = [net.apply({"params": p, **stats}, *pair, train=True, mutable=["batch_stats"]) for pair in pairs]
        return (
            [(scores[0], changed) for (scores, _), changed in alone],
            gan.discriminate(net, p, stats, pairs, False, True),
            gan.discriminate(net, p, stats, pairs[:1], False, False),
        )  # fmt: skip

    alone, (scores, both), (kept_scores, kept) = run(p, start)
    for (expected, _), (found,) in zip(alone, scores, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Both have moved the running statistics, one after the other.
    for old, first, second, end in zip(*map(jax.tree.leaves, (start, alone[0][1], alone[1][1], both)), strict=True):
        np.testing.assert_allclose(end, 0.9 * first + (second - 0.9 * old), rtol=1e-4, atol=1e-5)
    # The generator's turn judges by the batch's statistics as well, and keeps none.
    np.testing.assert_allclose(kept_scores[0][0], alone[0][0], rtol=1e-4, atol=1e-5)
    assert same(kept, start)
