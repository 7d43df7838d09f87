"""Whether two workdirs hold the same run: `python tests/same_run.py WORKDIR_A WORKDIR_B [--ignore=KEY,...]`.

It is no test of its own but what a change that should change nothing is tried with: run a config before and after, and
compare. Files must be of the same names; arrays equal bit by bit, other values and words as they are written. Left out:
  times: keys and arrays named in `TIMES`, columns of seconds, dates on a page;
  where and by what: `FREE` of the manifest and of its config, the workdir's path and name;
  the config's keys given with --ignore, such as `data.folds` or a whole section;
  TensorBoard's events, and what is inside a checkpoint.
A picture that differs is told and does not count: it is drawn of what was compared, by a library of any version.

Prints a line for each difference. Exit codes: 0 the same run; 1 another; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from difflib import SequenceMatcher
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TIMES = ("seconds", "seconds_a_film")
TIMED_COLUMN = re.compile(r"^(s a |seconds)")
FREE = ("command", "started", "versions", "commit", "devices", "processes")
FREE_CONFIG = ("compile_cache", "data.cache", "data.root")
DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?( UTC|[+-]\d\d:\d\d)?")
PICTURES = (".png", ".webp", ".svg")
MOST = 20  # lines a file


class Mistake(Exception):
    """A mistake on the command line; the message says how to mend it."""


class Side(NamedTuple):
    """One workdir.

    Attributes:
      folder: where it is.
      ignore: config keys that are left out.
      home: where it was when it was run, which a page may name.
    """

    folder: Path
    ignore: tuple[str, ...]
    home: Path

    def left_out(self, key: str) -> bool:
        """Whether a dotted config key is."""
        return any(key == given or key.startswith(f"{given}.") for given in (*FREE_CONFIG, *self.ignore))


def without(config: Any, side: Side, prefix: str = "") -> Any:
    """A config without the keys that are left out."""
    if not isinstance(config, dict):
        return config
    return {k: without(v, side, f"{prefix}{k}.") for k, v in config.items() if not side.left_out(f"{prefix}{k}")}


def plain_manifest(record: dict[str, Any], side: Side) -> dict[str, Any]:
    """What is compared of a manifest."""
    kept = {key: value for key, value in record.items() if key not in FREE}
    choices = {key: value for key, value in record.get("choices", {}).items() if not side.left_out(key)}
    return {**kept, "config": without(record.get("config", {}), side), "choices": choices}


def values(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, times aside."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key in TIMES:
                continue
            where = f"{path}.{key}" if path else key
            if key not in b or key not in a:
                yield f"{where} is only in {'the first' if key in a else 'the second'}"
            else:
                yield from values(a[key], b[key], where)
        if a.keys() == b.keys() and list(a) != list(b):
            yield f"{path or 'the top'}: the same keys in another order"
        return
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from values(*pair, f"{path}[{i}]")
    elif type(a) is not type(b) or (a != b and not (a != a and b != b)):
        yield f"{path} is {_short(a)} and {_short(b)}"


def untimed(results: Any) -> Any:
    """Results whose tables have no column of seconds."""
    if isinstance(results, list):
        return [untimed(value) for value in results]
    if not isinstance(results, dict):
        return results
    out = {key: untimed(value) for key, value in results.items()}
    columns, rows = out.get("columns"), out.get("rows")
    if isinstance(columns, list) and isinstance(rows, list):
        keep = [not TIMED_COLUMN.match(str(column)) for column in columns]
        for row in rows:
            if isinstance(row, dict) and len(row.get("cells", ())) == len(keep):
                row["cells"] = list(itertools.compress(row["cells"], keep))
    return out


def arrays(a: Path, b: Path) -> Iterator[str]:
    """Where two .npz files differ, bit by bit."""
    with np.load(a) as first, np.load(b) as second:
        for name in sorted({*first.files, *second.files} - {*TIMES}):
            if name not in first.files or name not in second.files:
                yield f"{name} is only in {'the first' if name in first.files else 'the second'}"
                continue
            x, y = first[name], second[name]
            if (x.dtype, x.shape) != (y.dtype, y.shape):
                yield f"{name} is {x.dtype} {x.shape} and {y.dtype} {y.shape}"
            elif x.tobytes() != y.tobytes():
                differ = np.frombuffer(x.tobytes(), np.uint8) != np.frombuffer(y.tobytes(), np.uint8)
                count = int(differ.reshape(x.size, -1).any(axis=1).sum())
                yield f"{name}: {count} of {x.size} elements differ"


class _Page(HTMLParser):
    """A page as a list of words and tags, a table's row as one, and its pictures."""

    def __init__(self, side: Side):
        super().__init__()
        self.items: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self._side, self._tag = side, ""
        self._row: list[str] | None = None
        self._timed: set[int] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if given.get("src", "").startswith("data:"):
            self.pictures.append((given.get("alt", ""), _digest(given.pop("src"))))
        if tag == "table":
            self._timed = set()
        if tag == "tr":
            self._row = []
        elif tag in ("td", "th") and self._row is not None:
            self._row.append("")
        self._tag = tag
        self._add(f"<{' '.join([tag, *(f'{key}={value}' for key, value in given.items())])}>")

    def handle_endtag(self, tag: str) -> None:
        self._add(f"</{tag}>")
        if tag == "tr" and self._row is not None:
            self._end_row(self._row)
            self._row = None

    def handle_data(self, data: str) -> None:
        name, text = self._side.home.name, DATE.sub("(date)", data.strip())
        if text == name or text.startswith(f"{name} · "):
            text = text.replace(name, "(name)", 1)
        if text.startswith("{"):
            with contextlib.suppress(ValueError):  # the manifest, as it is shown
                text = json.dumps(plain_manifest(json.loads(text), self._side), indent=1)
        if self._tag == "small" and self._side.ignore and text.isdigit():
            text = "(count)"  # of a section's keys
        for line in text.replace(str(self._side.home), "(workdir)").splitlines():
            self._add(line)

    def _add(self, text: str) -> None:
        if self._row is None:
            self.items.append(text)
        elif self._row:
            self._row[-1] += text

    def _end_row(self, row: list[str]) -> None:
        words = [re.sub(r"<[^>]*>", "", cell) for cell in row]
        self._timed |= {i for i, word in enumerate(words) if TIMED_COLUMN.match(word)}
        first = words[0] if words else ""
        if first.rpartition(".")[2] in TIMES or first in FREE or self._side.left_out(first):
            return
        self.items.append(" | ".join(cell for i, cell in enumerate(row) if i not in self._timed))


def page(path: Path, side: Side) -> _Page:
    """A page, read."""
    found = _Page(side)
    found.feed(path.read_text(encoding="utf-8"))
    found.close()
    return found


def pages(a: _Page, b: _Page) -> Iterator[str]:
    """Where two pages differ."""
    for kind, i, j, k, n in SequenceMatcher(None, a.items, b.items, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for one, other in itertools.zip_longest(a.items[i:j], b.items[k:n], fillvalue=""):
            at = next((c for c, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), 0)
            yield f"{_short(one[max(0, at - 40) :])} and {_short(other[max(0, at - 40) :])}"


def names(folder: Path) -> set[str]:
    """The files of a workdir, a checkpoint as one."""
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if parts[0] == "tensorboard" or any(part.startswith(".") for part in parts):
            continue
        if parts[0] == "checkpoints":
            found |= {"/".join(parts[:3])} if len(parts) > 2 else set()
        elif path.is_file():
            found.add("/".join(parts))
    return found


def compare(a: Side, b: Side, name: str) -> tuple[list[str], list[str]]:
    """Differences of one file that count, and those that are only told."""
    one, other = a.folder / name, b.folder / name
    if one.is_dir():
        return [], []
    if name == "manifest.json":
        found = values(*(plain_manifest(json.loads((s.folder / name).read_text()), s) for s in (a, b)))
    elif one.suffix == ".json":
        found = values(*(untimed(json.loads(path.read_text())) for path in (one, other)))
    elif one.suffix == ".jsonl":
        found = values(*([json.loads(line) for line in path.read_text().splitlines()] for path in (one, other)), "line")
    elif one.suffix == ".npz":
        found = arrays(one, other)
    elif one.suffix == ".html":
        first, second = page(one, a), page(other, b)
        pairs = enumerate(zip(first.pictures, second.pictures, strict=False))
        told = [f"picture {i}, {x[0] or 'unnamed'}, is another" for i, (x, y) in pairs if x[1] != y[1]]
        return list(pages(first, second)), told
    elif one.read_bytes() == other.read_bytes():
        return [], []
    else:
        told = ["is another"]
        return ([], told) if one.suffix in PICTURES else (told, [])
    return list(found), []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _side(folder: str, ignore: tuple[str, ...]) -> Side:
    path = Path(folder)
    if not path.is_dir():
        raise Mistake(f"{folder} is no folder; give the workdirs of two runs")
    if not (path / "manifest.json").exists():
        raise Mistake(f"{folder} has no manifest.json, so it is no run's workdir")
    command = re.search(r"--workdir[= ](\S+)", json.loads((path / "manifest.json").read_text()).get("command", ""))
    return Side(path, ignore, Path(command[1]) if command else path.resolve())


def _check_ignored(a: Side, b: Side) -> None:
    def keys(tree: Any, prefix: str = "") -> Iterator[str]:
        if isinstance(tree, dict):
            for key, value in tree.items():
                yield f"{prefix}{key}"
                yield from keys(value, f"{prefix}{key}.")

    known = {k for s in (a, b) for k in keys(json.loads((s.folder / "manifest.json").read_text()).get("config", {}))}
    for key in a.ignore:
        if key not in known:
            raise Mistake(f"--ignore={key}: neither config has such a key; keys are dotted, as data.size")


def main(argv: list[str]) -> int:
    """Compares the workdirs that `argv`, without the program's name, gives; returns the exit code."""
    parser = argparse.ArgumentParser(prog="same_run.py", description="Whether two workdirs hold the same run.")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--ignore", default="", metavar="KEY,...", help="dotted keys of the config that may differ")
    given = parser.parse_args(argv)
    ignore = tuple(filter(None, given.ignore.split(",")))
    try:
        a, b = _side(given.first, ignore), _side(given.second, ignore)
        _check_ignored(a, b)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    one, other = names(a.folder), names(b.folder)
    differ = 0
    for name in sorted(one ^ other):
        print(f"{name}: only in the {'first' if name in one else 'second'}")
        differ += 1
    for name in sorted(one & other):
        counted, told = compare(a, b, name)
        differ += len(counted)
        lines = [*counted, *(f"{line} (does not count)" for line in told)]
        for line in lines[:MOST]:
            print(f"{name}: {line}")
        if len(lines) > MOST:
            print(f"{name}: and {len(lines) - MOST} more")
    print(f"{differ} differences" if differ else f"the same run: {len(one)} files")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
