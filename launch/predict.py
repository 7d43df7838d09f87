"""Ask a trained classifier of films: `python launch/predict.py --workdir=RUN --input=FILE|DIR|GLOB --out=DIR`.

Films may be PNG, JPEG, TIFF, BMP and DICOM of any size, in any mixture. Writes `predictions.csv`, `predictions.json`,
maps over the films and a page. A film that cannot be read is told in its row, and the others are answered all the same.
Exit codes: 0 done; 2 a mistake that the message says how to mend; 3 some films could not be answered.
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
      UsageError: a missing or unknown flag, or a folder that is not empty.
    """
    parser = Parser("predict", __doc__)
    parser.add_workdir("a finished run with a classifier")
    parser.add_argument("--input", required=True, help="a film, a folder of films, or a pattern as 'films/*.png'")
    parser.add_out()
    parser.add_argument("--classifier", default="", help="which, where the run has several")
    parser.add_argument(
        "--maps", default="called", help="called: of the most probable class but Normal; none; or classes, as A,B"
    )
    parser.add_dicom("the maps, as segmentations,")
    return parser.parse_args(args)


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
    from cxrjax.report import dicom, predictions

    maps = {"called": (), "none": None}.get(flags.maps, flags.maps.split(","))
    try:
        as_dicom = dicom.writer(flags.keep_patient) if flags.dicom else None
        paths = films.find(flags.input)
        predictor = load(flags.workdir).predictor(flags.classifier)
        said = console.watched(predictor.films(paths, maps), len(paths), "films")
        page, failed = predictions.write(flags.out, predictor, said, flags.workdir, command(argv), as_dicom)
    except UserError as error:
        return fail(error)
    print(f"{len(paths) - failed} of {len(paths)} films answered, not for diagnosis; page: {page}")
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
