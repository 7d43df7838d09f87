"""Measured speed: `python launch/bench.py [--only=NAME,...] [--list] [--repeats=N] [--peer=torch]`.

A case measures its variants in turn, round after round, so that whatever else the machine does falls on all of them,
and a figure is the median over rounds. Warm-up and compilation are left out, and compilation is told apart. Ratios are
to the case's first variant, within one run. `--peer=torch` puts torch beside the cases that have a peer there, and
leaves out the others.
Exit codes: 0 done; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import sys
from pathlib import Path

import checks
import from_files
import memory
import networks
from cases import CASES
from checks import Parser, UsageError
from main import fail
from timing import Row


def parse(args: list[str]) -> argparse.Namespace:
    """The command line: `only` (names of cases, all where none is given), `list`, `repeats` and `peer`.

    Raises:
      UsageError: an unknown flag or case, a bad number, or a peer that is not installed.
    """
    parser = Parser("bench", __doc__)
    parser.add_argument("--only", metavar="NAME,...", help=f"some of the cases: {', '.join(CASES)}")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that the median is taken over (5)")
    parser.add_argument("--peer", choices=("torch",), help="beside it, the cases that it can do")
    request = parser.parse_args(args)
    known = {**networks.CASES, **from_files.CASES} if request.peer else CASES
    request.only = list(known) if request.only is None else list(filter(None, request.only.split(",")))
    for name in request.only:
        if name not in known:
            raise UsageError(f"no case {name!r}; {checks.did_you_mean(name, known)}")
    if request.peer:
        for package in ("torch", "torchvision", "efficientnet_lite_pytorch"):
            if importlib.util.find_spec(package) is None:
                raise UsageError(f"--peer={request.peer} needs {package}; run: {networks.INSTALL}")
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
            print(f"{name:<19} {(case.__doc__ or '').splitlines()[0]}")
        return 0
    if importlib.util.find_spec("cxrjax") is None:
        return fail(f"cxrjax is not installed for {sys.executable}; run: pip install -e .")

    memory.keep()  # as the other commands do
    from cxrjax.errors import UserError

    try:
        options = {"peer": True} if request.peer else {}
        found = {name: CASES[name](request.repeats, **options) for name in request.only}
    except UserError as error:
        return fail(error)
    show(found, machine())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
