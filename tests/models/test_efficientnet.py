"""EfficientNet-Lite: its shapes by stride, its padding, its stochastic depth."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models
from cxrjax.models.efficientnet import Block, rounded


def test_every_stride_has_its_last_map() -> None:
    net = models.build("efficientnet_lite0", num_classes=2)
    films = jax.ShapeDtypeStruct((2, 75, 64, 1), jnp.float32)
    (_, ends), _ = jax.eval_shape(net.init_with_output, jax.random.key(0), films)
    stages = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}
    expected = {f"stride{s}": (2, -(-75 // s), -(-64 // s), c) for s, c in stages.items()}  # SAME rounds up
    assert {name: end.shape for name, end in ends.items() if name.startswith("stride")} == expected
    assert ends["features"].shape == (2, 3, 2, 1280)


def test_widths_are_rounded_as_lite2_is_published() -> None:
    assert [rounded(1.1 * width) for width in (16, 24, 40, 80, 112, 192, 320)] == [16, 24, 48, 88, 120, 208, 352]
    assert rounded(11) == 16  # 8 would take away more than a tenth


@pytest.mark.parametrize(("side", "counts"), [(8, (3, 3, 3, 2)), (7, (2, 3, 3, 2))])
def test_a_strided_map_of_even_side_is_padded_at_its_end_alone(side: int, counts: tuple[int, ...]) -> None:
    """A 3x3 depthwise kernel of ones counts the positions of each window that lie on the map: torch's padding has its
    short windows first at an even side, TensorFlow's last."""
    block = Block(width=1, kernel=3, stride=2, expand=1)
    x = np.full((1, side, side, 1), 0.5, np.float32)
    shapes = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)
    y = block.apply(jax.tree.map_with_path(_plain, shapes), x, train=False)
    np.testing.assert_allclose(y[0, :, :, 0], 0.5 * np.outer(counts, counts), rtol=2e-3)  # BatchNorm's epsilon


def _plain(path: Any, leaf: Any) -> np.ndarray:
    """Ones where something multiplies, zeros where something is added."""
    return np.full(leaf.shape, path[-1].key in ("kernel", "var", "scale"), np.float32)


def test_stochastic_depth_leaves_out_whole_residuals_and_keeps_the_mean() -> None:
    block = Block(width=4, kernel=3, expand=1, drop=0.25)
    x = np.random.default_rng(0).uniform(size=(400, 2, 2, 4)).astype(np.float32)
    shapes = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map_with_path(_plain, shapes)

    def residual(**options: Any) -> np.ndarray:
        y, _ = block.apply(variables, x, mutable=["batch_stats"], **options)
        return np.asarray(y) - x

    whole = residual(train=True, rngs={"dropout": jax.random.key(1)})
    calm = Block(width=4, kernel=3, expand=1).apply(variables, x, train=True, mutable=["batch_stats"])[0] - x
    kept = np.abs(whole).max(axis=(1, 2, 3)) > 0
    assert 0.65 < kept.mean() < 0.85
    np.testing.assert_allclose(whole[kept], np.asarray(calm)[kept] / 0.75, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(residual(train=False), residual(train=False, rngs={"dropout": jax.random.key(2)}))
