"""What is wrong in the published AnoDDPM code, shown to be right here; that of its metrics is with the metrics."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults, models
from cxrjax.infer import diffusion as systems
from cxrjax.ops import diffusion, guidance, noise, sampling
from cxrjax.tasks import ddpm
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.train.optim import path_of

SCHEDULE = diffusion.linear(1000)


def config(**net):
    tiny = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4, **net}
    return defaults.diffusion(tiny, defaults.optim("adamw", 1e-3), 10, 2)


@pytest.mark.slow
def test_reference_bug_films_are_noised_one_step_further_than_they_are_denoised():
    seen = []

    def spy(x, index):
        jax.debug.callback(lambda x, i: seen.append((int(i[0]), np.asarray(x))), x, index)
        return jnp.zeros_like(x)

    image = jnp.full((4000, 1, 1, 1), 0.9)
    keys = jax.random.split(jax.random.key(0), 4000)
    sampler = sampling.Sampler(stride=250)
    out = guidance.treat(spy, SCHEDULE, image, jnp.ones_like(image), 250, keys, mode="uniform", sampler=sampler)
    jax.block_until_ready(out)
    jax.effects_barrier()
    (index, x), *rest = seen
    assert not rest
    assert index == 249  # the first network call is told the very noise that was added
    alpha_bar = float(np.prod(1 - np.linspace(1e-4, 2e-2, 1000)[:250]))
    assert abs(x.mean() - 0.8 * np.sqrt(alpha_bar)) < 4 * np.sqrt((1 - alpha_bar) / 4000)
    assert abs(x.std() - np.sqrt(1 - alpha_bar)) < 0.03


@pytest.mark.slow
def test_reference_bug_one_noise_field_serves_a_whole_batch():
    draw = partial(noise.of("simplex", {"wavelength": 8.0}))
    fields = np.asarray(noise.draw(draw, jax.random.split(jax.random.key(0), 4), jnp.full(4, 7), (16, 16, 2)))
    flat = fields.transpose(0, 3, 1, 2).reshape(8, -1)
    alike = np.corrcoef(flat) - np.eye(8)
    assert np.abs(alike).max() < 0.7  # another film's or channel's field would be 1


def test_reference_bug_attention_resolutions_never_reach_the_network():
    def attended(sides):
        net = models.build("unet", attention=sides)
        image, t = jax.ShapeDtypeStruct((1, 256, 256, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
        params = jax.eval_shape(net.init, jax.random.key(0), image, t)["params"]
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return sum(leaf.size for _, leaf in leaves), {path_of(path).split("/")[0] for path, _ in leaves}

    wide, narrow = attended((32, 16, 8)), attended((16, 8))
    assert (wide[0], narrow[0]) == (131_649_793, 130_331_393)
    assert narrow[1] < wide[1]
    assert all("attention" in name for name in wide[1] - narrow[1])


@pytest.mark.slow
def test_reference_bug_evaluation_builds_the_network_with_another_number_of_heads():
    phase = config(heads=2)
    task = ddpm.make(phase)
    blank = ConfigDict({"image": np.zeros((2, 8, 8, 1), np.float32)})
    state = task.init(jax.random.key(0), blank)
    assert systems.of(phase, state, meshes.make(1)).net == ddpm.network(phase)
    assert systems.of(phase, state, meshes.make(1)).net.heads == 2
    one = ddpm.network(config(heads=1))
    x, t = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([5, 500])
    awake = jax.tree.map(lambda p: p + 0.05 * jax.random.normal(jax.random.key(p.size), p.shape), state.params["unet"])
    two_heads = ddpm.network(phase).apply({"params": awake}, x, t)[0]
    assert float(jnp.abs(two_heads - one.apply({"params": awake}, x, t)[0]).max()) > 1e-4  # the weights fit both


def test_reference_bug_resuming_loads_the_average_into_the_trained_weights(tmp_path):
    blank = ConfigDict({"image": np.zeros((2, 8, 8, 1), np.float32)})
    state = ddpm.make(config()).init(jax.random.key(0), blank)
    state = dataclasses.replace(state, params=jax.tree.map(lambda p: p + 1.0, state.params))
    with Checkpoints(tmp_path / "diffusion", best=None) as checkpoints:
        checkpoints.save(1, state, {"position": 0}, {}, done=False)
        checkpoints.wait()
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        found = checkpoints.restore(target).state
    for trained, averaged, before in zip(
        *(jax.tree.leaves(tree) for tree in (found.params, found.ema, state.params)), strict=True
    ):
        np.testing.assert_array_equal(trained, before)
        np.testing.assert_allclose(trained - averaged, 1.0, atol=1e-6)
