"""Prepare films, or check them: `python launch/prepare.py --config=FILE.py[:VARIANT] [--config.KEY=VALUE] [--check]`.

Without more, writes the films of a config where its runs will find them; killed, the same command goes on. Several
processes share the work by `--shard=I/N` each, I from 0 to N - 1, and one `--merge` when all are done, or `--ray` does
both on a cluster; what is written is the same to the byte. With `--check` nothing is prepared: every film
is read, and films by part and class, patients, what is missing, double, blank, inverted or labeled in two ways, sizes
and depths are told, with a page that has a contact sheet a class.
Exit codes: 0 done, and nothing would stop a run; 2 a mistake that the message or the page says how to mend.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import cli
from checks import Parser, UsageError, command, local
from main import fail


def parse(args: list[str]) -> tuple[argparse.Namespace, cli.Request | str]:
    """The flags of this command, and the config that the others ask for, or the page of `--dry_run`.

    Raises:
      UsageError: at the first mistake.
    """
    more = "every --config flag of main.py is understood; see python launch/main.py --help"
    parser = Parser("prepare", __doc__, epilog=more)
    parser.add_argument("--check", action="store_true", help="look at the films and prepare nothing")
    parser.add_argument("--out", default="", help="folder of the check's page (runs/check-NAME)")
    parser.add_argument("--shard", type=_shard, metavar="I/N", help="decode one of N like parts, I from 0 to N - 1")
    parser.add_argument("--merge", action="store_true", help="put the shards together when all are done")
    parser.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help="decode by Ray, on a cluster or here")
    parser.add_argument("--shards", type=int, default=0, metavar="N", help="with --ray: into how many (four a CPU)")
    found, rest = parser.parse_known_args(args)
    found.rest = rest
    ways = {"--check": found.check, "--shard": found.shard, "--merge": found.merge, "--ray": found.ray is not None}
    if sum(map(bool, ways.values())) > 1:
        raise UsageError(f"{' and '.join(way for way, given in ways.items() if given)}: give one of them")
    if found.shards < 0 or (found.shards and found.ray is None):
        raise UsageError("--shards is a number above 0, and goes with --ray")
    if found.out and not found.check:
        raise UsageError("--out is where the page of --check goes; add --check")
    found.out = local(found.out, "--out")
    if found.out and Path(found.out).exists() and not Path(found.out).is_dir():
        raise UsageError(f"--out={found.out} is no folder; name another")
    return found, cli.parse(rest)


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        flags, request = parse(argv[1:])
    except UsageError as error:
        return fail(error)
    if isinstance(request, str):
        print(request)
        return 0

    # Importing jax takes seconds; nothing above this line needs it.
    from cxrjax import data
    from cxrjax.errors import UserError

    try:
        return (_check if flags.check else _prepare)(data, flags, request, argv)
    except UserError as error:
        return fail(error)


def _shard(text: str) -> tuple[int, int]:
    """(i, n) of `i/n`. Raises `UsageError` where it is none."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match and int(match[1]) < int(match[2]):
        return int(match[1]), int(match[2])
    n = max(1, int(match[2])) if match else 4
    raise UsageError(f"--shard={text}: expected i/n with i from 0 to n - 1, so the last of {n} is --shard={n - 1}/{n}")


def _prepare(data, flags: argparse.Namespace, request: cli.Request, argv: list[str]) -> int:
    from cxrjax.data import remote, shards

    films, again = data.with_classes(request.config).data, command([argv[0], *flags.rest])
    if flags.shard:
        shard = shards.Shard(*flags.shard)
        done = data.prepare_shard(films, shard)
        said = "all films are prepared already" if done is None else f"{done.films} films, {done.left_out} left out"
        print(f"shard {shard}: {said}")
        return 0
    if flags.ray is not None:
        found = remote.prepare(films, flags.ray, flags.shards, again)
    else:
        if not flags.merge:
            data.prepare_shard(films, shards.Shard(0, 1))
        found = data.merge(films, again)
    counts = ", ".join(f"{count} {part}" for part, count in found.splits.items())
    print(*(f"warning: {warning}" for warning in found.warnings), sep="\n")
    print(f"{found.directory}: {counts}; {found.quarantined} left out; fingerprint {found.fingerprint[:12]}")
    return 0


def _check(data, flags: argparse.Namespace, request: cli.Request, argv: list[str]) -> int:
    from cxrjax.data import survey
    from cxrjax.report import films as report

    found = survey.survey(request.config.data)
    page = report.write(Path(flags.out or f"runs/check-{request.name}"), found, command(argv))
    print(*report.lines(found), f"page: {page}", sep="\n")
    return 2 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
