"""The alternation of adversarial training: who moves when, by how much, and that a killed run is the same run."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import models
from cxrjax.nn.spectral import power_iteration
from cxrjax.tasks import gan
from cxrjax.types import Batch

# Compiled without LLVM's optimizer, which would take longer than these programs run.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CLASSES = ("Cardiomegaly", "Effusion", "Mass")
NET = {"sizes": (8, 16), "features": 4, "residuals": 0, "d_features": 4}
OPTIONS = gan.Options(CLASSES, noise=5, ratio=5, tau_every=3)


G, D = models.build_gan("cgan", **NET)
NETS = gan.Networks(G, D, {player: optax.adam(1e-2) for player in ("g", *D)})


def batch(n=8, size=16, seed=0):
    """Films with a bright square where their finding says."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.2, 0.4, (n, size, size, 1)).astype(np.float32)
    kind = np.arange(n) % 4  # the fourth has no finding
    for i, k in enumerate(kind):
        image[i, 4 * k : 4 * k + 4, 4:8] += 0.5 * (k < 3)
    return Batch(image, np.eye(4, dtype=np.float32)[kind, :3], np.ones(n, np.float32), np.arange(n, dtype=np.int32))


@pytest.fixture(scope="module")
def start():
    """A new state whose discriminators' kernels have singular values apart: those of orthogonal ones are all 1."""
    state = jit(partial(gan.init, NETS, OPTIONS))(jax.random.key(0), batch())
    rng = np.random.default_rng(1)

    def move(x):
        return x + 0.3 * rng.standard_normal(x.shape).astype(np.float32)

    params = {name: tree if name == "g" else jax.tree.map(move, tree) for name, tree in state.params.items()}
    return dataclasses.replace(state, params=params)


def reoptimized(state, tx):
    """A state with the fresh optimizer states of other optimizers."""
    return dataclasses.replace(state, opt={name: tx[name].init(state.params[name]) for name in state.params})


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def parts(state, name):
    """Everything of one player."""
    return [kind[name] for kind in (state.params, state.stats, state.opt, state.ema) if name in kind]


def updates(opt):
    """How often Adam has moved."""
    return int(opt[0].count)


@pytest.fixture(scope="module")
def walk(start):
    """The states before and after each of ten batches, and the scalars of each."""
    step = jit(partial(gan.step, NETS, OPTIONS))
    states, scalars = [start], []
    for i in range(10):
        state, found = step(states[-1], batch(seed=i), jax.random.key(i))
        states.append(state)
        scalars.append(found)
    return states, scalars


def discriminator_update(options):
    """`gan._discriminate`, compiled: `(state, image, c, valid, key) -> (state, scalars)`."""

    @jit
    def run(state, image, c, valid, key):
        return gan._discriminate(NETS, options, state, gan.pyramid(image, NET["sizes"]), c, valid, key)

    return run


plain, against_mismatched = (discriminator_update(OPTIONS._replace(mismatched=m)) for m in (False, True))
IMAGE, ONES = batch().image, np.ones(8, np.float32)


def condition(options=OPTIONS):
    return gan.condition_of(options, jnp.asarray(batch().label))


def test_the_generator_moves_at_every_fifth_batch_and_the_discriminators_at_each(walk):
    states, scalars = walk
    for i, (before, after) in enumerate(itertools.pairwise(states)):
        assert int(after.step) == i + 1
        for now, then in zip(parts(before, "g"), parts(after, "g"), strict=True):
            assert same(now, then) == ((i + 1) % 5 != 0), i
        for name in NETS.d:
            for now, then in zip(parts(before, name), parts(after, name), strict=True):
                assert not same(now, then)
            assert updates(after.opt[name]) == i + 1
        assert updates(after.opt["g"]) == (i + 1) // 5
        assert all(np.isfinite(v) for v in scalars[i].values())


def test_the_loss_of_a_step_is_that_of_both_discriminators(walk):
    for found in walk[1]:
        assert set(found) == {"loss", "loss_g", "loss_d8", "loss_d16"}
        assert float(found["loss"]) == pytest.approx(float(found["loss_d8"] + found["loss_d16"]), rel=1e-6)


def test_the_average_of_the_generator_warms_up_over_its_own_updates(walk):
    states, _ = walk
    for i, d in ((5, 1 / 10), (10, 2 / 11)):
        old, new = states[i - 1], states[i]
        now = {"params": new.params["g"], **new.stats["g"]}
        expected = jax.tree.map(lambda e, p, d=d: d * e + (1 - d) * p, old.ema["g"], now)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), new.ema["g"], expected)
        assert same(gan.variables_of(OPTIONS, new), new.ema["g"])
        assert same(gan.variables_of(OPTIONS._replace(ema=0.0), new), now)


def convolutions(tree, path=()):
    """The path of each leaf `u` of a discriminator's vectors."""
    return [path] if "u" in tree else [found for key in tree for found in convolutions(tree[key], (*path, key))]


def at(tree, path):
    return at(tree[path[0]], path[1:]) if path else tree


def test_a_discriminators_update_is_one_power_iteration_on_the_kernel_before_it(walk):
    states, _ = walk
    for before, after in ((states[0], states[1]), (states[4], states[5])):  # the generator's turn adds none
        for name in NETS.d:
            paths = convolutions(before.stats[name]["spectral"])
            assert len(paths) == len([x for x in jax.tree.leaves(before.params[name]) if x.ndim == 4])
            for path in paths:
                u, moved = (at(s.stats[name]["spectral"], path)["u"] for s in (before, after))
                kernel = at(before.params[name], path)["kernel"]
                matrix = kernel.reshape(-1, kernel.shape[-1]).T
                np.testing.assert_allclose(moved, power_iteration(matrix, u, 1)[0], atol=1e-5)
                if len(u) > 1:
                    assert np.abs(moved - u).max() > 1e-4
                    assert np.abs(moved - power_iteration(matrix, u, 2)[0]).max() > 1e-4


def test_the_generators_update_follows_equation_6_and_leaves_the_discriminators_to_the_bit(start):
    nets, key = NETS._replace(tx={**NETS.tx, "g": optax.sgd(0.02, momentum=0.9)}), jax.random.key(3)
    before, c = dataclasses.replace(reoptimized(start, nets.tx), step=np.int32(15)), condition()
    after = jit(partial(gan._generate, nets, OPTIONS))(before, c, ONES, key)
    for name in NETS.d:
        assert same(parts(before, name), parts(after, name))
    for now, then in zip(parts(before, "g"), parts(after, "g"), strict=True):
        assert not same(now, then)

    @jit
    @jax.value_and_grad
    def by_hand(params):
        variables, z = {"params": params, **before.stats["g"]}, jax.random.normal(key, (8, OPTIONS.noise))
        (made, _), _ = NETS.g.apply(variables, z, c, jnp.float32(0.5), train=True, mutable=["batch_stats"])
        loss = jnp.float32(0)
        for (name, net), s in zip(NETS.d.items(), made, strict=True):  # their vectors stand still
            scores, _ = net.apply({"params": before.params[name], **before.stats[name]}, s, c)
            loss += sum(0.5 * jnp.square(score - 1).mean() for score in scores)
        return loss

    (first, gradient), (second, _) = (by_hand(state.params["g"]) for state in (before, after))
    momentum = after.opt["g"][0].trace  # after one step: the gradient that it took
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), momentum, gradient)
    assert float(second) < float(first)


@jit
def scores_by_hand(state, z, c, tau):
    """By discriminator: scores (2, b) of films and of made ones by each head, from one forward pass of training."""
    made = NETS.g.apply(
        {"params": state.params["g"], **state.stats["g"]}, z, c, tau, train=True, mutable=["batch_stats"]
    )
    films = IMAGE * 2 - 1
    films = (films.reshape(8, 8, 2, 8, 2, 1).mean(axis=(2, 4)), films)
    out = {}
    for (name, net), x, s in zip(NETS.d.items(), films, made[0][0], strict=True):
        variables = {"params": state.params[name], **state.stats[name]}
        both = net.apply(variables, jnp.concatenate([x, s]), jnp.concatenate([c, c]), mutable=["spectral"])
        out[name] = [head.reshape(2, 8) for head in both[0][0]]
    return out


def test_the_losses_are_equations_5_and_6(walk):
    state, c, key = walk[0][6], condition(), jax.random.key(9)
    tau, z = gan.tau_of(OPTIONS, state.step), jax.random.normal(key, (8, OPTIONS.noise))
    assert float(tau) > 0  # the attention takes part
    for valid in (ONES, np.asarray([1, 1, 1, 1, 1, 0, 0, 0], np.float32)):
        _, scalars = plain(state, IMAGE, c, valid, key)
        g = 0.0
        for name, heads in scores_by_hand(state, z, c, tau).items():
            heads = np.asarray(heads, np.float64)[:, :, valid > 0]
            d = sum(0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean() for real, fake in heads)
            assert float(scalars[f"loss_{name}"]) == pytest.approx(d, rel=1e-4)
            g += sum(0.5 * ((fake - 1) ** 2).mean() for _, fake in heads)
        assert float(scalars["loss_g"]) == pytest.approx(g, rel=1e-4)


def test_an_update_lowers_the_discriminators_loss_under_the_same_noise(start):
    state, seen = start, []
    for _ in range(12):
        state, scalars = plain(state, IMAGE, condition(), ONES, jax.random.key(0))
        seen.append(float(scalars["loss"]))
    assert seen[-1] < 0.8 * seen[0]


def test_padding_has_no_share_in_loss_or_update(start):
    rows = np.arange(8) < 5
    other = np.where(rows[:, None, None, None], IMAGE, 0.9).astype(np.float32)
    (a, seen_a), (b, seen_b) = (
        against_mismatched(start, image, condition(), rows.astype(np.float32), jax.random.key(0))
        for image in (IMAGE, other)
    )
    assert float(seen_a["loss"]) == pytest.approx(float(seen_b["loss"]), rel=1e-6)
    for name in NETS.d:  # Adam's first step is the gradient's sign: compare what it has seen
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), a.opt[name], b.opt[name])


def test_mismatched_pairs_add_the_score_of_films_under_another_condition(start):
    c, key = condition(), jax.random.key(4)
    less, more = (run(start, IMAGE, c, ONES, key)[1] for run in (plain, against_mismatched))
    wrong = np.roll(c, 1, axis=0)
    assert (wrong != c).any(axis=1).all()
    for (name, net), x in zip(NETS.d.items(), gan.pyramid(jnp.asarray(IMAGE), NET["sizes"]), strict=True):
        variables = {"params": start.params[name], **start.stats[name]}
        ((_, together), _), _ = net.apply(variables, x, jnp.asarray(wrong), mutable=["spectral"])
        extra = 0.5 * float((together**2).mean())
        assert extra > 1e-4
        assert float(more[f"loss_{name}"] - less[f"loss_{name}"]) == pytest.approx(extra, rel=1e-3)
    # A neighbor of the same condition is no mismatch.
    alike = jnp.broadcast_to(c[:1], c.shape)
    less, more = (float(run(start, IMAGE, alike, ONES, key)[1]["loss"]) for run in (plain, against_mismatched))
    assert more == pytest.approx(less, rel=1e-5)
