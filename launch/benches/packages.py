"""The cases that stand beside packages of PyPI: phase features, the Frechet distance, simplex noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from benches.timing import Case, Row, Timed, compiled, rates


def enh(repeats: int, *, side: int = 299, batch: int = 16, alone: int = 4) -> list[Row]:
    """The three phase features of a batch of films against phasepack's two functions, film by film."""
    from cxrjax.ops import enhance

    return _phase(
        enhance.enhance, "ENH: LwPA, LPE, ELEA", ("phasecongmono", "phasesymmono"), repeats, side, batch, alone
    )


def lwpa(repeats: int, *, side: int = 299, batch: int = 16, alone: int = 4) -> list[Row]:
    """One phase feature against the phasepack function that computes it; same filters, so like for like."""
    from cxrjax.ops import enhance, monogenic

    options = enhance.DEFAULT._replace(bank=monogenic.PHASECONGMONO)
    return _phase(lambda x: enhance.lwpa(x, options), "LwPA", ("phasecongmono",), repeats, side, batch, alone)


def _phase(
    ours: Callable[..., Any], name: str, theirs: Sequence[str], repeats: int, side: int, batch: int, alone: int
) -> list[Row]:
    """Both sides get the same float32 films, and phasepack as many scales as we have."""
    import jax
    import numpy as np

    from cxrjax.errors import UserError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells that pyfftw is missing; the table says which FFT ran
            import phasepack
            from phasepack import tools
    except ImportError:
        raise UserError(
            "this case compares with phasepack, which is not installed; run: pip install phasepack"
        ) from None
    films = np.random.default_rng(0).random((batch, side, side), np.float32)
    bank = {"nscale": 5, "minWaveLength": 3, "mult": 2.1, "sigmaOnf": 0.55}
    functions = [getattr(phasepack, function) for function in theirs]

    def one_by_one() -> None:
        for film in films[:alone]:
            for function in functions:
                function(film, **bank)

    transform = "pyfftw" if "pyfftw" in tools.fft2.__module__ else "fftpack"
    variants = {
        f"phasepack ({transform}): {', '.join(theirs)}": Timed(one_by_one, alone),
        f"cxrjax: {name}, {batch} films of {side} px": compiled(ours, jax.device_put(films), items=batch),
    }
    return rates(variants, repeats, "films/s")


def frechet(repeats: int, *, films: int = 5859, features: int = 1024) -> list[Row]:
    """The Frechet distance of two sets of features by scipy's sqrtm and by singular values."""
    import numpy as np
    from scipy import linalg
    from threadpoolctl import threadpool_limits

    from cxrjax.metrics import frechet as metrics

    a, b = (np.random.default_rng(i).standard_normal((films, features)) for i in range(2))

    def by_sqrtm() -> None:
        product = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
        np.trace(linalg.sqrtm(product).real)

    words = f"{films} x {features} features"
    with threadpool_limits(1):
        return rates(
            {f"scipy sqrtm, {words}": Timed(by_sqrtm, 1), f"cxrjax, {words}": Timed(lambda: metrics.distance(a, b), 1)},
            repeats, "distances/s",
        )  # fmt: skip


def simplex(repeats: int, *, side: int = 256, octaves: int = 6) -> list[Row]:
    """One field of simplex noise, all octaves at one time, by PyPI's opensimplex and by ours."""
    import jax.numpy as jnp
    import numpy as np

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

    inputs = jnp.asarray(ops.permutation_from_seed(3), jnp.int32), jnp.float32(t)
    words, numba = f"{octaves} octaves of {side} px", "with" if find_spec("numba") else "without"
    variants = {
        f"opensimplex ({numba} numba), {words}": Timed(octave_by_octave, 1),
        f"cxrjax, {words}": compiled(ours, *inputs, items=1),
    }
    return rates(variants, repeats, "fields/s")


CASES = {
    "enh": Case(
        enh, "The three phase features of a batch of films against phasepack's two functions, film by film.",
        {"side": 24, "batch": 2, "alone": 1}, "package",
    ),
    "lwpa": Case(
        lwpa, "One phase feature against the phasepack function that computes it; same filters, so like for like.",
        {"side": 24, "batch": 2, "alone": 1}, "package",
    ),
    "frechet": Case(
        frechet, "The Frechet distance of two sets of features by scipy's sqrtm and by singular values.",
        {"films": 40, "features": 4}, "package",
    ),
    "simplex": Case(
        simplex, "One field of simplex noise, all octaves at one time, by PyPI's opensimplex and by ours.",
        {"side": 16, "octaves": 2}, "package",
    ),
}  # fmt: skip
