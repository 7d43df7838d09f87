"""What adversarial training is given and what its generator makes: conditions, scales, samples, options."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import defaults, models
from cxrjax.errors import UserError
from cxrjax.ops import ms_ssim
from cxrjax.tasks import TASKS, gan
from cxrjax.types import Batch

# Compiled without LLVM's optimizer, which would take longer than these programs run.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CLASSES = ("Cardiomegaly", "Effusion", "Mass")
NET = {"sizes": (8, 16), "features": 4, "residuals": 0, "d_features": 4}
OPTIONS = gan.Options(CLASSES, noise=5, tau_every=3)
G, D = models.build_gan("cgan", **NET)
NETS = gan.Networks(G, D, {name: optax.adam(1e-2) for name in ("g", *D)})
LABEL = np.eye(4, dtype=np.float32)[np.arange(8) % 4, :3]  # every fourth film has no finding
BATCH = Batch(
    np.random.default_rng(0).uniform(0, 1, (8, 16, 16, 1)).astype(np.float32),
    LABEL, np.ones(8, np.float32), np.arange(8, dtype=np.int32),
)  # fmt: skip


@pytest.fixture(scope="module")
def state():
    """A state of random weights: orthogonal ones take seconds to make."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(partial(gan.init, NETS, OPTIONS), jax.random.key(0), BATCH)
    # Positive, as variances must be.
    found = jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.1, 1, x.shape), x.dtype), shapes)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), found.ema["g"]["params"])
    return dataclasses.replace(found, step=jnp.int32(10), ema={"g": {**found.ema["g"], "params": params}})


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_the_weight_of_the_attention_rises_by_a_tenth_and_stays_at_one():
    options = OPTIONS._replace(tau_every=4)
    seen = [float(gan.tau_of(options, jnp.int32(step))) for step in (0, 3, 4, 7, 8, 39, 40, 1000)]
    np.testing.assert_allclose(seen, [0, 0, 0.1, 0.1, 0.2, 0.9, 1, 1], rtol=1e-6)
    assert float(gan.tau_of(OPTIONS._replace(tau_every=0), jnp.int32(1000))) == 0
    assert gan.tau_of(options, jnp.int32(3)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "step", "tau"),
    [
        # Both of the paper's proportions: a rise at every fifth epoch, of which the last falls on the run's end.
        ({"ratio": 5, "tau_every": 20}, 80, 0.3),
        ({"ratio": 5, "tau_every": 20}, 60, 0.2),
        ({"ratio": 5, "tau_every": 20}, 64, 0.2),  # the weight rose at 60, the generator's last update was before it
        ({"ratio": 5, "tau_every": 20}, 65, 0.3),
        ({"ratio": 1, "tau_every": 4}, 40, 0.9),
        ({"ratio": 5, "ratio_mode": "all_d_per_batch", "tau_every": 4}, 41, 1.0),
        ({"ratio": 5, "tau_every": 4}, 0, 0.0),
        ({"ratio": 5, "tau_every": 0}, 80, 0.0),
    ],
)
def test_samples_are_made_at_the_weight_that_the_generator_was_last_trained_at(state, options, step, tau):
    # Films as bright as the weight that a generator is told.
    net = SimpleNamespace(apply=lambda variables, z, c, tau, train: ((2 * tau - 1,), {}))
    moved = dataclasses.replace(state, step=jnp.int32(step))
    z, c = jnp.zeros((1, OPTIONS.noise)), jnp.zeros((1, 3))
    assert float(gan.sample(net, OPTIONS._replace(**options), moved, z, c)[0]) == pytest.approx(tau)


def test_a_ninth_class_widens_the_condition_and_what_reads_it():
    options = OPTIONS._replace(normal="ninth_class")
    assert (OPTIONS.width, options.width) == (3, 4)
    narrow, wide = (gan.condition_of(o, jnp.asarray(LABEL)) for o in (OPTIONS, options))
    assert np.array_equal(wide[:, :3], narrow)
    assert np.array_equal(wide[:, 3], [0, 0, 0, 1, 0, 0, 0, 1])
    for chosen in (OPTIONS, options):
        params = jax.eval_shape(partial(gan.init, NETS, chosen), jax.random.key(0), BATCH).params
        assert params["g"]["stem"]["kernel"].shape[0] == chosen.noise + chosen.width
        for name in NETS.d:
            joined = params[name]["join"]["kernel"].shape
            assert joined[2] - joined[3] == chosen.width


def test_the_pyramid_is_of_means_by_area_within_the_units_of_tanh():
    image = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 1)).astype(np.float32)
    films = gan.pyramid(jnp.asarray(image), (8, 16, 32))
    assert [film.shape for film in films] == [(2, s, s, 1) for s in (8, 16, 32)]
    np.testing.assert_allclose(films[2], 2 * image - 1, atol=1e-6)
    for film, area in ((films[1], 2), (films[0], 4)):
        blocks = (2 * image - 1).reshape(2, 32 // area, area, 32 // area, area, 1).mean(axis=(2, 4))
        np.testing.assert_allclose(film, blocks, atol=1e-6)


def test_samples_are_films_of_every_scale_by_the_average_of_the_weights(state):
    z, c = jax.random.normal(jax.random.key(0), (8, OPTIONS.noise)), gan.condition_of(OPTIONS, jnp.asarray(LABEL))
    call = jit(partial(gan.sample, NETS.g, OPTIONS))
    films = call(state, z, c)
    assert [film.shape for film in films] == [(8, s, s, 1) for s in NET["sizes"]]
    for film in films:
        assert 0 <= film.min() < film.max() <= 1
    assert same(films, call(dataclasses.replace(state, params={}, stats={}), z, c))  # reads the average alone
    alone = call(state, z[:1], c[:1])  # and not the other films of the batch
    np.testing.assert_allclose(alone[-1], films[-1][:1], atol=1e-5)


def test_rows_hold_the_likeness_of_a_film_to_another_of_its_condition(state):
    label = np.zeros((8, 3), np.float32)
    label[[0, 2, 5, 6], [1, 1, 1, 0]] = 1  # Effusion thrice, Cardiomegaly once, four of none of which one is padding
    films = BATCH.replace(label=label, valid=np.asarray([1, 1, 1, 1, 1, 1, 1, 0], np.float32))
    rows = jit(partial(gan.predict, NETS, OPTIONS))(state, films, jax.random.key(0))
    assert np.array_equal(rows["condition"], [1, 3, 1, 3, 3, 1, 0, 3])
    partner = {0: 2, 1: 3, 2: 5, 3: 4, 4: 1, 5: 0}
    for i, j in partner.items():
        expected = ms_ssim.ms_ssim(films.image[[i]], films.image[[j]])
        assert float(rows["real"][i]) == pytest.approx(float(expected[0]), abs=1e-5)
    assert np.isnan(rows["real"][6])  # the only film of its condition
    made = np.asarray(rows["made"])
    assert ((made >= 0) & (made < 1 - 1e-4)).all()  # two samples, not one twice


def test_the_summary_is_the_mean_by_class_and_how_many_have_collapsed(state):
    nan = np.nan
    rows = {
        "condition": np.asarray([0, 0, 1, 1, 2, 3], np.int32),
        "made": np.asarray([0.9, 0.7, 0.3, 0.5, 0.9, 0.55], np.float32),
        "real": np.asarray([0.2, nan, 0.5, 0.5, nan, 0.5], np.float32),
    }
    found = gan.summarize(OPTIONS._replace(collapse=0.1), rows)
    expected = {
        "ms_ssim/Cardiomegaly": 0.8, "ms_ssim_films/Cardiomegaly": 0.2, "ms_ssim/Effusion": 0.4,
        "ms_ssim_films/Effusion": 0.5, "ms_ssim/Normal": 0.55, "ms_ssim_films/Normal": 0.5, "collapsed": 1.0,
    }  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6)
    assert gan.summarize(OPTIONS._replace(collapse=0.01), rows)["collapsed"] == 2
    after = gan.on_eval(state, found)
    assert float(after.evals["collapsed"]) == 1
    assert same(after.params, state.params)


def config(**changes):
    return defaults.gan({"name": "cgan", **NET}, 1e-3, 10, 8, latent=8, **changes)


def test_a_configuration_becomes_a_task_whose_latent_holds_the_condition():
    task = TASKS["gan"](config(normal="ninth_class"), CLASSES)
    state = jax.eval_shape(task.init, jax.random.key(0), BATCH)
    assert state.params["g"]["stem"]["kernel"].shape[0] == 8
    assert set(state.params) == set(state.opt) == {"g", "d8", "d16"}
    assert gan.options_of(config(normal="ninth_class"), CLASSES).noise == 8 - 4
    assert gan.options_of(config(), CLASSES).noise == 8 - 3
    after, scalars = jax.eval_shape(task.step, state, BATCH, jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert "loss" in scalars


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "least_square"}, "did you mean"), ({"ratio_mode": "one_d"}, "ratio_mode"),
        ({"normal": "zero"}, "normal"), ({"ratio": 0}, "ratio = 0"), ({"priority": ("Mass",)}, "Cardiomegaly"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_told_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        gan.options_of(config(**changes), CLASSES)


def test_a_latent_without_room_for_noise_is_told():
    wide = config()
    wide.latent = 3
    with pytest.raises(UserError, match="latent = 3"):
        gan.options_of(wide, CLASSES)
