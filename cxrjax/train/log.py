"""What a run says while it runs: metrics.jsonl, TensorBoard events, and the console of its progress bars."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils
from rich.console import Console
from tensorboardX import SummaryWriter

from cxrjax.console import progress as progress


class Log:
    """One run's log; only the first process writes. A context manager.

    Lines of metrics.jsonl are `{"phase", "step", ...}`, with `"eval": split` for an evaluation.
    """

    def __init__(self, workdir: Path):
        self._path = workdir / "metrics.jsonl"
        self._primary = jax.process_index() == 0
        self._writer = SummaryWriter(str(workdir / "tensorboard")) if self._primary else None
        self.console = Console(quiet=not self._primary)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._writer:
            self._writer.close()

    def say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False)

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
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(line + "\n" for line in keep))
        partial.replace(self._path)

    def evaluations(self, phase: str, split: str = "val") -> list[dict[str, Any]]:
        """The evaluations of `phase` in the file, in order: `{"step", metric: float or None}`."""
        if jax.process_count() > 1:  # only the first process writes
            multihost_utils.sync_global_devices(f"evaluations of {phase}")
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
        if not self._primary or self._writer is None:
            return
        entry = {"phase": phase, "step": step, **({"eval": split} if split else {})}
        numbers = {k: (float(v) if math.isfinite(v) else None) for k, v in scalars.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({**entry, **numbers}) + "\n")
        for name, value in scalars.items():
            if math.isfinite(value):  # else the writer warns, for every one
                self._writer.add_scalar("/".join(filter(None, (phase, split, name))), value, step)
