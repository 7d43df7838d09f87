"""The same guidance in latent space, with a small autoencoder and a network that answers something."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.infer import classifier
from cxrjax.infer import diffusion as systems
from cxrjax.ops import diffusion, guidance, noise, sampling
from cxrjax.tasks import classify, latent
from cxrjax.train import mesh as meshes

CODEC = models.build_autoencoder("autoencoder_tiny", channels=(8, 8), groups=4, latent=2, patch=1)[0]
UNET = models.build("unet_tiny", base=8, mults=(1,), groups=4)
IMAGE = jax.random.uniform(jax.random.key(1), (2, 16, 16, 1), minval=0.2, maxval=0.8)
KEYS = jax.random.split(jax.random.key(7), 2)
SAMPLER = sampling.Sampler(stride=100, variance="small", clip=None)


def shaken(variables: Any) -> Any:
    return jax.tree.map(lambda p: p + 0.02 * jax.random.normal(jax.random.key(p.size), p.shape), variables)


@pytest.fixture(scope="module")
def system() -> systems.Diffusion:
    blank = jnp.zeros((1, 16, 16, 1))
    params = jax.jit(CODEC.init)(jax.random.key(0), blank, jnp.zeros(CODEC.latent_shape(blank.shape)))["params"]
    z = latent.to_latent(CODEC, params, jnp.float32(1), IMAGE)
    unet = jax.jit(UNET.init)(jax.random.key(1), z, jnp.zeros(2, jnp.int32))["params"]
    variables = {"unet": shaken(unet), "autoencoder": params, "scale": 1 / z.std()}
    return systems.Diffusion(UNET, diffusion.linear(1000), "v", "scalar", noise.gaussian, variables, CODEC)


@pytest.fixture(scope="module")
def treat(system: systems.Diffusion) -> Any:
    @partial(jax.jit, static_argnames=("pool", "paste"))
    def run(mask: Any, lam: Any, mode: Any, pool: str = "max", paste: bool = False) -> Any:
        return systems.treat(system, IMAGE, mask, lam, KEYS, mode=mode, sampler=SAMPLER, pool=pool, paste=paste)

    return lambda mask, lam, mode, **options: run(mask, lam, jnp.full(2, guidance.code(mode)), **options)


MASK = jnp.zeros((2, 16, 16, 1)).at[:, 4:9, 4:9].set(1.0)


def test_a_mask_comes_to_the_grid_by_its_greatest_or_its_mean_value():
    small = MASK.at[:, 12, 12].set(1.0)
    widest, mean = (systems.to_grid(small, 4, pool)[0, ..., 0] for pool in ("max", "mean"))
    assert widest.shape == (4, 4)
    assert float(widest[3, 3]) == 1.0
    assert float(mean[3, 3]) == 1 / 16
    np.testing.assert_allclose(mean.sum() * 16, small[0].sum(), rtol=1e-6)


def test_nothing_treated_is_the_round_trip(system, treat):
    back = systems.round_trip(system, IMAGE)
    for mode in ("time_gated", "noise_matrix"):
        np.testing.assert_allclose(treat(0 * MASK, 300, mode), back, atol=1e-5)
    np.testing.assert_allclose(treat(MASK, 0, "uniform"), back, atol=1e-5)
    assert float(jnp.abs(back - IMAGE).mean()) > 1e-3  # what pasting is for


def test_pasting_returns_what_lies_outside_the_mask_bit_for_bit(treat):
    pasted = treat(MASK, 300, "time_gated", paste=True)
    outside = np.asarray(MASK) == 0
    assert np.array_equal(np.asarray(pasted)[outside], np.asarray(IMAGE)[outside])
    assert (np.asarray(pasted)[~outside] != np.asarray(IMAGE)[~outside]).mean() > 0.9
    blended = treat(MASK, 300, "mask_blend")
    assert np.array_equal(np.asarray(blended)[outside], np.asarray(IMAGE)[outside])


def test_a_full_mask_is_uniform_in_latent_space_too(treat):
    full = jnp.ones_like(MASK)
    uniform = treat(full, 300, "uniform")
    for mode in ("time_gated", "noise_matrix", "mask_blend"):
        np.testing.assert_allclose(treat(full, 300, mode), uniform, atol=1e-5)


def test_the_walk_sees_scaled_latents_and_the_decoder_divides(system):
    codec = (CODEC, system.variables["autoencoder"], system.variables["scale"])
    z = latent.to_latent(*codec, IMAGE)
    assert float(z.std()) == pytest.approx(1.0, abs=1e-3)
    seen = []

    class Spy:
        def apply(self, variables: Any, x: Any, t: Any, train: bool) -> Any:
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
            return jnp.zeros_like(x), {}

    spied: Any = system._replace(net=Spy())  # type: ignore[arg-type]
    out = systems.treat(spied, IMAGE, 0 * MASK, 1, KEYS, mode="time_gated", sampler=SAMPLER._replace(stride=1))
    jax.block_until_ready(out)
    jax.effects_barrier()
    np.testing.assert_allclose(seen[0], z, atol=0.1)  # one step of noise is 0.01


def test_a_classifier_of_latents_explains_them_on_their_own_grid(system):
    net = models.build("resnet_tiny", num_classes=2, blocks=(1,), widths=(8,), stem_stride=1)
    z = jnp.zeros((1, *CODEC.latent_shape(IMAGE.shape)[1:]))
    variables = {k: system.variables[k] for k in ("autoencoder", "scale")}
    variables["net"] = jax.jit(net.init)(jax.random.key(3), z)
    classes, options = ("Normal", "Pneumonia"), classify.Options(normalize="symmetric")
    judge = classifier.Classifier(net, options, variables, classes, IMAGE.shape[1], meshes.make(1), CODEC)
    codec = (CODEC, variables["autoencoder"], variables["scale"])
    np.testing.assert_allclose(classifier.seen(judge, IMAGE), latent.to_latent(*codec, IMAGE), atol=1e-5)
    heat = classifier.heat(judge, "latent_gradcam", "difference", IMAGE)
    assert heat.shape == (2, *CODEC.latent_shape(IMAGE.shape)[1:3])
    found = classifier.outputs(judge, IMAGE)
    assert found["prob"].shape == (2, 2)
    assert found["pool"].shape == (2, 8)
