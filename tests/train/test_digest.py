"""The digest of a leaf hangs on each of its bits and on their order."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.train.digest import leaf_digest


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "float16", "bfloat16", "float32", "complex64"])
def test_digest_sees_every_bit_flip_and_the_order(dtype: str) -> None:
    rng = np.random.default_rng(0)
    kind = jnp.dtype(dtype)
    x = np.asarray(rng.normal(size=(2, 3)) > 0 if dtype == "bool" else rng.normal(size=(2, 3)) * 9).astype(kind)
    seen = {int(leaf_digest(jnp.asarray(x)))}
    variants = 1
    raw = x.tobytes()
    for bit in range(0, 8 * len(raw), 8 if dtype == "bool" else 1):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << (bit % 8)
        seen.add(int(leaf_digest(jnp.asarray(np.frombuffer(bytes(flipped), kind).reshape(x.shape)))))
        variants += 1
    assert len(seen) == variants


def test_digest_sees_a_number_and_its_negative_trade_places() -> None:
    a = jnp.asarray([1.0, 2.0, -1.0, 3.0])
    assert int(leaf_digest(a)) != int(leaf_digest(a[jnp.asarray([2, 1, 0, 3])]))
