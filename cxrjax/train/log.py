"""What a run says while it runs: metrics.jsonl, TensorBoard events, and the console of its progress bars."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from cxrjax import files
from cxrjax.console import on_stdout
from cxrjax.console import progress as progress
from cxrjax.train import goodput, processes


class Log:
    """One run's log; only the first process writes. A context manager.

    Lines of metrics.jsonl are `{"phase", "step", ...}`, with `"eval": split` for an evaluation.

    Args:
      workdir: of the run.
      begun: when the run was, by `time.monotonic`; now if None.
    """

    def __init__(self, workdir: Path, begun: float | None = None):
        self._path = workdir / "metrics.jsonl"
        self._primary = processes.primary()
        # Written by this thread: the one of `SummaryWriter` dies of a full disk, and its queue then blocks the run.
        self._events = None
        if self._primary:
            (workdir / "tensorboard").mkdir(exist_ok=True)
            self._events = EventsWriter(str(workdir / "tensorboard" / "events"))
        self.console = on_stdout(quiet=not self._primary)
        self.goodput = goodput.Goodput(workdir / ".seconds.json" if self._primary else None, begun)
        self.warnings: list[str] = []

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._events:
            with contextlib.suppress(OSError):  # a copy of metrics.jsonl; an error on its way out says more
                self._events.close()

    def say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False)

    def warn(self, message: str) -> None:
        """Says what stands over the results too."""
        self.warnings.append(message)
        self.say(f"warning: {message}")

    def rewind(self, phase: str, step: int) -> None:
        """Drops what a killed run logged of `phase` after the `step` that it now goes on from."""
        if not self._primary or not self._path.exists():
            return
        keep = []
        for line in self._path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that the kill cut off
                continue
            if entry["phase"] != phase or entry["step"] <= step:
                keep.append(line)
        files.write_text(self._path, "".join(line + "\n" for line in keep))

    def evaluations(self, phase: str, split: str = "val") -> list[dict[str, Any]]:
        """The evaluations of `phase` in the file, in order: `{"step", metric: float or None}`."""
        return processes.first(lambda: self._evaluations(phase, split))

    def _evaluations(self, phase: str, split: str) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # as in rewind
                continue
            if entry.pop("phase") == phase and entry.pop("eval", None) == split:
                found.append(entry)
        return found

    def write(self, phase: str, step: int, scalars: Mapping[str, float], split: str = "") -> None:
        """Appends one line; `split` marks an evaluation."""
        if not self._primary or self._events is None:
            return
        entry = {"phase": phase, "step": step, **({"eval": split} if split else {})}
        numbers = {k: (float(v) if math.isfinite(v) else None) for k, v in scalars.items()}
        try:
            with self._path.open("a") as file:
                file.write(json.dumps({**entry, **numbers}) + "\n")
            for name, value in numbers.items():
                if value is not None:
                    place = "/".join(filter(None, (phase, split, name)))
                    self._events.write_event(
                        Event(wall_time=time.time(), step=step, summary=summary.scalar(place, value))
                    )
            self._events.flush()
            self.goodput.note()
        except OSError as error:
            raise files.told(error, self._path) or error from error
