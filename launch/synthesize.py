"""Make films: `python launch/synthesize.py --workdir=RUN --finding=Cardiomegaly --num=64 --out=DIR [--seed=0]`.

RUN is the workdir of a finished configs/cgan.py or configs/cdcgan.py run. Writes an 8-bit PNG a film, marked as
synthetic in its text chunks, and `contact_sheet.png`.
Exit codes: 0 done; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from checks import UsageError
from main import fail


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def parse(args: list[str]) -> argparse.Namespace:
    """The flags of the command line.

    Raises:
      UsageError: a missing or unknown flag, or a value of the wrong kind.
    """
    parser = _Parser(
        prog="python launch/synthesize.py", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, help="a finished run of a generator")
    parser.add_argument("--finding", required=True, help="one of its classes, or Normal")
    parser.add_argument("--num", type=int, default=64, help="films (64)")
    parser.add_argument("--out", required=True, help="a folder; must be new or empty")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    found = parser.parse_args(args)
    found.workdir, found.out = os.path.expanduser(found.workdir), os.path.expanduser(found.out)
    out = Path(found.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out={found.out} is there and not an empty folder; name another")
    return found


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        flags = parse(argv[1:])
    except UsageError as error:
        return fail(error)

    # Importing jax takes seconds; nothing above this line needs it.
    from cxrjax import load
    from cxrjax.errors import UserError
    from cxrjax.report.synthesis import contact

    try:
        films = load(flags.workdir).generator().sample(flags.finding, flags.num, flags.seed)
        sheet = contact.write_films(Path(flags.out), films, flags.finding, flags.workdir, flags.seed)
    except UserError as error:
        return fail(error)
    print(f"{len(films)} synthetic films of {flags.finding} in {flags.out}, not for diagnosis; look at {sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
