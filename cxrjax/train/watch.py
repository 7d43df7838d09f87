"""Whether the other processes of a run are there, by signs that each leaves in the workdir that all share.

A process that ends leaves its exit code, and the others end with it; one that gives no sign for a while is named, and
the others exit with 70. jax alone would hang in the next collective, or abort with a native stack.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cxrjax import stop

EXIT_MISSING = 70  # EX_SOFTWARE: a process is gone; the same command goes on
FOLDER = ".processes"
EVERY = 1.0  # seconds between signs
GRACE = 3.0  # seconds in which a process that can still move ends by itself
LONGEST = 1000  # characters of last words


class Ended(NamedTuple):
    """What a process said last: an exit code that is not 0, or its silence."""

    number: int
    code: int
    words: str


class Watcher:
    """Judges the signs of the others; no clock, disk or thread of its own.

    Args:
      count: of processes.
      index: of this one.
      timeout: seconds without a new sign until one counts as missing.
      now: seconds, rising.
    """

    def __init__(self, count: int, index: int, timeout: float, now: float):
        self._timeout, self._last = timeout, {i: ("", now, "") for i in range(count) if i != index}

    def look(self, signs: Mapping[int, Any], now: float) -> Ended | None:
        """The first process that has ended or is missing, by the signs as they are now."""
        for index, (beat, since, name) in self._last.items():
            sign = signs.get(index)
            if sign and sign["end"]:
                return Ended(index, int(sign["end"]["code"]), f"process {index}: {sign['end']['words']}")
            if sign and str(sign["beat"]) != beat:
                self._last[index] = (str(sign["beat"]), now, f" ({sign['host']}, pid {sign['pid']})")
            elif now - since > self._timeout:
                at = datetime.datetime.now() - datetime.timedelta(seconds=now - since)
                words = f"process {index}{name} has given no sign since {at:%H:%M:%S}, {now - since:.0f} s"
                return Ended(index, EXIT_MISSING, words)
        return None


class Signs:
    """A process's signs in a folder that all share.

    Args:
      workdir: of the run.
      token: of this start of the run; signs of earlier ones say nothing.
      count, index: of the processes, and this one's.
    """

    def __init__(self, workdir: Path, token: str, count: int, index: int):
        self._folder, self._token, self._count, self._index = workdir / FOLDER, token, count, index
        self._beat, self._end = 0, {}  # type: ignore[var-annotated]
        self._lock = threading.Lock()

    def give(self, code: int = 0, words: str = "") -> None:
        """A new sign; with a code that is not 0 the last one."""
        with self._lock:
            self._beat += 1
            if code and not self._end:
                self._end = {"code": code, "words": words[:LONGEST]}
            sign = {
                "token": self._token, "beat": self._beat, "host": socket.gethostname(), "pid": os.getpid(),
                "end": self._end,
            }  # fmt: skip
            self._folder.mkdir(parents=True, exist_ok=True)
            # Written over, not renamed: readers on a network file system would keep the old file's name.
            path = self._folder / str(self._index)
            with path.open("r+b" if path.exists() else "wb") as file:
                file.write(json.dumps(sign).encode().ljust(8 * LONGEST))

    def read(self) -> dict[int, Any]:
        """The signs of all by number; without those that cannot be read just now."""
        found = {}
        for index in range(self._count):
            try:
                sign = json.loads((self._folder / str(index)).read_bytes())
            except (OSError, ValueError):
                continue
            if sign["token"] == self._token:
                found[index] = sign
        return found


class Watch:
    """Gives signs and watches those of the others from a thread, until it is closed.

    Args:
      signs: of this process.
      count, index: of the processes, and this one's.
      timeout: see `Watcher`.
      leave: ends the process at once with a code.
    """

    def __init__(
        self, signs: Signs, count: int, index: int, timeout: float, leave: Callable[[int], Any] = os._exit
    ):  # fmt: skip
        self._signs, self._count, self._index, self._leave = signs, count, index, leave
        self._watcher = Watcher(count, index, timeout, time.monotonic())
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the watch; the others are no longer waited for, and no longer needed."""
        self._closed.set()
        self._thread.join()

    def farewell(self, code: int, words: str) -> bool:
        """Says that this process ends with a code that is not 0, and lets the others hear it.

        Returns:
          Whether the words are for people: not where the first process says the same.
        """
        self.close()
        self._signs.give(code, words)
        # The first one holds the connections of the others, and waits until they have heard it and gone.
        until = time.monotonic() + GRACE + (0 if self._index else 2 * EVERY + GRACE)
        while time.monotonic() < until:
            ended = {index: sign["end"] for index, sign in self._signs.read().items() if sign["end"]}
            if self._index and 0 in ended:
                return ended[0]["words"] != words[:LONGEST]
            if not self._index and len(ended) == self._count:
                break
            time.sleep(0.1)
        return True

    def _run(self) -> None:
        found: Ended | None = None
        until = 0.0
        while not self._closed.wait(EVERY if found is None else 0.1):
            try:
                self._signs.give()
                found = found or self._watcher.look(self._signs.read(), time.monotonic())
            except OSError:  # of the storage, for now: the run itself will meet it
                continue
            if found and not until:
                until = time.monotonic() + (GRACE if found.code != EXIT_MISSING else 0)
            if found and time.monotonic() >= until:
                self._end(found)

    def _end(self, found: Ended) -> None:
        kind = "" if found.code == stop.EXIT else "error: "
        more = "; the same command goes on" if found.code == EXIT_MISSING else ""
        print(f"{kind}{found.words}{more}", file=sys.stderr, flush=True)
        self._signs.give(found.code, found.words.removeprefix(f"process {found.number}: "))
        self._leave(found.code)
