"""The progress bar of everything that takes long, and plain lines in its place where no terminal can redraw it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich import progress as rich
from rich.console import Console
from rich.text import Text

T = TypeVar("T")
_EVERY = 30.0  # seconds between plain lines
LOG_WIDTH = 140  # of a log file; rich's 80 break the words in a table of seven figures with intervals
_quiet = False


def be_quiet() -> None:
    """From now on no bar and no line: another process of the run says it."""
    global _quiet
    _quiet = True


def on_stdout(quiet: bool = False) -> Console:
    """A console as wide as its terminal, or as `LOG_WIDTH` where stdout is none; a quiet one prints nothing."""
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else LOG_WIDTH)


def _rate(task: rich.Task) -> str:
    speed = task.finished_speed or task.speed
    return "" if not speed else f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


def _left(seconds: float | None) -> str:
    if not seconds:
        return ""
    size, unit = next((size, unit) for size, unit in ((3600, "h"), (60, "min"), (0, "s")) if seconds >= 1.5 * size)
    return f"{seconds / (size or 1):.0f} {unit} left"


class _Rate(rich.ProgressColumn):
    def render(self, task: rich.Task) -> Text:
        return Text(_rate(task))


class Bar(rich.Progress):
    """A rich `Progress` that, in a log file, prints a line when 30 s have passed since the last one, and at its end.

    A line: `diffusion 250/500, 1.9/s, 2 min left, loss 0.043`. Tasks carry a field `note`, which may be empty.
    """

    def __init__(self, console: Console | None, transient: bool, brief: bool, clock: Callable[[], float]) -> None:
        console = Console(quiet=True) if _quiet else console or on_stdout()
        columns = (
            rich.TextColumn("{task.description:<12}"),
            rich.BarColumn(bar_width=28),
            rich.MofNCompleteColumn(),
            _Rate(),
            rich.TimeRemainingColumn(compact=True),
            rich.TextColumn("{task.fields[note]}"),
        )
        self._plain = not (console.is_terminal or console.is_jupyter)
        self._due, self._last, self._brief = clock() + _EVERY, "", brief
        super().__init__(
            *columns,
            console=console,
            transient=transient or brief,
            disable=self._plain,
            auto_refresh=not self._plain,  # else `track` counts in a thread that ends at once where nothing is live
            refresh_per_second=4,
            # Steps are sent in bursts of a log window, and an evaluation pauses them: both may exceed rich's 30 s.
            speed_estimate_period=600.0,
            get_time=clock,
        )

    def update(self, task_id: rich.TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._say_if_due()

    def advance(self, task_id: rich.TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say_if_due()

    def stop(self) -> None:
        super().stop()
        if self._last or not self._brief:
            self._say()

    def _say_if_due(self) -> None:
        if self._plain and self.get_time() >= self._due:
            self._due = self.get_time() + _EVERY
            self._say()

    def _say(self) -> None:
        for task in self.tasks if self._plain else ():
            count = f"{task.description} {task.completed:.0f}/{task.total or 0:.0f}"
            line = ", ".join(filter(None, (count, _rate(task), _left(task.time_remaining), task.fields["note"])))
            if line != self._last:
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._last = line


def progress(
    console: Console | None = None, *, transient: bool = False, brief: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Bar:  # fmt: skip
    """A progress bar with counts, rate, time left and a note; `add_task` wants `note=""`.

    Args:
      console: where; None is stdout.
      transient: whether a terminal's bar goes when it is done.
      brief: the same, and a log file learns of it only after its first 30 s.
      clock: seconds, rising.
    """
    return Bar(console, transient, brief, clock)


def watched(items: Iterable[T], total: int, name: str, *, brief: bool = False) -> Iterator[T]:
    """The items as they are, under a bar that goes on with each."""
    with progress(brief=brief) as bar:
        task = bar.add_task(name, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)
