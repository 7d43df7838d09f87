"""Make films: `python launch/synthesize.py --workdir=RUN --finding=Cardiomegaly --num=64 --out=DIR [--seed=0]`.

RUN is the workdir of a finished configs/cgan.py or configs/cdcgan.py run. Writes an 8-bit PNG a film, marked as
synthetic in its text chunks, and `contact_sheet.png`; with `--dicom` each as Secondary Capture too.
Exit codes: 0 done; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import argparse
import sys

import memory
from checks import Parser, UsageError
from main import fail


def parse(args: list[str]) -> argparse.Namespace:
    """The flags of the command line.

    Raises:
      UsageError: a missing or unknown flag, or a value of the wrong kind.
    """
    parser = Parser("synthesize", __doc__)
    parser.add_workdir("a finished run of a generator")
    parser.add_argument("--finding", required=True, help="one of its classes, or Normal")
    parser.add_argument("--num", type=int, default=64, help="films (64)")
    parser.add_out()
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--dicom", action="store_true", help="as DICOM files too")
    return parser.parse_args(args)


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        flags = parse(argv[1:])
    except UsageError as error:
        return fail(error)

    memory.keep()
    # Importing jax takes seconds; nothing above this line needs it.
    from cxrjax import load
    from cxrjax.errors import UserError
    from cxrjax.report import dicom
    from cxrjax.report.synthesis import contact

    try:
        if flags.dicom:
            dicom.check()
        films = load(flags.workdir).generator().sample(flags.finding, flags.num, flags.seed)
        sheet = contact.write_films(flags.out, films, flags.finding, flags.workdir, flags.seed, flags.dicom)
    except UserError as error:
        return fail(error)
    print(f"{len(films)} synthetic films of {flags.finding} in {flags.out}, not for diagnosis; look at {sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
