"""Measured speed: `python launch/bench.py [--only=NAME,...] [--list] [--repeats=N]`.

A case measures its variants in turn, round after round, so that whatever else the machine does falls on all of them,
and a figure is the median over rounds; `grid` alone takes one variant after the other, and means over steps. Warm-up
and compilation are left out, and compilation is told apart. Ratios are to the case's first variant, within one run.
Exit codes: 0 done; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import checks
from bench_diffusion import simplex
from checks import UsageError
from main import fail


class Row(NamedTuple):
    """What a case found of one variant.

    Attributes:
      variant: what ran.
      figure: the median over rounds; more is better where `unit` is a rate.
      unit: of `figure`.
      compile_seconds: how long its program took to compile; None where there is none.
    """

    variant: str
    figure: float
    unit: str
    compile_seconds: float | None = None


class Timed(NamedTuple):
    """One variant to be timed: `call` does `items` items and returns when they are done."""

    call: Callable[[], Any]
    items: int
    compile_seconds: float | None = None


def rates(variants: dict[str, Timed], repeats: int, unit: str) -> list[Row]:
    """Items a second of each variant: one call each to warm up, then `repeats` rounds of one call each."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for done in range(repeats + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant.call()
            if done:
                seconds[name].append(time.perf_counter() - start)
    return [Row(n, v.items / statistics.median(seconds[n]), unit, v.compile_seconds) for n, v in variants.items()]


def compiled(function: Callable[..., Any], *inputs: Any) -> tuple[Callable[[], Any], float]:
    """A call of jitted `function` on `inputs` that waits for its result, and the seconds its compilation took."""
    import jax

    lowered = jax.jit(function).lower(*inputs)
    start = time.perf_counter()
    program = lowered.compile()
    took = time.perf_counter() - start
    return lambda: jax.block_until_ready(program(*inputs)), took


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


def grid(repeats: int) -> list[Row]:
    """A step of 24 grid cells (12 learning rates, 2 momenta): one after the other, and together under vmap."""
    from cxrjax.tasks import cells
    from cxrjax.train import mesh

    found = cells.benchmark(mesh.make(), steps=repeats)
    words = {"in_turn": "24 cells in turn, resnet_tiny, 32 films of 32 px", "together": "24 cells together"}
    return [
        Row(words[name], 1 / found[name]["seconds"], "steps of all/s", found[name]["compile_seconds"]) for name in words
    ]


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


def gan(repeats: int, *, size: int = 256, features: int = 64, batch: int = 16) -> list[Row]:
    """Five batches of the paper's GAN, with one update of its generator, in float32 and in bfloat16."""
    import jax
    import numpy as np

    from cxrjax import defaults
    from cxrjax.tasks import gan as task
    from cxrjax.types import Batch

    rng, classes = np.random.default_rng(0), ("Cardiomegaly", "Effusion", "Mass", "Pneumothorax")
    films = jax.device_put(Batch(
        rng.random((batch, size, size, 1), np.float32), np.eye(4, dtype=np.float32)[np.arange(batch) % 4],
        np.ones(batch, np.float32), np.arange(batch, dtype=np.int32),
    ))  # fmt: skip
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


# name -> a function of the number of rounds; it imports what it measures only when it is called.
CASES: dict[str, Callable[[int], list[Row]]] = {
    "enh": enh, "lwpa": lwpa, "grid": grid, "attention": attention, "cond": cond, "gan": gan, "frechet": frechet,
    "simplex": simplex,
}  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def parse(args: list[str]) -> argparse.Namespace:
    """The command line: `only` (names of cases, all where none is given), `list` and `repeats`.

    Raises:
      UsageError: an unknown flag or case, or a bad number.
    """
    parser = _Parser(prog="bench.py", description="Measured speed, by case; ratios hold within one run.")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of the cases: {', '.join(CASES)}")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that the median is taken over (5)")
    request = parser.parse_args(args)
    request.only = list(CASES) if request.only is None else list(filter(None, request.only.split(",")))
    for name in request.only:
        if name not in CASES:
            raise UsageError(f"no case {name!r}; {checks.did_you_mean(name, CASES)}")
    if not request.only:
        raise UsageError(f"--only names no case; there are: {', '.join(CASES)}")
    if request.repeats < 1:
        raise UsageError(f"--repeats={request.repeats}; expected at least 1")
    return request


def machine() -> str:
    """Where and when: processor, cores in use by others, jax, backend, date."""
    import jax

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    device = jax.devices()[0]
    backend = device.platform if device.platform == "cpu" else f"{device.platform} ({device.device_kind})"
    today = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    return f"{model}, {os.cpu_count()} cores{load}; jax {jax.__version__} on {jax.device_count()} x {backend}; {today}"


def show(found: dict[str, list[Row]], where: str) -> None:
    """Prints the one table; `found` holds each case's rows, the one that ratios refer to first."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(caption=where, box=box.SIMPLE_HEAD)
    table.add_column("case", no_wrap=True)
    table.add_column("variant", overflow="fold")
    for name in ("figure", "unit", "ratio", "compile"):
        table.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    for name, rows in found.items():
        for i, row in enumerate(rows):
            took = "" if row.compile_seconds is None else f"{row.compile_seconds:.1f} s"
            ratio = f"{row.figure / rows[0].figure:.2f}"
            cells = (name if i == 0 else "", row.variant, f"{row.figure:,.4g}", row.unit, ratio, took)
            table.add_row(*cells, end_section=i == len(rows) - 1)
    console.print(table, highlight=False)


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        request = parse(argv[1:])
    except UsageError as error:
        return fail(error)
    if request.list:
        for name, case in CASES.items():
            print(f"{name:<10} {(case.__doc__ or '').splitlines()[0]}")
        return 0
    if importlib.util.find_spec("cxrjax") is None:
        return fail(f"cxrjax is not installed for {sys.executable}; run: pip install -e .")

    from cxrjax.errors import UserError

    try:
        found = {name: CASES[name](request.repeats) for name in request.only}
    except UserError as error:
        return fail(error)
    show(found, machine())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
