"""Measured speed: `python launch/bench.py [--only=NAME,...] [--repeats=N] [--peer=torch] [--films=DIR] [--write] ...`.

A case measures its variants in turn, round after round, so that whatever else the machine does falls on all of them,
and a figure is the median over rounds. Warm-up and compilation are left out, and compilation is told apart. Ratios are
to the case's first variant, within one run. `--peer=torch` puts torch beside the cases that have a peer there, and
leaves out those that stand beside nothing; `torch-eager` spares the minutes in which a processor's torch.compile
compiles. Rows are told, and written, case by case. `--card` is for one GPU: every case, torch beside where it is
installed, in bfloat16, within nine minutes. `--films=DIR` gives the films of the cases that read any. `--write` puts
the rows into the table of launch/README.md.
Exit codes: 0 done; 2 a mistake that the message says how to mend, or a case that failed: the others are shown.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import checks
import cores
import memory
from benches import table
from benches.cases import CASES
from benches.timing import Case, Row, ceiling, rates
from checks import Parser, UsageError
from main import fail

README = Path(__file__).resolve().parent / "README.md"
INSTALL = "pip install -e '.[parity]'"
PEERS = ("torch", "torchvision", "efficientnet_lite_pytorch")
CARD_SECONDS = 9 * 60


def parse(args: list[str]) -> argparse.Namespace:
    """The command line; `only` becomes the names of the cases.

    Raises:
      UsageError: an unknown flag or case, a bad number, or a peer that is not installed.
    """
    parser = Parser("bench", __doc__)
    parser.add_argument("--only", metavar="NAME,...", help="some of the cases; --list names them")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--repeats", type=int, help="rounds that the median is taken over (5; with --card 3)")
    parser.add_argument("--peer", choices=("torch", "torch-eager"), help="beside it, the cases that have one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of networks (float32; with --card bfloat16)")
    parser.add_argument("--card", action="store_true", help="every case on one GPU within nine minutes")
    parser.add_argument("--seconds", type=float, help="begin no case after so many (with --card 540 less one case)")
    parser.add_argument("--tiny", action="store_true", help="a dry run: sizes of seconds, whose figures mean nothing")
    parser.add_argument("--write", action="store_true", help="put the rows into launch/README.md")
    parser.add_argument("--films", default="", metavar="DIR", type=os.path.expanduser, help="films of your own")
    request = parser.parse_args(args)
    if request.films and not os.path.isdir(request.films):
        raise UsageError(f"--films={request.films} is no folder; give one with films in it or below")
    request.named = request.only is not None
    known = {name: case for name, case in CASES.items() if case.peer or not request.peer}
    known = {name: case for name, case in known.items() if "films" in case.options or not request.films}
    request.only = list(known) if request.only is None else list(filter(None, request.only.split(",")))
    for name in request.only:
        if name not in known:
            raise UsageError(f"no case {name!r}; {checks.did_you_mean(name, known)}")
    missing = [package for package in PEERS if importlib.util.find_spec(package) is None]
    if request.peer and missing:
        raise UsageError(f"--peer={request.peer} needs {missing[0]}; run: {INSTALL}")
    if not request.only:
        raise UsageError(f"--only names no case; there are: {', '.join(CASES)}")
    if request.tiny and request.write:
        raise UsageError("--tiny figures mean nothing: leave out --write")
    request.repeats = (3 if request.card else 5) if request.repeats is None else request.repeats
    if request.repeats < 1:
        raise UsageError(f"--repeats={request.repeats}; expected at least 1")
    if request.card:
        request.peer = request.peer or ("" if missing else "torch")
        request.seconds = request.seconds or CARD_SECONDS
    request.dtype = request.dtype or ("bfloat16" if request.card else "float32")
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


def options(case: Case, request: argparse.Namespace) -> dict[str, object]:
    """What a case is told."""
    wanted = {"peer": request.peer or "", "dtype": request.dtype, "films": request.films}
    return {**(case.tiny if request.tiny else {}), **{key: wanted[key] for key in case.options}}


def measure(request: argparse.Namespace, keep: Callable[[str, list[Row]], None]) -> list[str]:
    """Hands the rows of each case to `keep`; returns what is to be told of those that failed or had no time."""
    import jax

    small = jax.default_backend() == "cpu" and not request.tiny
    told: list[str] = []
    begun, longest = time.monotonic(), 0.0
    for name in request.only:
        case = CASES[name]
        if case.card and small and not request.named:
            told.append(f"{name} is for a GPU; --only={name} measures it here all the same")
            continue
        start = time.monotonic()
        if request.seconds and start - begun + longest > request.seconds:
            told.append(f"{name}: no time was left; --only={name} measures it")
            continue
        try:
            keep(name, case.run(request.repeats, **options(case, request)))
        except Exception as error:  # what was measured before it is not lost
            told.append(f"{name} failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
        longest = max(longest, time.monotonic() - start)
    return told


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        request = parse(argv[1:])
    except UsageError as error:
        return fail(error)
    if request.list:
        for name, case in CASES.items():
            print(f"{name:<22} {case.says}")
        return 0
    if importlib.util.find_spec("cxrjax") is None:
        return fail(f"cxrjax is not installed for {sys.executable}; run: pip install -e .")

    memory.keep()  # as the other commands do
    cores.split([4])  # the fewest films that a network's case has: every batch splits evenly
    import jax

    if request.card and not request.tiny and jax.default_backend() == "cpu":
        return fail("--card needs a GPU that jax sees; run: pip install -e '.[cuda13]', or try --card --tiny")
    found: dict[str, list[Row]] = {}
    ceilings: dict[str, float] = {}

    def keep(name: str, rows: list[Row]) -> None:
        for dtype in sorted({row.dtype for row in rows if row.work} - ceilings.keys()):
            ceilings[dtype] = 1e9 * rates({dtype: ceiling(dtype, 64 * request.tiny)}, 3, "")[0].figure
        found[name] = rows
        for line in table.cells(name, rows, ceilings):
            print("bench:", *filter(None, line), file=sys.stderr, flush=True)
        if request.write:
            table.write(README, {name: rows}, ceilings, machine(), list(CASES))

    told = measure(request, keep)
    if found:
        table.show(found, ceilings, machine())
    for words in told:
        print(words, file=sys.stderr)
    return 2 if not found or any(" failed: " in words for words in told) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
