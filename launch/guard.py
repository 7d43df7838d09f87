"""A parent that stands behind one process of several: jax ends natively where another is gone, which is told here.

Imports neither jax nor cxrjax.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

EXIT_MISSING = 70


def stand_behind() -> int | None:
    """Forks: the child gets None and goes on; the parent waits for it and gets its exit code.

    A child that is ended by a signal counts as a missing process, 70. SIGTERM goes to the child, Ctrl-C has gone there
    already. A child whose parent is gone ends too.
    """
    alive, held = os.pipe()
    child = os.fork()
    if not child:
        os.close(held)
        threading.Thread(target=_follow, args=(alive,), daemon=True).start()
        return None
    os.close(alive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    why = "for want of memory?" if name == "SIGKILL" else "another process of the run is gone, most likely process 0"
    print(f"error: this process was ended by {name} ({why}); the same command goes on", file=sys.stderr, flush=True)
    return EXIT_MISSING


def _follow(pipe: int) -> None:
    os.read(pipe, 1)  # returns when the parent is gone, who writes nothing
    os._exit(EXIT_MISSING)
