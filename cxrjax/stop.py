"""SIGTERM and Ctrl-C, heard at once wherever a run is: while it imports, prepares, compiles, trains or studies.

While there is something to save (`saving`) a request is left to the training loop, which asks for it; at any other time
the process ends at once. That is safe: every file of a run is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

EXIT = 75  # EX_TEMPFAIL: the same command goes on
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_heard: list[int] = []
_listening = threading.Event()
_saving = threading.Event()
# What is called with the exit code and the last words before a process ends at once.
last_words: list[Callable[[int, str], Any]] = []


class Preempted(Exception):
    """A signal came; what there was to save is saved, and the same command goes on from it."""

    by_all = True  # every process of the run raises it


def listen() -> None:
    """Hears the signals from now on, also while the main thread is in native code and runs no handler."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _note)
    _listening.set()
    threading.Thread(target=_hear, args=(read,), daemon=True).start()


def asked() -> bool:
    """Whether a signal has come while `saving`."""
    return _saving.is_set() and bool(_heard)


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """There is something to save: until the end of the block its owner asks `asked` and stops.

    A signal that came too late to be asked for ends the process behind the block, where all is saved.

    Raises:
      Preempted: such a signal, where the process is not this module's to end (see `listen`).
    """
    before = {}
    if not _listening.is_set():  # a library's caller: SIGTERM alone, and its handler comes back
        _heard.clear()
        if threading.current_thread() is threading.main_thread():
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _note)
    _saving.set()
    try:
        yield
    finally:
        _saving.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
    if _heard:
        words = f"{_name(_heard[0])}: all is saved, the same command goes on"
        if _listening.is_set():
            _leave(words)
        raise Preempted(words)


def _note(number: int, frame: object) -> None:
    _heard.append(number)


def _hear(pipe: int) -> None:
    count = 0
    while True:
        for number in os.read(pipe, 64):
            if number not in SIGNALS:
                continue
            count += 1
            if not _saving.is_set():
                _leave(f"{_name(number)}: nothing is lost, the same command goes on")
            elif count == 1:
                print(f"{_name(number)}: saving after this step; once more stops at once", file=sys.stderr, flush=True)
            elif number == signal.SIGINT:
                _leave("Ctrl-C again: the same command goes on from the last checkpoint")


def _leave(words: str) -> None:
    print(f"stopped by {words}", file=sys.stderr, flush=True)
    for say in last_words:
        with contextlib.suppress(OSError):
            say(EXIT, f"stopped by {words}")
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            print("\033[?25h", end="")  # a progress bar hides the cursor
        sys.stdout.flush()
    os._exit(EXIT)


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
