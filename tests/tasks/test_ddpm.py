import types
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import defaults, models
from cxrjax.errors import UserError
from cxrjax.ops import diffusion
from cxrjax.tasks import ddpm
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

NET = models.build("unet_tiny", base=8, mults=(1,), groups=4, patch=2, updown="plain")
TX = optax.adam(2e-3)
SCHEDULE = diffusion.linear(1000)
# Compiled, without LLVM's optimizer, and once for each set of options: step by step, operations cost a minute.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def fresh():
    return jit(partial(ddpm.init, NET, TX))(jax.random.key(0), batch())


@cache
def stepper(options=ddpm.Options()):  # noqa: B008  a tuple
    return jit(partial(ddpm.step, NET, TX, SCHEDULE, options))


def batch(n=8, size=16):
    rows = np.linspace(0, 1, size, dtype=np.float32)
    image = np.broadcast_to(rows[None, :, None, None], (n, size, size, 1)).copy()
    return Batch(image, np.zeros((n, 2), np.float32), np.ones(n, np.float32), np.arange(n, dtype=np.int32))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_training_steps_lower_the_loss_on_a_fixed_batch_and_key(prediction):
    options = ddpm.Options(prediction=prediction, ema=0.5)
    state = fresh()
    step = stepper(options)
    losses = []
    for _ in range(12):
        state, scalars = step(state, batch(), jax.random.key(3))
        losses.append(float(scalars["loss"]))
    assert losses[1] < losses[0]
    assert losses[-1] < 0.9 * losses[0]


def test_the_first_epsilon_loss_of_a_zero_network_is_the_noise_power():
    state = fresh()
    _, scalars = stepper()(state, batch(), jax.random.key(0))
    assert float(scalars["loss"]) == pytest.approx(1.0, abs=0.1)


def test_the_moving_average_warms_up_and_then_trails():
    options = ddpm.Options(ema=0.9)
    state = fresh()
    old = np.asarray(state.ema["unet"]["out"]["bias"])
    new, _ = stepper(options)(state, batch(), jax.random.key(0))
    d = min(0.9, 1 / 10)  # n = 0
    expected = d * old + (1 - d) * np.asarray(new.params["unet"]["out"]["bias"])
    np.testing.assert_allclose(new.ema["unet"]["out"]["bias"], expected, rtol=1e-6)


def test_padding_has_no_share_in_loss_or_update():
    real = batch(4)
    padded = jax.tree.map(lambda x: np.concatenate([x, 0.9 * np.ones_like(x)]).astype(x.dtype), real)
    padded = padded.replace(valid=np.asarray([1, 1, 1, 1, 0, 0, 0, 0], np.float32))
    state = fresh()
    changed = padded.replace(image=np.where(padded.valid[:, None, None, None] > 0, padded.image, 0.1))
    a, _ = stepper()(state, padded, jax.random.key(0))
    b, _ = stepper()(state, changed, jax.random.key(0))
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_times_are_drawn_from_one_to_t_max():
    seen = []

    def drawn(key, t, shape):
        jax.debug.callback(lambda t: seen.append(int(t)), t)
        return jnp.zeros(shape)

    state = fresh()
    step = stepper(ddpm.Options(noise=drawn, t_max=3))
    for i in range(8):
        jax.block_until_ready(step(state, batch(), jax.random.key(i)))
    jax.effects_barrier()
    assert len(seen) == 8 * 8
    assert set(seen) == {1, 2, 3}


def test_evaluation_is_the_same_at_every_call_and_reads_the_average():
    state = fresh()
    run = partial(ddpm.predict, NET, SCHEDULE, ddpm.Options())
    a, b = run(state, batch(), jax.random.key(5))["loss"], run(state, batch(), jax.random.key(5))["loss"]
    assert a.shape == (8, 4)
    assert np.array_equal(a, b)
    moved = state.replace(params=jax.tree.map(lambda p: p + 1.0, state.params))
    assert np.array_equal(run(moved, batch(), jax.random.key(5))["loss"], a)


def test_the_predictor_hands_the_network_the_index_and_gives_noise():
    schedule = SCHEDULE
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
    variables = jax.tree.map(lambda p: p + 0.01, fresh().params["unet"])

    @jit
    def three(variables, x, index):
        epsilon, from_v = (ddpm.noise_predictor(NET, schedule, kind, variables)(x, index) for kind in ("epsilon", "v"))
        return epsilon, from_v, NET.apply({"params": variables}, x, index, train=False)[0]

    epsilon, from_v, direct = three(variables, x, jnp.asarray([4, 4]))
    np.testing.assert_allclose(epsilon, direct, atol=1e-6)
    np.testing.assert_allclose(from_v, diffusion.to_epsilon(schedule, x, jnp.int32(5), direct, "v"), atol=1e-6)


def test_the_predictor_refuses_times_of_the_other_kind():
    x = jnp.zeros((2, 16, 16, 1))
    for time, index in (("scalar", jnp.zeros((2, 16, 16), jnp.int32)), ("map", jnp.zeros(2, jnp.int32))):
        with pytest.raises(UserError, match=f"trained with time = '{time}'"):
            ddpm.noise_predictor(NET, SCHEDULE, "v", {}, time)(x, index)


def test_a_map_of_times_is_told_to_the_network_and_clean_pixels_cost_nothing():
    seen = []

    class Spy:
        def apply(self, variables, x, t, train, rngs=None):
            seen.append((np.asarray(x), np.asarray(t)))
            return jnp.full_like(x, 3.0), {}

    options = ddpm.Options(t_max=500, time="map", noise=lambda key, t, shape: jnp.zeros(shape))
    x0 = 2 * jnp.asarray(batch(32).image) - 1
    loss = ddpm._loss(Spy(), SCHEDULE, options, {}, x0, jnp.full(32, 400), jax.random.key(0), True)
    x, index = seen[0]
    t = index + 1
    assert t.shape == (32, 16, 16)
    assert t.min() == 0
    assert t.max() == 400
    assert len(np.unique(t)) > 50  # there are soft edges
    np.testing.assert_array_equal(x[t == 0], np.asarray(x0)[t == 0])
    expected = np.where(t > 0, 9.0, 0.0)  # the answer is 3 everywhere, and epsilon's target the noise, 0
    counts = (t > 0).sum(axis=(1, 2))
    np.testing.assert_allclose(loss, expected.sum(axis=(1, 2)) / np.maximum(counts, 1), rtol=1e-5)


def test_simplex_noise_is_one_field_a_film_at_its_own_time():
    seen = []

    def drawn(key, t, shape):
        jax.debug.callback(lambda t: seen.append(int(t)), t)
        return jnp.zeros(shape)

    options = ddpm.Options(noise=drawn, t_max=50)
    state = fresh()
    out = stepper(options)(state, batch(), jax.random.key(0))
    jax.block_until_ready(out)
    jax.effects_barrier()
    times = jax.random.randint(jax.random.split(jax.random.key(0))[0], (8,), 1, 51)
    assert sorted(seen) == sorted(np.asarray(times).tolist())


@pytest.mark.parametrize("options", [ddpm.Options(), ddpm.Options(time="map", t_max=300)])
def test_a_films_validation_loss_does_not_depend_on_its_batch(options):
    rng = np.random.default_rng(0)
    films = batch(12).replace(image=rng.uniform(0, 1, (12, 16, 16, 1)).astype(np.float32))

    class Blur:
        def apply(self, variables, x, t, train, rngs=None):
            return x + jnp.roll(x, 1, axis=1), {}

    state = types.SimpleNamespace(ema={"unet": {}})
    quick = {"xla_backend_optimization_level": 0}
    run = jax.jit(lambda batch, key: ddpm.predict(Blur(), SCHEDULE, options, state, batch, key), compiler_options=quick)

    def losses(size, devices=1):
        mesh = meshes.make(devices)
        parts = [jax.tree.map(lambda x, i=i: x[i : i + size], films) for i in range(0, 12, size)]
        key = meshes.replicate(mesh, jax.random.key(5))
        return loop.evaluate(lambda state, *given: run(*given), state, parts, mesh, key)["loss"]

    whole = losses(12)
    assert len(np.unique(whole[:, 0])) == 12
    np.testing.assert_allclose(losses(4), whole, rtol=1e-4)
    if jax.device_count() >= 2 and options.time == "scalar":
        np.testing.assert_allclose(losses(6, 2), whole, rtol=1e-4)


def test_octaves_below_two_pixels_are_warned_of():
    phase = defaults.diffusion({"name": "unet_tiny"}, defaults.optim("adam", 1e-3), 1, 1)
    assert ddpm.notes(phase, "d") == []  # Gaussian
    phase.noise = "simplex"
    assert ddpm.notes(phase, "d") == []  # from 64 pixels down to 2
    for wavelength, octaves, seen in ((16.0, 6, 4), (16.0, 5, 4), (3.0, 2, 1), (1.5, 1, 0)):
        phase.simplex.update({"wavelength": wavelength, "octaves": octaves})
        (note,) = ddpm.notes(phase, "d")
        assert f"{octaves} octaves" in note
        assert f"of which {seen} are of the 2 pixels" in note
        assert "d.simplex.octaves" in note
    phase.simplex.update({"wavelength": 16.0, "octaves": 4})
    assert ddpm.notes(phase, "d") == []


def test_a_class_is_told_unless_it_is_unknown_or_dropped_in_its_share():
    label = np.array([[1, 0], [0, 1], [np.nan, 1], [1, 1], [0, 0]], np.float32)
    assert ddpm.told(2, label).tolist() == [0, 1, 2, 2, 2]
    many = np.eye(2, dtype=np.float32)[np.arange(4000) % 2]
    said = np.asarray(ddpm.told(2, many, 0.35, jax.random.key(0)))
    assert np.mean(said == 2) == pytest.approx(0.35, abs=0.03)
    np.testing.assert_array_equal(said[said < 2], (np.arange(4000) % 2)[said < 2])


def test_a_network_that_is_told_answers_by_class_and_learns_the_classes_it_is_told_alone():
    net = NET.clone(told=2)
    shapes = jax.eval_shape(partial(ddpm.init, net, TX), jax.random.key(0), batch()).params["unet"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)
    x, t = batch(3).image, np.array([100, 100, 100])

    def answers(label):
        return net.apply({"params": params}, x, t, label=label)[0]

    none, untold, first, second = jit(lambda: [answers(k if k is None else jnp.full(3, k)) for k in (None, 2, 0, 1)])()
    np.testing.assert_array_equal(none, untold)
    assert min(np.abs(first - none).max(), np.abs(first - second).max()) > 1e-3

    def loss(params, label):
        key = jax.random.key(0)
        return ddpm._loss(net, SCHEDULE, ddpm.Options(), params, x, t, key, True, None, label).sum()

    moved = jit(jax.grad(loss))(params, np.array([0, 2, 2]))["told"]["embedding"]
    assert [bool(np.any(row)) for row in np.asarray(moved)] == [True, False, True]


@pytest.mark.parametrize(
    ("net", "changes", "words"),
    [
        ({"told": 3}, {"only": ""}, "net.told = 3: expected 2, one a class of Normal, Pneumonia"),
        ({"told": 2}, {"only": "Normal"}, "net.told = 2 with only = 'Normal'"),
        ({"told": 2}, {"only": "", "drop": 0.0}, "drop = 0.0: expected a share"),
    ],
)
def test_a_network_that_could_not_be_told_is_refused(net, changes, words):
    config = defaults.diffusion({"name": "unet_tiny", **net}, defaults.optim("adam", 1e-3), 2, 2, **changes)
    with pytest.raises(UserError, match=words):
        ddpm.make(config, ("Normal", "Pneumonia"))
