"""Run a config: `python launch/main.py --config=configs/NAME.py[:VARIANT] [--workdir=DIR] [--config.a.b=VALUE]`.

Every mistake on the command line is told before jax is imported, so within a second, and leaves no workdir behind.
Exit codes: 0 done; 2 a mistake that the message says how to mend; otherwise what `cxrjax.run.run` returns.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path


def fail(message: object) -> int:
    """Prints `error: message` on one line of stderr; returns the exit code 2."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return 2


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    if importlib.util.find_spec("cxrjax") is None:
        clone = Path(__file__).resolve().parent.parent
        return fail(f"cxrjax is not installed for {sys.executable}; run: pip install -e {shlex.quote(str(clone))}")

    import cli

    try:
        request = cli.parse(argv[1:])
    except cli.UsageError as error:
        return fail(error)
    if isinstance(request, str):  # a page that --help or --dry_run asked for
        print(request)
        return 0

    # Importing jax takes seconds; nothing above this line needs it.
    from cxrjax import errors, run

    try:
        return run.run(request.config, choices=request.choices, workdir=request.workdir, command=shlex.join(argv))
    except errors.UserError as error:
        return fail(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
