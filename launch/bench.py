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
    from cxrjax.tasks import grid as cells
    from cxrjax.train import mesh

    found = cells.benchmark(mesh.make(), steps=repeats)
    words = {"in_turn": "24 cells in turn, resnet_tiny, 32 films of 32 px", "together": "24 cells together"}
    return [
        Row(words[name], 1 / found[name]["seconds"], "steps of all/s", found[name]["compile_seconds"]) for name in words
    ]


# name -> a function of the number of rounds; it imports what it measures only when it is called.
CASES: dict[str, Callable[[int], list[Row]]] = {"enh": enh, "lwpa": lwpa, "grid": grid}


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
            print(f"{name:<8}{(case.__doc__ or '').splitlines()[0]}")
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
