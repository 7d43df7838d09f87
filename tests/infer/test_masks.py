"""The masks that films are treated by."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.infer import arms, masks
from cxrjax.ops import cam


def test_a_mask_within_the_lungs_is_empty_outside_them(monkeypatch):
    mask = arms.Mask("classifier", False, "anomaly", "difference", 0.0, 1.0, 0.0, 0.3, True, 200)
    heat = np.asarray(jax.random.uniform(jax.random.key(0), (2, 16, 16)))
    fields = np.zeros((2, 16, 16, 1), np.float32)
    fields[:, :, 8:] = 1.0
    monkeypatch.setattr(masks, "lung_fields", lambda image: (fields, np.ones(2, bool)))
    image: Any = np.zeros((2, 16, 16, 1), np.float32)
    found = masks.make((mask,), {}, image, None, 2, lambda lam: heat)[mask]  # type: ignore[arg-type]
    assert (found[:, :, :8] == 0).all()
    np.testing.assert_allclose(found[:, :, 8:], cam.to_mask(jnp.asarray(heat), (16, 16))[:, :, 8:], atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_told_and_no_empty_mask(bad):
    mask = arms.Mask("classifier", True, "anomaly", "difference", 0.0, 1.0, 0.0, 0.3, False, 200)
    heat = np.asarray(jax.random.uniform(jax.random.key(0), (2, 16, 16))).copy()
    heat[1, 3, 3] = bad
    image: Any = np.zeros((2, 16, 16, 1), np.float32)
    with pytest.raises(UserError, match=r"classifier \(anomaly\) is not finite on 1 of 2 films, the first at 1"):
        masks.make((mask,), {}, image, None, 2, lambda lam: heat)  # type: ignore[arg-type]
