import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.ops import cam


def by_weights(features, kernel):
    """CAM^c = sum_k w_k^c A^k, (b, h, w, classes) (Zhou et al. 2016, eq. 2)."""
    return jnp.einsum("bhwk,kc->bhwc", features, kernel, precision="highest")


def features(key=0, shape=(2, 5, 6, 7)):
    return jax.random.normal(jax.random.key(key), shape)


def test_grad_cam_of_a_linear_head_is_relu_cam_over_the_area():
    x, kernel = features(), jax.random.normal(jax.random.key(1), (7, 3))

    def head(f):
        return jnp.einsum("bk,kc->bc", f.mean(axis=(1, 2)), kernel, precision="highest")

    for c in range(3):
        got = cam.grad_cam(x, head, lambda logits, c=c: logits[:, c])
        np.testing.assert_allclose(got, jax.nn.relu(by_weights(x, kernel)[..., c]) / 30, atol=1e-6)


@pytest.mark.slow
def test_grad_cam_identity_holds_for_a_network_of_the_library():
    net = models.build("densenet_tiny", num_classes=2)
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 1))
    variables = net.init(jax.random.key(1), x, train=False)
    _, endpoints = net.apply(variables, x, train=False)
    kernels = [v for v in jax.tree.leaves(variables["params"]["head"]) if v.ndim == 2]
    assert len(kernels) == 1  # pooling and one linear layer
    maps = by_weights(endpoints["features"], kernels[0])
    got = cam.grad_cam(
        endpoints["features"], lambda f: net.apply(variables, f, method="head_from"), lambda y: y[:, 1] - y[:, 0]
    )
    area = maps.shape[1] * maps.shape[2]
    np.testing.assert_allclose(got, jax.nn.relu(maps[..., 1] - maps[..., 0]) / area, atol=1e-6)


def test_min_max_fills_the_unit_interval_and_leaves_constant_maps_empty():
    x = jnp.concatenate([features()[..., 0], jnp.full((1, 5, 6), 3.0)])
    y = np.asarray(cam.min_max(x))
    np.testing.assert_allclose(y[:2].min(axis=(1, 2)), 0)
    np.testing.assert_allclose(y[:2].max(axis=(1, 2)), 1)
    assert (y[2] == 0).all()


@pytest.mark.parametrize("value", [0.37, 1e-20, -12345.678, 3e30])
@pytest.mark.parametrize("blur_std", [0.0, 3.0])
def test_a_constant_map_is_an_empty_mask_whatever_enlarging_makes_of_it(value, blur_std):
    heat = jnp.full((1, 7, 7), value, jnp.float32)
    for size in ((224, 224), (65, 50)):
        assert (np.asarray(cam.to_mask(heat, size, blur_std=blur_std)) == 0).all()
        assert (np.asarray(cam.to_mask(heat, size, blur_std=blur_std, threshold=0.3)) == 0).all()
    # Rounding alone, as an average of equal numbers leaves it.
    noisy = heat * (1 + 2e-7 * jnp.asarray(np.random.default_rng(0).choice([-1, 0, 1], (1, 7, 7))))
    assert (np.asarray(cam.min_max(noisy)) == 0).all()
    assert float(cam.min_max(heat.at[0, 2, 3].multiply(1.001)).max()) > 0.999  # a small difference is one all the same


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("options", [{}, {"threshold": 0.3}, {"floor": 0.2}, {"blur_std": 2.0}])
def test_a_map_that_is_not_finite_is_no_mask(bad, options):
    heat = jax.nn.relu(features()[..., 0]).at[0, 2, 2].set(bad)
    mask = np.asarray(cam.to_mask(heat, (20, 24), **options))
    assert np.isnan(mask[0]).all()
    assert np.isfinite(mask[1]).all()


def test_blur_keeps_constants_and_mass_and_spreads_a_point():
    flat = jnp.full((1, 21, 21), 0.4)
    np.testing.assert_allclose(cam.blur(flat, 2.0), flat, atol=1e-6)
    point = jnp.zeros((1, 41, 41)).at[0, 20, 20].set(1.0)
    out = np.asarray(cam.blur(point, 2.0))
    np.testing.assert_allclose(out.sum(), 1, atol=1e-5)
    at = np.arange(41) - 20
    np.testing.assert_allclose((out[0].sum(axis=0) * at**2).sum(), 4.0, rtol=0.03)  # variance is std^2
    assert np.array_equal(cam.blur(point, 0.0), point)


def test_masks_obey_threshold_floor_and_power():
    heat = jax.nn.relu(features()[..., 0])
    soft = np.asarray(cam.to_mask(heat, (20, 24)))
    assert soft.shape == (2, 20, 24, 1)
    hard = np.asarray(cam.to_mask(heat, (20, 24), threshold=0.3))
    assert set(np.unique(hard)) == {0.0, 1.0}
    assert np.array_equal(hard > 0, soft > 0.3)
    assert np.asarray(cam.to_mask(heat, (20, 24), floor=0.25)).min() == 0.25
    np.testing.assert_allclose(cam.to_mask(heat, (20, 24), power=0.5), np.sqrt(soft), atol=1e-6)
    assert (np.asarray(cam.to_mask(jnp.zeros((2, 4, 4)), (20, 24))) == 0).all()
