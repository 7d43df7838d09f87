"""Optimizers by parameter path, schedules, and the moving average."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from cxrjax.errors import UserError
from cxrjax.train import optim


def config(**changes) -> ConfigDict:
    base = {
        "name": "adamw", "lr": 0.1, "schedule": "constant", "warmup": 0, "b1": 0.9, "b2": 0.999, "weight_decay": 0.1,
        "clip": 0.0, "frozen": (),
    }  # fmt: skip
    return ConfigDict({**base, **changes})


def params():
    return {
        "backbone": {"conv0": {"kernel": jnp.full((3, 2), 0.5)}, "norm0": {"scale": jnp.ones(2)}},
        "head": {"kernel": jnp.full((2, 2), -0.5), "bias": jnp.zeros(2)},
    }


def train(tx: optax.GradientTransformation, start, steps: int = 3, gradient: float = 1.0):
    state, now = tx.init(start), start
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(lambda p: jnp.full_like(p, gradient), now), state, now)
        now = optax.apply_updates(now, updates)
    return now, state


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "nag"])
def test_frozen_parameters_keep_their_bits_and_have_no_moments(name):
    tx = optim.make(config(name=name, frozen=("^backbone/", "bias$")), steps=10)
    after, state = train(tx, params())
    for path in (("backbone", "conv0", "kernel"), ("backbone", "norm0", "scale"), ("head", "bias")):
        old, new = params(), after
        for key in path:
            old, new = old[key], new[key]
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes(), path
    assert not np.allclose(after["head"]["kernel"], params()["head"]["kernel"])
    held = [optim.path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert any(path.endswith("head/kernel") for path in held)
    assert not any("backbone" in path or "bias" in path for path in held)


def test_freezing_leaves_the_other_parameters_updates_as_they_were():
    free, _ = train(optim.make(config(), 10), params())
    frozen, _ = train(optim.make(config(frozen=("backbone",)), 10), params())
    np.testing.assert_allclose(free["head"]["kernel"], frozen["head"]["kernel"], rtol=1e-6)


def test_labels_take_the_first_rule_that_fits():
    found = optim.labels(params(), [("norm", "a"), ("backbone", "b")], "rest")
    assert found == {
        "backbone": {"conv0": {"kernel": "b"}, "norm0": {"scale": "a"}},
        "head": {"kernel": "rest", "bias": "rest"},
    }


def test_warmup_is_linear_from_zero_and_cosine_ends_at_zero():
    rate = optim.schedule(config(schedule="cosine", warmup=10), steps=110)
    np.testing.assert_allclose([rate(i) for i in range(11)], 0.1 * np.arange(11) / 10, atol=1e-7)
    for i in (10, 35, 60, 110):
        assert float(rate(i)) == pytest.approx(0.05 * (1 + np.cos(np.pi * (i - 10) / 100)), abs=1e-7)
    assert float(rate(109)) < 1e-3 * 0.1
    falling = np.asarray([rate(i) for i in range(10, 111)])
    assert (np.diff(falling) < 0).all()


def test_constant_is_constant_after_its_warmup():
    np.testing.assert_allclose([optim.schedule(config(), 50)(i) for i in (0, 7, 49)], 0.1, rtol=1e-6)
    rate = optim.schedule(config(warmup=4), 50)
    np.testing.assert_allclose([rate(i) for i in (0, 2, 4, 49)], [0.0, 0.05, 0.1, 0.1], atol=1e-7)


@pytest.mark.parametrize(
    ("warmup", "boundaries", "drops"),
    [
        (0, (0.5, 0.75), (50, 75)),
        (20, (0.5, 0.75), (50, 75)),  # not 70 and 95
        (60, (0.5, 0.75), (50, 75)),  # one of them within the warm-up
        (30, (0.8, 0.9), (80, 90)),  # neither beyond the end
        (0, (0.5, 0.501), (50, 50)),  # both on one step
    ],
)
def test_steps_drop_at_their_shares_of_the_whole_run(warmup, boundaries, drops):
    rate = optim.schedule(config(schedule="steps", warmup=warmup, boundaries=boundaries, factor=0.1), steps=100)
    for i in range(100):
        expected = 0.1 * 0.1 ** sum(i >= drop for drop in drops) * min(i / warmup if warmup else 1.0, 1.0)
        assert float(rate(jnp.int32(i))) == pytest.approx(expected, rel=1e-5), i


@pytest.mark.parametrize("boundaries", [(0.5, 1.0), (0.0,), (1500, 3000)])
def test_boundaries_that_are_no_shares_of_the_run_are_refused(boundaries):
    with pytest.raises(UserError, match=r"boundaries = .*between 0 and 1"):
        optim.schedule(config(schedule="steps", boundaries=boundaries, factor=0.1), steps=100)


@pytest.mark.parametrize("gradient", [0.01, 100.0])
def test_clip_bounds_the_global_norm_and_leaves_small_gradients(gradient):
    tx = optim.make(config(name="sgd", b1=0.0, lr=1.0, clip=1.0, weight_decay=0.0), 10)
    after, _ = train(tx, params(), steps=1, gradient=gradient)
    moved = jax.tree.map(lambda a, b: a - b, after, params())
    count = sum(p.size for p in jax.tree.leaves(params()))
    assert float(jnp.sqrt(sum(jnp.square(m).sum() for m in jax.tree.leaves(moved)))) == pytest.approx(
        min(gradient * np.sqrt(count), 1.0), rel=1e-4
    )


def test_weight_decay_pulls_parameters_without_gradient():
    after, _ = train(optim.make(config(), 10), params(), steps=1, gradient=0.0)
    np.testing.assert_allclose(after["head"]["kernel"], -0.5 * (1 - 0.1 * 0.1), rtol=1e-6)


def test_nesterov_looks_ahead():
    plain, _ = train(optim.make(config(name="sgd"), 10), params(), steps=1)
    ahead, _ = train(optim.make(config(name="nag"), 10), params(), steps=1)
    np.testing.assert_allclose(plain["head"]["bias"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(ahead["head"]["bias"], -0.1 * 1.9, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_moving_average_of_a_constant_has_a_closed_form(decay):
    ema = {"w": jnp.zeros(())}
    left = 1.0  # what is left of the start: the product of the decays
    for n in range(40):
        ema = optim.update_ema(ema, {"w": jnp.float32(3.0)}, jnp.int32(n), decay)
        left *= min(decay, (1 + n) / (10 + n))
        assert float(ema["w"]) == pytest.approx(3.0 * (1 - left), rel=1e-5)


def test_unknown_names_are_told_with_what_is_known():
    with pytest.raises(UserError, match=r"'lion' is unknown.*adamw"):
        optim.make(config(name="lion"), 10)
    with pytest.raises(UserError, match=r"'step' is unknown.*cosine"):
        optim.make(config(schedule="step"), 10)


@pytest.mark.parametrize("name", ["adam", "sgd", "nag"])
def test_weight_decay_is_l2_in_the_gradient_but_for_adamw(name):
    decay = 0.1
    plain = optim.make(config(name=name, b1=0.0, lr=0.1, clip=0.0, weight_decay=0.0), 10)
    decayed = optim.make(config(name=name, b1=0.0, lr=0.1, clip=0.0, weight_decay=decay), 10)
    start = params()
    gradient = jax.tree.map(jnp.ones_like, start)
    with_l2 = jax.tree.map(lambda g, p: g + decay * p, gradient, start)
    expected, _ = plain.update(with_l2, plain.init(start), start)
    got, _ = decayed.update(gradient, decayed.init(start), start)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_frozen_pattern_that_fits_nothing_is_told():
    with pytest.raises(UserError, match="fits no parameter"):
        optim.make(config(frozen=("bakbone",)), 10).init(params())


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "nag"])
def test_a_slower_group_moves_by_its_share_and_keeps_the_moments_of_the_others_place(name):
    start = params()
    even, before = train(optim.make(config(name=name), 10), start, steps=1)
    rules = (("norm", 0.5), ("^backbone/", 0.1))
    slow, after = train(optim.make(config(name=name, slower=rules), 10), start, steps=1)
    for path, factor in (("conv0/kernel", 0.1), ("norm0/scale", 0.5), ("head/kernel", 1.0), ("head/bias", 1.0)):
        one, other, old = (
            next(v for p, v in jax.tree_util.tree_leaves_with_path(tree) if optim.path_of(p).endswith(path))
            for tree in (even, slow, start)
        )
        np.testing.assert_allclose(other - old, factor * (one - old), rtol=1e-5, atol=1e-8)
    assert jax.tree.structure(before) == jax.tree.structure(after)  # `carry` finds every moment where it was


@pytest.mark.parametrize(("rules", "words"), [((("^bakbone/", 0.1),), "fits no parameter"), ((("x", 0.0),), "above 0")])
def test_slower_rules_that_cannot_be_are_told(rules, words):
    with pytest.raises(UserError, match=f"slower .*{words}"):
        optim.make(config(slower=rules), 10).init(params())
