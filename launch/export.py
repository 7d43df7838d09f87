"""Export a classifier: `python launch/export.py --workdir=RUN --to=stablehlo|safetensors|onnx --out=DIR`.

RUN is the workdir of a finished run; `--classifier` says which, where it has several. Writes `model.FORM`, read
back and compared with the run's own network, and `README.md`, a model card that says how to use it.
Exit codes: 0 done; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import argparse
import sys

from checks import Parser, UsageError
from main import fail

FORMS = ("stablehlo", "safetensors", "onnx")


def parse(args: list[str]) -> argparse.Namespace:
    """The flags of the command line.

    Raises:
      UsageError: a missing or unknown flag, or a value of the wrong kind.
    """
    parser = Parser("export", __doc__)
    parser.add_workdir("a finished run of a classifier")
    parser.add_argument("--to", required=True, choices=FORMS)
    parser.add_out()
    parser.add_argument("--classifier", default="", help="which, where the run has several")
    return parser.parse_args(args)


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        flags = parse(argv[1:])
    except UsageError as error:
        return fail(error)

    # Importing jax takes seconds; nothing above this line needs it.
    from cxrjax import load
    from cxrjax.errors import UserError
    from cxrjax.infer import export
    from cxrjax.report import card
    from cxrjax.report.read.workdir import read_run

    try:
        run = load(flags.workdir)
        phase, name = run.trained(flags.classifier)
        network, net = run.classifier(name), run.config[phase].net.name
        path, gap = export.write(network, net, flags.to, flags.out)
        words = export.words(network, net, flags.to)
        (flags.out / "README.md").write_text(card.card(read_run(run.workdir), phase, name, words), encoding="utf-8")
    except UserError as error:
        return fail(error)
    print(f"{path}: probabilities within {gap:.1g} of the run's own; not for diagnosis; how to use it: README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
