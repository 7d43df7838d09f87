"""Run a config: `python launch/main.py --config=configs/NAME.py[:VARIANT] [--workdir=DIR] [--config.a.b=VALUE]`.

Every mistake on the command line is told before jax is imported, so within a second, and leaves no workdir behind.
Exit codes: 0 done; 2 a mistake that the message says how to mend; 70 another process of the run is gone; 75 stopped by
a signal; after 70 and 75 the same command goes on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import sys
from pathlib import Path


def fail(message: object) -> int:
    """Prints `error: message` on one line of stderr; returns the exit code 2."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return 2


def main(argv: list[str], own: bool = False) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code.

    Args:
      argv: of a shell.
      own: whether the process is there for this alone: signals are heard, and where it is one of several, a parent
        stands behind it.
    """
    if importlib.util.find_spec("cxrjax") is None:
        clone = Path(__file__).resolve().parent.parent
        return fail(f"cxrjax is not installed for {sys.executable}; run: pip install -e {shlex.quote(str(clone))}")

    import checks
    import cli
    import cores
    import guard
    import memory

    try:
        request = cli.parse(argv[1:])
    except cli.UsageError as error:
        return fail(error)
    if isinstance(request, str):  # a page that --help or --dry_run asked for
        print(request)
        return 0

    memory.keep()
    from cxrjax import stop
    from cxrjax.defaults import names
    from cxrjax.errors import UserError, lookup
    from cxrjax.train import cluster, lock

    try:
        for key, word, words in names.wrong(request.config):
            lookup(dict.fromkeys(words), word, key)
        several = cluster.check(request.config.get("mesh", {}))
        if own:
            if several and (code := guard.stand_behind()) is not None:
                return code
            stop.listen()
            if not several:
                phases = [request.config[name] for name in request.config.get("phases", ())]
                cores.split(phase.get("batch", 1) for phase in phases)
        # Which of several processes is the first is known later; a finished run is only read.
        free = several or lock.finished(request.workdir)
        with contextlib.nullcontext() if free else lock.hold(request.workdir):
            # Importing jax takes seconds; nothing above this line needs it.
            from cxrjax import run

            typed = checks.command(argv)
            return run.run(request.config, choices=request.choices, workdir=request.workdir, command=typed)
    except UserError as error:
        return 2 if error.told else fail(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv, own=True))
