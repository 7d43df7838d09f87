"""The cases of `bench.py`: each measures its variants in rounds, and imports what it measures when it is called."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import from_files
import networks
from timing import Row, Timed, compiled, rates


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

    call, took = compiled(ours, jax.device_put(films))
    transform = "pyfftw" if "pyfftw" in tools.fft2.__module__ else "fftpack"
    variants = {
        f"phasepack ({transform}): {', '.join(theirs)}": Timed(one_by_one, alone),
        f"cxrjax: {name}, {batch} films of {side} px": Timed(call, batch, took),
    }
    return rates(variants, repeats, "films/s")


def grid(repeats: int, *, size: int = 32, batch: int = 32) -> list[Row]:
    """A step of 24 grid cells (12 learning rates, 2 momenta): one after the other, and together under vmap."""
    import jax
    import jax.numpy as jnp

    from cxrjax import defaults
    from cxrjax.tasks import cells
    from cxrjax.train import mesh as meshes

    mesh, config = meshes.make(), defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), 1000, batch)
    points = [cells.Cell("resnet_tiny", "adam", 0.25 * 2.0**-k, m) for k in range(12) for m in (0.3, 0.9)]
    local = _films(batch, size, 2)
    films, key = meshes.put(mesh, local), meshes.replicate(mesh, jax.random.key(0))

    def stepped(task: Any, place: Any, fills: Sequence[Callable[[Any], Any]]) -> Timed:
        """One program serves all states: it could not serve another cell by compiling anew, it would fail."""
        shardings = place(mesh, jax.eval_shape(task.init, key, local))
        init = jax.jit(task.init, out_shardings=shardings)
        copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=shardings)
        states = [copy(fill(init(key, local))) for fill in fills]
        step = jax.jit(task.step, out_shardings=(shardings, None), donate_argnums=(0,))
        start = time.perf_counter()
        program = step.lower(states[0], films, key).compile()
        took = time.perf_counter() - start

        def call() -> None:
            states[:] = [program(state, films, key)[0] for state in states]
            jax.block_until_ready(states)

        return Timed(call, 1, took)

    fills = [partial(cells.with_hyper, lr=cell.lr, momentum=cell.momentum) for cell in points]
    stacked = meshes.stacked_shardings if len(points) % mesh.size == 0 else meshes.state_shardings
    variants = {
        f"24 cells in turn, resnet_tiny, {batch} films of {size} px": stepped(
            cells.alone(config, 2, "adam"), meshes.state_shardings, fills
        ),
        "24 cells together": stepped(cells.together(config, 2, points, mesh), stacked, [lambda state: state]),
    }
    return rates(variants, repeats, "steps of all/s")


def _films(batch: int, size: int, classes: int) -> Any:
    import numpy as np

    from cxrjax.types import Batch

    return Batch(
        np.random.default_rng(0).random((batch, size, size, 1), np.float32),
        np.eye(classes, dtype=np.float32)[np.arange(batch) % classes], np.ones(batch, np.float32),
        np.arange(batch, dtype=np.int32),
    )  # fmt: skip


def attention(repeats: int, *, positions: int = 4096, batch: int = 2) -> list[Row]:
    """Values and gradients of self-attention on a 64x64 map by the formula, and by blocks of queries."""
    import jax
    import jax.numpy as jnp

    from cxrjax.ops import attention as ops

    q, k, v = (jax.random.normal(jax.random.key(i), (batch, positions, d)) for i, d in enumerate((8, 8, 64)))
    variants = {}
    for name, function in (("dense", ops.dense), ("blockwise", ops.blockwise)):
        objective: Any = lambda q, k, v, f=function: jnp.square(f(q, k, v)).sum()  # noqa: E731
        call, took = compiled(jax.value_and_grad(objective, argnums=(0, 1, 2)), q, k, v)
        variants[f"{name}, {batch} maps of {positions} positions"] = Timed(call, batch, took)
    return rates(variants, repeats, "maps/s")


def cond(repeats: int, *, side: int = 32, channels: int = 32, batch: int = 16) -> list[Row]:
    """Gradients of four convolutions inside `lax.cond`: jax's own, and those of `ops.convolution`."""
    import jax
    import jax.numpy as jnp

    from cxrjax.ops.convolution import DIMENSIONS, convolve

    pad = ((1, 1), (1, 1))
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    kernels = [0.1 * jax.random.normal(jax.random.key(i), (3, 3, channels, channels)) for i in range(4)]

    def theirs(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=DIMENSIONS)

    def ours(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, (1, 1), pad)

    def branch(conv: Callable[..., Any]) -> Callable[..., Any]:
        def objective(kernels: Any) -> Any:
            y = x
            for kernel in kernels:
                y = jax.nn.relu(conv(y, kernel))
            return jnp.square(y).mean()

        return lambda kernels, turn: jax.lax.cond(turn, jax.grad(objective), lambda same: same, kernels)

    variants = {}
    for name, conv in (("jax.lax", theirs), ("cxrjax", ours)):
        call, took = compiled(branch(conv), kernels, jnp.bool_(True))
        variants[f"{name}: gradients in a branch, {batch} maps of {side} px"] = Timed(call, 1, took)
    return rates(variants, repeats, "gradients/s")


def kernel_gradient(side: int, width: int, features: int, batch: int) -> Callable[..., list[Row]]:
    """A case: the gradient of a 3x3 kernel at one shape, in each of its forms."""

    def measure(repeats: int, *, batch: int = batch, side: int = side) -> list[Row]:
        import jax
        import jax.numpy as jnp

        from cxrjax.ops import convolution

        stride, pad, shape = (1, 1), ((1, 1), (1, 1)), (3, 3, width, features)
        x, dy = (jax.random.normal(jax.random.key(0), (batch, side, side, c)) for c in (width, features))

        def plain(x: Any, dy: Any, *_: Any) -> Any:
            def convolved(kernel: Any) -> Any:
                return jax.lax.conv_general_dilated(x, kernel, stride, pad, dimension_numbers=convolution.DIMENSIONS)

            return jax.vjp(convolved, jnp.zeros(shape))[1](dy)[0]

        variants = {}
        for name, form in (
            ("jax.lax", plain),
            ("by film", convolution.by_film),
            ("as a convolution", convolution.by_convolution),
        ):
            call, took = compiled(lambda x, dy, form=form: form(x, dy, shape, stride, pad), x, dy)
            work = 2 * math.prod(shape) * batch * side**2 / 1e9
            variants[f"{name}, {batch} maps of {side} px, {width} to {features}"] = Timed(call, work, took)
        return rates(variants, repeats, "GFLOP/s")

    measure.__doc__ = f"The gradient of a 3x3 kernel on {batch} maps of {side} px, {width} to {features}, in each form."
    return measure


def gan(repeats: int, *, size: int = 256, features: int = 64, batch: int = 16) -> list[Row]:
    """Five batches of the paper's GAN, with one update of its generator, in float32 and in bfloat16."""
    import jax

    from cxrjax import defaults
    from cxrjax.tasks import gan as task

    classes = ("Cardiomegaly", "Effusion", "Mass", "Pneumothorax")
    films = jax.device_put(_films(batch, size, len(classes)))
    variants = {}
    for dtype in ("float32", "bfloat16"):
        net = {"name": "cgan", "sizes": (size // 4, size // 2, size), "features": features, "d_features": features}
        made = task.make(defaults.gan({**net, "dtype": dtype}, 2e-5, 1000, batch), classes)
        state = jax.jit(made.init)(jax.random.key(0), films)
        start = time.perf_counter()
        program = jax.jit(made.step, donate_argnums=(0,)).lower(state, films, jax.random.key(0)).compile()
        took, held = time.perf_counter() - start, [state]

        def five(program: Any = program, held: list[Any] = held) -> None:
            for i in range(5):
                held[0] = program(held[0], films, jax.random.key(i))[0]
            jax.block_until_ready(held[0])

        variants[f"{dtype}: {batch} films of {size // 4}, {size // 2}, {size} px"] = Timed(five, 5, took)
    return rates(variants, repeats, "batches/s")


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

    call, took = compiled(ours, jnp.asarray(ops.permutation_from_seed(3), jnp.int32), jnp.float32(t))
    words, numba = f"{octaves} octaves of {side} px", "with" if find_spec("numba") else "without"
    variants = {
        f"opensimplex ({numba} numba), {words}": Timed(octave_by_octave, 1),
        f"cxrjax, {words}": Timed(call, 1, took),
    }
    return rates(variants, repeats, "fields/s")


# name -> a function of the number of rounds.
CASES: dict[str, Callable[..., list[Row]]] = {
    "enh": enh, "lwpa": lwpa, "grid": grid, "attention": attention, "cond": cond, "gan": gan, "frechet": frechet,
    "simplex": simplex, **networks.CASES, **from_files.CASES,
}  # fmt: skip
for _shape in (
    (64, 32, 32, 16),
    (32, 64, 64, 16),
    (16, 128, 128, 16),
    (56, 128, 32, 4),
    (28, 128, 32, 4),
    (7, 512, 512, 4),
):
    CASES[f"kernel_gradient_{_shape[0]}"] = kernel_gradient(*_shape)
