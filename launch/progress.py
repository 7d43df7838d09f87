"""Treat films of one's own: `python launch/progress.py --workdir=RUN --input=FILE|DIR|GLOB --out=DIR`.

RUN is a finished run that treats films, as of configs/ddpm_cam.py. Writes treated films, differences, masks, strips and
animations, all marked as synthetic, and a page with a slider. A film that cannot be read is told, and the others go on.
Exit codes: 0 done; 2 a mistake that the message says how to mend; 3 some films could not be treated.
"""

from __future__ import annotations

import argparse
import sys

import memory
from checks import Parser, UsageError, command
from main import fail

FAILED = 3


def parse(args: list[str]) -> argparse.Namespace:
    """The flags of the command line.

    Raises:
      UsageError: a missing or unknown flag, a value of the wrong kind, or a folder that is not empty.
    """
    parser = Parser("progress", __doc__)
    parser.add_workdir("a finished run that treats films")
    parser.add_argument("--input", required=True, help="a film, a folder of films, or a pattern as 'films/*.png'")
    parser.add_out()
    parser.add_argument("--mode", default="time_gated", help="how: a mode or arm of the run (time_gated)")
    parser.add_argument("--lambdas", default="", help="noise levels, as 100,200,300 (those of the run)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--animation", choices=("gif", "webp", "none"), default="gif", help="of each film (gif)")
    parser.add_dicom("treated films and masks")
    found = parser.parse_args(args)
    try:
        found.lambdas = sorted({int(word) for word in found.lambdas.split(",") if found.lambdas})
    except ValueError:
        raise UsageError(f"--lambdas={found.lambdas}: expected whole numbers, as --lambdas=100,200,300") from None
    return found


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        flags = parse(argv[1:])
    except UsageError as error:
        return fail(error)

    memory.keep()
    # Importing jax takes seconds; nothing above this line needs it.
    from cxrjax import console, load
    from cxrjax.errors import UserError
    from cxrjax.infer import films
    from cxrjax.report import dicom
    from cxrjax.report.treatment import own

    try:
        as_dicom = dicom.writer(flags.keep_patient) if flags.dicom else None
        paths, run = films.find(flags.input), load(flags.workdir)
        treatment = run.treatment(flags.mode)
        lambdas = flags.lambdas or sorted(run.config.study.lambdas)
        treated = console.watched(treatment.films(paths, lambdas, flags.seed), len(paths), "films")
        page, failed = own.write(
            flags.out, flags.mode, lambdas, treated, flags.workdir, command(argv), flags.animation, as_dicom
        )
    except UserError as error:
        return fail(error)
    print(f"{len(paths) - failed} of {len(paths)} films treated: synthetic, not for diagnosis; page: {page}")
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
