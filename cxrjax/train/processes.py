"""Several processes as one run: what the first one decides for all, what all must agree on, what each one has.

Every function is called by all processes together and is also a barrier; of one process alone it costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cxrjax import stop
from cxrjax.errors import UserError
from cxrjax.train import watch

T = TypeVar("T")
EVERY = 2.0  # seconds between two votes


def primary() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def one_end(workdir: Path, timeout: float) -> Iterator[None]:
    """While the block runs, several processes watch one another by signs in their workdir, and all end with one code.

    Args:
      workdir: on storage that all share, which is tried first.
      timeout: seconds without a sign until a process counts as gone.

    Raises:
      UserError: a process does not see what the first one has written.
    """
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        yield
        return
    token = first(lambda: uuid.uuid4().hex)
    signs = watch.Signs(workdir, token, count, index)
    together(signs.give)
    seen = gather([socket.gethostname(), 0 in signs.read()])
    if blind := [f"process {i} on {host}" for i, (host, sees) in enumerate(seen) if not sees]:
        raise UserError(
            f"{workdir}: what process 0 on {seen[0][0]} wrote there is not seen by {', '.join(blind)}; give a "
            "--workdir on storage that all processes share"
        )
    watching = watch.Watch(signs, count, index, timeout)
    stop.last_words.append(signs.give)
    try:
        yield
        agree(True)  # the first one may still be writing
    except (UserError, stop.Preempted) as error:
        code = stop.EXIT if isinstance(error, stop.Preempted) else 2
        _leave(code, f"{'' if code == stop.EXIT else 'error: '}{' '.join(str(error).split())}", watching)
    except jax.errors.JaxRuntimeError as error:  # of a collective, when another process is gone: then this ends here
        time.sleep(timeout + watch.GRACE + 2 * watch.EVERY)
        traceback.print_exc()
        _leave(1, f"error: {str(error)[:200]}", watching)
    except Exception as error:
        traceback.print_exc()
        _leave(1, f"error: {type(error).__name__}: {str(error)[:200]}", watching)
    finally:
        stop.last_words.remove(signs.give)
        watching.close()


def _leave(code: int, words: str, watching: watch.Watch) -> None:
    """Ends this process of several, without jax's own farewell, which would wait for those that are gone."""
    if watching.farewell(code, words):
        print(words, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def rows(tree: Any) -> Any:
    """Arrays split over the devices of all processes -> whole numpy arrays on each."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)


def gather(value: Any) -> list[Any]:
    """The JSON value of each process, in their order."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value).encode()
    length = np.asarray(multihost_utils.process_allgather(np.asarray(len(text)))).reshape(-1)
    room = 256
    while room < length.max():  # few sizes, since each is a program of its own
        room *= 4
    padded = np.frombuffer(text.ljust(room), np.uint8)
    return [json.loads(bytes(line)) for line in np.asarray(multihost_utils.process_allgather(padded))]


def agree(ok: bool) -> bool:
    """True when `ok` is true on every process, so that all of them take the same branch."""
    if jax.process_count() == 1:
        return ok
    return bool(np.min(multihost_utils.process_allgather(np.asarray(ok))))


class Vote:
    """Whether any process has heard a signal, asked of all together about every `EVERY` seconds.

    Asking waits for the device, so that it is done by time; and by count, which is the same on all. One process alone
    answers at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._since = clock, clock()
        self._between = self._left = 1

    def __call__(self, mine: bool) -> bool:
        """Called by all equally often, such as once a step."""
        if jax.process_count() == 1:
            return mine
        self._left -= 1
        if self._left:
            return False
        now = self._clock()
        votes = np.asarray([mine, now - self._since], np.float32)
        found = np.asarray(multihost_utils.process_allgather(votes))  # (processes, 2)
        self._since = now
        self._between = self._left = until_next(self._between, float(found[:, 1].max()))
        return bool(found[:, 0].any())


def until_next(calls: int, seconds: float) -> int:
    """After how many calls to ask again, when the last `calls` took `seconds`: at most twice as many."""
    return max(1, min(2 * calls, int(EVERY * calls / max(seconds, 1e-6))))


def together(make: Callable[[], T]) -> T:
    """What each process makes for itself.

    Raises:
      UserError: one of them raised it, so that all do; its message, with the process where that was another one.
    """
    value, problem = None, ""
    try:
        value = make()
    except (UserError, OSError) as error:
        problem = str(error) or repr(error)
    each = gather(problem)
    if not any(each):
        return value  # type: ignore[return-value]
    index = next(i for i, words in enumerate(each) if words)
    found = UserError(problem or f"process {index}: {each[index]}")
    # The first process prints what it has heard, another one what it alone has met.
    found.told = not primary() and (not problem or problem == each[0])
    raise found


def first(make: Callable[[], T]) -> T:
    """What the first process makes, a JSON value, on all of them: the others' disks are not asked.

    Raises:
      UserError: the first process raised it.
    """
    value = together(lambda: make() if primary() else None)
    return gather(value)[0]
