"""Reads what every finished run left in its workdir, and checks it; nothing here draws."""

from __future__ import annotations

import argparse
import math
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cxrjax.errors import UserError
from cxrjax.report.read.files import read_json, read_lines

_DRAWN = ("tables", "headline", "sentences", "warnings", "seconds")  # parts of results.json that every page draws
R = TypeVar("R", bound="Run")


@dataclass(frozen=True)
class Entry:
    """A metric entry: its path in results.json, its value, a 95 % interval where there is one, and what it counts."""

    path: tuple[str, ...]
    value: Any
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""


@dataclass(frozen=True)
class Run:
    """A finished run, in memory. What one study alone leaves is in a class of its own, see `extended`.

    `results` is all of results.json, `entries` its numbers less the parts that every page draws.
    """

    workdir: Path
    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def extended(self, kind: type[R], **more: Any) -> R:
        """The run as that of a study: with what the study left."""
        return kind(**{part.name: getattr(self, part.name) for part in fields(Run)}, **more)

    @property
    def config(self) -> dict[str, Any]:
        """The config, empty where the manifest has none."""
        return self.manifest.get("config") or {}

    @property
    def study(self) -> dict[str, Any]:
        """`study` of the config, empty where it has none."""
        return self.config.get("study") or {}

    @property
    def name(self) -> str:
        """The run's name: the manifest's or the config's, else NAME[-VARIANT] of its command, else the folder's."""
        named = self.manifest.get("name") or self.config.get("name") or _asked(str(self.manifest.get("command") or ""))
        return str(named or self.workdir.resolve().name)

    @property
    def devices(self) -> str:
        """The devices by kind, "" where the manifest has none."""
        count = Counter(map(str, self.manifest.get("devices") or ()))
        return ", ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in count.items())

    @cached_property
    def _by_path(self) -> dict[tuple[str, ...], Entry]:
        return {entry.path: entry for entry in reversed(self.entries)}

    @cached_property
    def _below(self) -> dict[tuple[str, ...], dict[str, None]]:
        """The names one level below each path, in order: a page of many arms asks for thousands."""
        found: dict[tuple[str, ...], dict[str, None]] = {}
        for entry in self.entries:
            for depth, name in enumerate(entry.path):
                found.setdefault(entry.path[:depth], {})[name] = None
        return found

    def entry(self, *path: object) -> Entry | None:
        """The entry at a path of results.json, or None."""
        return self._by_path.get(tuple(str(part) for part in path))

    def children(self, *path: object) -> list[str]:
        """The names one level below a path, in the order of results.json."""
        return list(self._below.get(tuple(str(part) for part in path), ()))


def _asked(command: str) -> str:
    """NAME or NAME-VARIANT of a command's `--config`, as the launcher names runs; "" where there is none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-config", default="")
    file, _, variant = parser.parse_known_args(shlex.split(command))[0].config.partition(":")
    return "-".join([Path(file).stem, *([variant] if variant not in ("", "default") else [])])


def is_number(value: object) -> bool:
    """Whether a value is a finite number (True and False are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def entries_of(tree: Any, path: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Walks nested results: a dict whose "value" is not itself a dict is an entry, and so is whatever is no dict."""
    if not isinstance(tree, dict):
        yield Entry(path, tree)
    elif "value" in tree and not isinstance(tree["value"], dict):
        yield Entry(path, tree["value"], tree.get("low"), tree.get("high"), tree.get("n"), str(tree.get("unit") or ""))
    else:
        for name, below in tree.items():
            yield from entries_of(below, (*path, str(name)))


def read_run(workdir: Path) -> Run:
    """Reads a workdir. Only manifest.json must be there; what else is missing is left out, and noted if unusual.

    Raises:
      UserError: no manifest, or a file that cannot be read.
    """
    workdir = Path(workdir)
    if not (workdir / "manifest.json").is_file():
        raise UserError(f"{workdir}: no manifest.json here; give the workdir of a finished run")
    manifest = read_json(workdir / "manifest.json")
    notes: list[str] = []
    results: dict[str, Any] = {}
    if (workdir / "results.json").is_file():
        results = read_json(workdir / "results.json")
        notes += map(str, results.get("warnings") or ())  # of the study itself
    else:
        notes.append("results.json is missing: the run may not have finished, and this page has no numbers.")
    numbers = entries_of({name: tree for name, tree in results.items() if name not in _DRAWN})
    entries = [entry for entry in numbers if not isinstance(entry.value, list)]  # a list is drawn, or a table's
    return Run(workdir, manifest, read_lines(workdir / "metrics.jsonl"), entries, notes, results)
