"""Prepare films, or check them: `python launch/prepare.py --config=FILE.py[:VARIANT] [--config.KEY=VALUE] [--check]`.

Without more, writes the films of a config where its runs will find them. With `--check` nothing is prepared: every film
is read, and films by part and class, patients, what is missing, double, blank, inverted or labeled in two ways, sizes
and depths are told, with a page that has a contact sheet a class.
Exit codes: 0 done, and nothing would stop a run; 2 a mistake that the message or the page says how to mend.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

import cli
from checks import Parser, UsageError
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
    found, rest = parser.parse_known_args(args)
    if found.out and not found.check:
        raise UsageError("--out is where the page of --check goes; add --check")
    found.out = os.path.expanduser(found.out)
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
        return (_check if flags.check else _prepare)(data, flags, request, shlex.join(argv))
    except UserError as error:
        return fail(error)


def _prepare(data, flags: argparse.Namespace, request: cli.Request, command: str) -> int:
    films = data.prepare(data.with_classes(request.config).data)
    counts = ", ".join(f"{count} {part}" for part, count in films.splits.items())
    print(*(f"warning: {warning}" for warning in films.warnings), sep="\n")
    print(f"{films.directory}: {counts}; {films.quarantined} left out; fingerprint {films.fingerprint[:12]}")
    return 0


def _check(data, flags: argparse.Namespace, request: cli.Request, command: str) -> int:
    from cxrjax.data import survey
    from cxrjax.report import films as report

    found = survey.survey(request.config.data)
    page = report.write(Path(flags.out or f"runs/check-{request.name}"), found, command)
    print(*report.lines(found), f"page: {page}", sep="\n")
    return 2 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
