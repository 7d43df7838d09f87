"""Tasks in latent space: the one scale, which way it goes, what the task inside sees, and that the codec stands."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults, models
from cxrjax.errors import UserError
from cxrjax.tasks import TASKS, autoencoder, latent
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch, State, Task

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
NET = {"name": "autoencoder_tiny", "channels": (8, 8), "latent": 2, "groups": 4}
CODEC, _ = models.build_autoencoder(**NET)
CLASSES = ("Normal", "Mass")


def batch(n=8, seed=0):
    """Films of 16 px whose latents are 4x4x2."""
    image = np.random.default_rng(seed).uniform(0, 1, (n, 16, 16, 1)).astype(np.float32)
    label = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    return Batch(image, label, np.ones(n, np.float32), np.arange(n, dtype=np.int32))


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def spy():
    """A task that keeps a count, and returns the films that it is shown."""

    def init(key, batch):
        zero = jnp.zeros(batch.image.shape[1:])
        return State(jnp.int32(0), {"net": zero}, {"net": jnp.int32(0)}, {}, {}, {"other": jnp.float32(7)}, {})

    def step(state, batch, key):
        assert (set(state.stats), set(state.frozen)) == ({"net"}, {"other"})
        new = dataclasses.replace(state, step=state.step + 1, stats={"net": state.stats["net"] + 1})
        return new, {"seen": 2 * batch.image - 1}

    def predict(state, batch, key):
        assert (set(state.stats), set(state.frozen)) == ({"net"}, {"other"})
        return {"seen": 2 * batch.image - 1}

    return Task(init, step, predict, lambda rows: {}, lambda state, summary: state)


SPY = latent.wrap(spy(), CODEC)
spied, predicted = jit(SPY.step), jit(SPY.predict)


@pytest.fixture(scope="module")
def start():
    return jit(SPY.init)(jax.random.key(0), batch())


@pytest.fixture(scope="module")
def means(start):
    """The mean latents of the first batch."""
    return np.asarray(jit(partial(autoencoder.encode, CODEC))(start.frozen["autoencoder"], batch().image))


def test_a_fresh_state_is_the_inner_one_with_a_codec_and_no_scale_yet(start):
    assert start.params["net"].shape == (4, 4, 2)
    assert (set(start.stats), set(start.frozen)) == ({"net", "latent"}, {"other", "autoencoder"})
    assert float(start.stats["latent"]["scale"]) == 0


def test_the_task_inside_sees_latents_of_unit_variance(start, means):
    assert abs(means.std() - 1) > 0.1
    after, scalars = spied(start, batch(), jax.random.key(0))
    seen = np.asarray(scalars["seen"])
    assert seen.shape == (8, 4, 4, 2)
    assert seen.std() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(seen, means / means.std(), rtol=1e-4, atol=1e-5)
    # The mean is not taken away: one factor, no shift.
    assert seen.mean() == pytest.approx(means.mean() / means.std(), abs=1e-4)
    np.testing.assert_allclose(predicted(after, batch(), jax.random.key(0))["seen"], seen, rtol=1e-5, atol=1e-6)


def test_the_scale_is_that_of_the_first_batch_ever_after(start, means, tmp_path):
    first, _ = spied(start, batch(), jax.random.key(0))
    scale = float(first.stats["latent"]["scale"])
    assert scale == pytest.approx(1 / means.std(), rel=1e-5)
    flat = batch(seed=1).replace(image=0.5 * batch(seed=1).image)
    second, scalars = spied(first, flat, jax.random.key(0))
    assert float(second.stats["latent"]["scale"]) == scale
    assert abs(np.asarray(scalars["seen"]).std() - 1) > 0.02
    assert (int(second.step), int(second.stats["net"]), float(second.frozen["other"])) == (2, 2, 7)
    assert same(second.frozen["autoencoder"], start.frozen["autoencoder"])
    with Checkpoints(tmp_path / "phase") as checkpoints:
        checkpoints.save(2, second, {})
        checkpoints.wait()
        restored = checkpoints.restore(meshes.replicate(meshes.make(1), second)).state
    assert float(restored.stats["latent"]["scale"]) == scale
    assert float(spied(restored, flat, jax.random.key(0))[0].stats["latent"]["scale"]) == scale


def test_padding_has_no_share_in_the_scale(start, means):
    rows = np.arange(8) < 5
    for fill in (0.0, 0.9):
        image = np.where(rows[:, None, None, None], batch().image, fill).astype(np.float32)
        padded = batch().replace(image=image, valid=rows.astype(np.float32))
        after, _ = spied(start, padded, jax.random.key(0))
        assert float(after.stats["latent"]["scale"]) == pytest.approx(1 / means[rows].std(), rel=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_monai_generative_models_212_latents_are_multiplied_to_diffuse_and_divided_to_decode(start, means, scale):
    params, factor = start.frozen["autoencoder"], jnp.float32(scale)
    z = jit(partial(latent.to_latent, CODEC))(params, factor, batch().image)
    np.testing.assert_allclose(z, means * scale, rtol=1e-4, atol=1e-5)
    film = jit(partial(latent.from_latent, CODEC))(params, factor, z)
    plain = jit(partial(autoencoder.decode, CODEC))(params, means)
    np.testing.assert_allclose(film, plain, rtol=1e-4, atol=1e-5)
    if scale != 1:
        wrong = jit(partial(autoencoder.decode, CODEC))(params, z * scale)
        assert np.abs(np.asarray(wrong) - plain).max() > 1e-2


def latent_config(phase):
    with phase.unlocked():
        phase.autoencoder = ConfigDict({"net": NET})
    return phase


def test_a_diffusion_of_latents_trains_and_its_codec_stands():
    optimizer = defaults.optim("adam", 1e-2)
    net = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4}
    task = TASKS["latent_ddpm"](
        latent_config(defaults.diffusion(net, optimizer, 20, 8, prediction="v", ema=0.5)), CLASSES
    )
    state = jit(task.init)(jax.random.key(0), batch())
    step, seen = jit(task.step), []
    before = jax.tree.map(np.array, state.frozen)
    for _ in range(12):
        state, scalars = step(state, batch(), jax.random.key(3))
        seen.append(float(scalars["loss"]))
    assert seen[-1] < 0.8 * seen[0]
    assert same(state.frozen, before)
    rows = jit(task.predict)(state, batch(), jax.random.key(0))
    assert rows["loss"].shape[0] == 8
    state = task.on_eval(state, task.summarize(jax.tree.map(np.asarray, rows)))
    assert np.isfinite(state.evals["best_loss"])
    assert float(state.stats["latent"]["scale"]) > 0


def classifier_config(**changes):
    changes = {"normalize": "symmetric", **changes}
    net = {"name": "resnet_tiny", "blocks": (1,), "widths": (8,)}
    return latent_config(defaults.classify(net, defaults.optim("adam", 1e-2), 10, 8, **changes))


def test_a_classifier_of_latents_keeps_its_statistics_and_the_scale():
    task = TASKS["latent_classify"](classifier_config(), CLASSES)
    state = jit(task.init)(jax.random.key(0), batch())
    after, scalars = jit(task.step)(state, batch(), jax.random.key(0))
    assert set(after.stats) == {"net", "latent"}
    assert not same(after.stats["net"], state.stats["net"])
    assert float(after.stats["latent"]["scale"]) > 0
    assert np.isfinite(scalars["loss"])
    assert jax.eval_shape(task.predict, after, batch(), jax.random.key(0))["logits"].shape == (8, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize": "film"}, "normalize = 'film': latents need 'symmetric'"),
        ({"warp": 4}, "warp = 4: it is for films"),
        ({"border": 0.1}, "border = 0.1: it is for films"),
        ({"input": "enh"}, "set input = 'cxr'"),
    ],
)
def test_a_classifier_of_latents_refuses_what_is_for_films(changes, message):
    with pytest.raises(UserError, match=message):
        TASKS["latent_classify"](classifier_config(**changes), CLASSES)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 (fake) devices")
def test_one_and_eight_devices_measure_the_same_scale(start, means):
    scales = []
    for devices in (1, 8):
        mesh = meshes.make(devices)
        state, key = meshes.replicate(mesh, (start, jax.random.key(0)))
        after, scalars = spied(state, meshes.put(mesh, batch()), key)
        scales.append(float(after.stats["latent"]["scale"]))
        assert np.asarray(scalars["seen"]).std() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(scales, 1 / means.std(), rtol=1e-5)
