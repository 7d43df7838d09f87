"""One run at a time in a workdir. Imports no jax, so that a second run is told before it has loaded anything."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from cxrjax.errors import UserError

_held: set[Path] = set()


def finished(workdir: Path) -> bool:
    """Whether a workdir's manifest says that its run has ended."""
    try:
        return bool(json.loads((workdir / "manifest.json").read_text()).get("finished"))
    except (OSError, ValueError, AttributeError):  # none yet, or damaged, of which the run itself tells
        return False


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Makes a workdir and holds it; one that this process holds already is left to it.

    Where the block fails and the workdir was made for it and is still empty, it goes again.

    Raises:
      UserError: another run is at work there, or it cannot be written.
    """
    workdir = workdir.absolute()
    if workdir in _held:
        yield
        return
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    owner = workdir / ".lock.owner"  # a file of its own: asking for a lock empties the lock file
    lock = filelock.FileLock(workdir / ".lock", timeout=0)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except filelock.Timeout:
        who = f" ({owner.read_text()})" if owner.exists() else ""
        raise UserError(f"another run is at work in {workdir}{who}; wait for it, or give another --workdir") from None
    except OSError as error:
        lock.release()
        raise UserError(f"{workdir}: cannot be written ({error.strerror}); give a --workdir that can") from error
    _held.add(workdir)
    try:
        yield
    except BaseException:
        if made:
            owner.unlink(missing_ok=True)
            (workdir / ".lock").unlink(missing_ok=True)
            for path in made:
                with contextlib.suppress(OSError):  # something was written: it stays
                    path.rmdir()
        raise
    finally:
        _held.discard(workdir)
        lock.release()
