"""Cases of `bench.py` about diffusion."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def simplex(repeats: int, *, side: int = 256, octaves: int = 6) -> list[Any]:
    """One field of simplex noise, all octaves at one time, by PyPI's opensimplex and by ours."""
    import jax.numpy as jnp
    import numpy as np
    from bench import Timed, compiled, rates

    from cxrjax.errors import UserError
    from cxrjax.ops import simplex as ops

    try:
        import opensimplex
    except ImportError:
        raise UserError(
            "this case compares with opensimplex, which is not installed; run: pip install opensimplex"
        ) from None
    theirs, t, persistence, wavelength = opensimplex.OpenSimplex(3), 100.0, 0.8, 64.0

    def octave_by_octave() -> None:
        total = np.zeros((side, side))
        for o in range(octaves):
            places = np.arange(side) * 2**o / wavelength
            total += persistence**o * theirs.noise3array(places, places, np.array([t * 2**o / wavelength]))[0]

    def ours(perm: Any, t: Any) -> Any:
        return ops.fractal(perm, (side, side), t, octaves=octaves, persistence=persistence, wavelength=wavelength)

    call, took = compiled(ours, jnp.asarray(ops.permutation_from_seed(3), jnp.int32), jnp.float32(t))
    words, numba = f"{octaves} octaves of {side} px", "with" if find_spec("numba") else "without"
    variants = {
        f"opensimplex ({numba} numba), {words}": Timed(octave_by_octave, 1),
        f"cxrjax, {words}": Timed(call, 1, took),
    }
    return rates(variants, repeats, "fields/s")
