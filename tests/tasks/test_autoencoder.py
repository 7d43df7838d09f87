"""The autoencoder's training: each part of both losses, who moves whom, and that the classifier stands still."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.tasks import autoencoder, classify
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

# Compiled without LLVM's optimizer, which would take longer than these programs run.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CLASSES = ("Normal", "Mass")
NET = {"name": "autoencoder_tiny", "channels": (8, 8), "latent": 2, "groups": 4, "d_features": 4, "d_layers": 1}
JUDGE = {"name": "resnet_tiny", "blocks": (1,), "widths": (8,)}


def config(**changes):
    optimizer = defaults.optim("adam", 1e-2)
    c = ConfigDict({
        "net": NET, "optim": optimizer, "optim_d": optimizer, "steps": 100, "perceptual": 0.5, "adversarial": 0.2,
        "kl": 1e-3, "adversarial_from": 3, "ema": 0.9, "classifier": defaults.classify(JUDGE, optimizer, 10, 8),
    })  # fmt: skip
    return ConfigDict({**c, **changes})


def batch(n=8, seed=0, size=16):
    """A gradient with a bright square somewhere."""
    rng = np.random.default_rng(seed)
    image = np.broadcast_to(np.linspace(0.1, 0.5, size, dtype=np.float32)[None, :, None, None], (n, size, size, 1))
    image = image.copy()
    for film, (row, column) in zip(image, rng.integers(0, size - 6, (n, 2)), strict=True):
        film[row : row + 6, column : column + 6] += 0.4
    label = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    return Batch(image, label, np.ones(n, np.float32), np.arange(n, dtype=np.int32))


TASK = autoencoder.make(config(), CLASSES)
NETS, OPTIONS = TASK.step.args
step = jit(TASK.step)


@pytest.fixture(scope="module")
def start():
    """A fresh state whose classifier has seen something, so that no leaf of it is 0 or 1 throughout."""
    state = jit(TASK.init)(jax.random.key(0), batch())
    rng = np.random.default_rng(1)
    moved = jax.tree.map(lambda x: x + 0.1 * rng.uniform(size=x.shape).astype(np.float32), state.frozen)
    return dataclasses.replace(state, frozen=moved)


SGD = dict.fromkeys(NETS.tx, optax.sgd(1.0))
plain = jit(partial(autoencoder.step, NETS._replace(tx=SGD), OPTIONS))  # moves either network by minus its gradient


def prepare(state, at=0):
    """A state for `plain`, at a step."""
    opt = {name: SGD[name].init(state.params[name]) for name in SGD}
    return dataclasses.replace(state, opt=opt, step=np.int32(at))


def moved(before, after, name):
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), before.params[name], after.params[name])


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5))


def reconstructed(params, key):
    """By hand: a reconstruction in [-1, 1] and its latent's distribution."""
    x = 2 * batch().image - 1
    mean, logvar = NETS.net.apply({"params": params}, x, method="encode")
    z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
    return NETS.net.apply({"params": params}, z, method="decode"), mean, logvar


def test_the_autoencoder_follows_its_loss_and_the_discriminator_its_own(start):
    key = jax.random.key(3)
    before = prepare(start, at=OPTIONS.adversarial_from)
    after, scalars = plain(before, batch(), key)
    judge, patch = before.frozen["classifier"], before.params["patch"]
    x = 2 * batch().image - 1

    def maps(image):
        shown = (image - 0.5) / 0.25  # as this classifier's `normalize` says
        endpoints = NETS.classifier.apply(judge, shown, train=False)[1]
        return [endpoints["layer1"], endpoints["features"]]

    def unit(m):
        return m / jnp.sqrt(jnp.square(m).sum(axis=-1, keepdims=True) + 1e-6)

    @jit
    @partial(jax.value_and_grad, has_aux=True)
    def by_hand(params):
        made, mean, logvar = reconstructed(params, key)
        parts = {
            "l1": jnp.abs((made - x) / 2).mean(),
            "perceptual": sum(
                jnp.square(unit(a) - unit(b)).sum(axis=-1).mean()
                for a, b in zip(maps((made + 1) / 2), maps(batch().image), strict=True)
            ),
            "adversarial": 0.5 * jnp.square(NETS.patch.apply({"params": patch}, made) - 1).mean(),
            "kl": 0.5 * (mean**2 + jnp.exp(logvar) - 1 - logvar).sum(axis=(1, 2, 3)).mean(),
        }
        total = parts["l1"] + 0.5 * parts["perceptual"] + 0.2 * parts["adversarial"] + 1e-3 * parts["kl"]
        return total, (parts, made)

    (total, (parts, made)), gradient = by_hand(before.params["autoencoder"])
    close(moved(before, after, "autoencoder"), gradient)
    assert float(scalars["loss"]) == pytest.approx(float(total), rel=1e-4)
    for name, value in parts.items():
        assert float(scalars[name]) == pytest.approx(float(value), rel=1e-3), name

    @jit
    @jax.value_and_grad
    def of_patch(params):
        real, fake = (NETS.patch.apply({"params": params}, films) for films in (x, made))
        return 0.5 * jnp.square(real - 1).mean() + 0.5 * jnp.square(fake).mean()

    loss, gradient = of_patch(patch)
    close(moved(before, after, "patch"), gradient)
    assert float(scalars["loss_d"]) == pytest.approx(float(loss), rel=1e-4)


def test_the_adversarial_term_enters_at_its_step_without_a_new_compilation(start):
    other = {**start.params, "patch": jax.tree.map(lambda p: p + 0.5, start.params["patch"])}
    changed = dataclasses.replace(start, params=other)
    for at in (0, 2, 3, 50):
        (one, scalars), (two, others) = (plain(prepare(s, at), batch(), jax.random.key(1)) for s in (start, changed))
        assert float(scalars["adversarial"]) != float(others["adversarial"])
        # Before its step, another discriminator changes nothing; and it trains from the first step.
        assert same(one.params["autoencoder"], two.params["autoencoder"]) == (at < 3)
        assert not same(one.params["patch"], start.params["patch"])
        terms = scalars["l1"] + 0.5 * scalars["perceptual"] + 1e-3 * scalars["kl"]
        share = float(scalars["loss"] - terms)
        assert share == pytest.approx(0.2 * float(scalars["adversarial"]) * (at >= 3), rel=1e-3, abs=1e-6)
    assert plain._cache_size() == 1


def test_thirty_steps_reconstruct_and_leave_the_classifier_to_the_bit(start):
    state = start
    frozen = jax.tree.map(np.array, start.frozen)
    predict = jit(TASK.predict)
    first = TASK.summarize(jax.tree.map(np.asarray, predict(state, batch(seed=9), jax.random.key(0))))
    for i in range(30):
        state, scalars = step(state, batch(seed=i % 5), jax.random.key(i))
        assert all(np.isfinite(value) for value in scalars.values())
    assert same(state.frozen, frozen)
    assert int(state.step) == 30
    last = TASK.summarize(jax.tree.map(np.asarray, predict(state, batch(seed=9), jax.random.key(0))))
    image = batch(seed=9).image
    constant = float(np.abs(image - np.median(image)).mean())
    assert last["l1"] < 0.6 * min(first["l1"], constant)
    assert last["psnr"] > first["psnr"] + 3
    state = TASK.on_eval(TASK.on_eval(state, last), first)
    assert float(state.evals["best_l1"]) == pytest.approx(last["l1"])


def test_rows_are_those_of_the_average_and_of_the_mean_latent(start):
    state, _ = step(start, batch(), jax.random.key(0))
    d = min(0.9, 1 / 10)  # n = 0
    average = jax.tree.map(lambda a, b: d * a + (1 - d) * b, start.params["autoencoder"], state.params["autoencoder"])
    close(autoencoder.variables_of(state), average)
    kept = dataclasses.replace(state, ema={})
    assert same(autoencoder.variables_of(kept), state.params["autoencoder"])

    @jit
    def both_ways(params, image):
        z = autoencoder.encode(NETS.net, params, image)
        return z, autoencoder.decode(NETS.net, params, z)

    z, made = both_ways(state.ema["autoencoder"], batch().image)
    assert z.shape == (8, 4, 4, 2)
    for bias, edge in ((-9.0, 0.0), (9.0, 1.0)):
        decoder = dict(state.ema["autoencoder"]["decoder"])
        decoder["out"] = {**decoder["out"], "bias": jnp.full(4, bias)}
        np.testing.assert_array_equal(
            both_ways({**state.ema["autoencoder"], "decoder": decoder}, batch().image)[1], edge
        )
    rows = jit(TASK.predict)(state, batch(), jax.random.key(0))
    error = np.asarray(made, np.float64) - batch().image
    np.testing.assert_allclose(rows["l1"], np.abs(error).mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(rows["psnr"], -10 * np.log10((error**2).mean(axis=(1, 2, 3))), rtol=1e-4)
    assert rows["kl"].shape == (8,)
    summary = TASK.summarize({**jax.tree.map(np.asarray, rows), "index": np.arange(8)})
    assert set(summary) == {"loss", "l1", "psnr", "kl"}
    assert summary["loss"] == summary["l1"] == pytest.approx(float(np.abs(error).mean()), rel=1e-4)


def test_padding_has_no_share(start):
    rows = np.arange(8) < 5
    films = batch().image
    seen = []
    for image in (films, np.where(rows[:, None, None, None], films, 0.9).astype(np.float32)):
        padded = batch().replace(image=image, valid=rows.astype(np.float32))
        before = prepare(start, at=3)
        after, scalars = plain(before, padded, jax.random.key(0))
        seen.append((moved(before, after, "autoencoder"), moved(before, after, "patch"), scalars))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *seen)


def test_the_divergence_is_the_integral():
    mean, logvar = np.asarray([0.0, 1.5, -0.7, 0.2]), np.asarray([0.0, -1.0, 0.8, -4.0])
    x = np.linspace(-15, 15, 200_001)[None]
    deviation = np.exp(logvar / 2)[:, None]
    q = np.exp(-0.5 * ((x - mean[:, None]) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    log_p = -0.5 * x**2 - 0.5 * np.log(2 * np.pi)
    log_q = -0.5 * ((x - mean[:, None]) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)
    by_value = np.trapezoid(q * (log_q - log_p), x, axis=1)
    shaped = [jnp.asarray(v, jnp.float32).reshape(1, 2, 2, 1) for v in (mean, logvar)]
    np.testing.assert_allclose(autoencoder.kl_divergence(*shaped), [by_value.sum()], rtol=1e-4)
    assert by_value[0] == pytest.approx(0, abs=1e-6)


def test_the_distance_of_features_is_that_of_directions():
    right = jnp.zeros((1, 2, 2, 3)).at[..., 0].set(5.0)
    up = jnp.zeros((1, 2, 2, 3)).at[..., 1].set(0.3)
    half = right.at[:, 0].set(up[:, 0])

    def distance(a, b):
        return float(autoencoder.feature_distance({"a": a}, {"a": b})[0])

    assert distance(right, right) == 0
    assert distance(right, 7 * right) == pytest.approx(0, abs=1e-5)
    assert distance(right, up) == pytest.approx(2, rel=1e-3)
    assert distance(right, -right) == pytest.approx(4, rel=1e-3)
    assert distance(right, half) == pytest.approx(1, rel=1e-3)
    both = autoencoder.feature_distance({"a": right, "b": right}, {"a": up, "b": half})
    np.testing.assert_allclose(both, [3], rtol=1e-3)
    blank = jnp.zeros((1, 2, 2, 3))
    gradient = jax.grad(lambda x: autoencoder.feature_distance({"a": x}, {"a": right})[0])(blank)
    assert np.isfinite(gradient).all()


def test_without_the_perceptual_term_there_is_no_classifier():
    c = config(perceptual=0.0, ema=0.0)
    del c.classifier
    task = autoencoder.make(c, CLASSES)
    state = jax.eval_shape(task.init, jax.random.key(0), batch())
    assert (state.frozen, state.ema) == ({}, {})
    assert set(state.params) == set(state.opt) == {"autoencoder", "patch"}
    scalars = jax.eval_shape(task.step, state, batch(), jax.random.key(0))[1]
    assert set(scalars) == {"loss", "l1", "adversarial", "kl", "loss_d", "grad_norm"}


def test_the_classifier_is_held_as_its_phase_ends_with_it():
    c = config()
    held = jax.eval_shape(TASK.init, jax.random.key(0), batch()).frozen["classifier"]
    other = jax.eval_shape(classify.make(c.classifier, 2).init, jax.random.key(0), batch())
    ended = classify.variables_of(classify.options_of(c.classifier), other)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), held) == jax.tree.map(lambda x: (x.shape, x.dtype), ended)


def test_what_cannot_be_is_told():
    c = config()
    del c.classifier
    with pytest.raises(UserError, match="set classifier, or perceptual = 0"):
        autoencoder.make(c, CLASSES)
    with pytest.raises(UserError, match=r"kl = -1.0: expected the weight of a loss"):
        autoencoder.make(config(kl=-1.0), CLASSES)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_one_and_eight_devices_give_the_same_gradients(start):
    before, key = prepare(start, at=3), jax.random.key(1)
    mesh = meshes.make(8)
    placed = meshes.replicate(mesh, (before, key))
    runs = plain(before, batch(), key), plain(placed[0], meshes.put(mesh, batch()), placed[1])
    one, eight = (
        (moved(before, after, "autoencoder"), moved(before, after, "patch"), scalars) for after, scalars in runs
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(a).max()))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(one[1]))
