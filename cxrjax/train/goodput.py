"""Where the seconds of a run went, over all its starts: how many trained, and what took the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import jax

from cxrjax import files

KINDS = ("trained", "compiled", "read", "saved", "evaluated", "rest", "lost")
EVENTS = "/jax/core/compile/"  # of jax: tracing, lowering, compiling
EVERY = 10.0  # seconds between two notes


class Goodput:
    """Counts seconds by kind and keeps them in a file, from which the next start of the run goes on.

    Kinds, in seconds of one process:
      trained: optimizer steps, also what of reading they hide.
      compiled: tracing and compiling, wherever it was.
      read: waiting for films while no step was at work.
      saved, evaluated: of the training's checkpoints and of its validation part.
      rest: preparation and studies.
      lost: what a restart did again: all until it trained or studied, and what was trained after the checkpoint that it
        went on from, as far as was noted before the end. What ran unnoted, and time in which nothing ran, is nowhere.

    Args:
      path: of the file; None keeps nothing.
      since: when the first of the seconds began, by the clock; now if None.
      clock: seconds, rising.
      compiled: seconds that the process has compiled so far.
    """

    def __init__(
        self, path: Path | None, since: float | None = None, clock: Callable[[], float] = time.monotonic,
        compiled: Callable[[], float] | None = None,
    ):  # fmt: skip
        self._path, self._clock, self._compiled = path, clock, compiled or _compiling().total
        self._since, self._before, self._noted = clock() if since is None else since, self._compiled(), clock()
        found = {}
        if path and path.exists():
            found = files.read_json(path, "remove it: only the seconds of earlier starts are lost")
        self._kept: dict[str, float] = dict.fromkeys(KINDS, 0.0) | found.get("kept", {})
        self._seconds = dict(self._kept)
        self._seconds["lost"] += sum(found.get("all", {}).values()) - sum(self._kept.values())
        self._again = bool(found)

    def mark(self, kind: str) -> None:
        """The seconds since the last mark were of this kind, less those that compiled."""
        now, compiled = self._clock(), self._compiled()
        self._seconds["compiled"] += compiled - self._before
        self._seconds[kind] += max(now - self._since - (compiled - self._before), 0.0)
        self._since, self._before = now, compiled

    def begin(self) -> None:
        """From here on nothing is done a second time: training or a study begins, or goes on."""
        self.mark("lost" if self._again else "rest")
        self._again = False
        self._write()

    def keep(self) -> None:
        """What is marked will not be done again: it is saved."""
        self._kept = dict(self._seconds)
        self._write()

    def note(self) -> None:
        """Keeps what is marked as spent, of which a kill loses all since the last `keep`; now and then is enough."""
        if self._clock() - self._noted >= EVERY:
            self._write()

    def seconds(self) -> dict[str, float]:
        """What is marked, by kind, of all starts."""
        return {kind: round(value, 1) for kind, value in self._seconds.items()}

    def _write(self) -> None:
        self._noted = self._clock()
        if self._path:
            files.write_json(self._path, {"kept": self._kept, "all": self._seconds})


class Compiling:
    """Adds up jax's events; one that lies within another counts once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._spans = clock, [(0.0, 0.0)]

    def __call__(self, event: str, duration_secs: float, **_: str | int) -> None:
        if not event.startswith(EVENTS):
            return
        begun = self._clock() - duration_secs
        while len(self._spans) > 1 and self._spans[-1][0] >= begun:
            self._spans.pop()
        self._spans.append((begun, self._spans[-1][1] + duration_secs))  # with the total up to its end

    def total(self) -> float:
        """Seconds so far."""
        return self._spans[-1][1]


@lru_cache(maxsize=1)
def _compiling() -> Compiling:
    found = Compiling()
    jax.monitoring.register_event_duration_secs_listener(found)
    return found
