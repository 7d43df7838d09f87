"""Films decoded by several processes, each its shard of them, and put together by one: the bytes of one process alone.

A shard is a folder of files of a few films each, so that a process that was killed goes on after the last of them.
Nothing in a shard depends on another one, so they come in any order; what does depend on all films (twins, the limit of
what may be unreadable, the depth of 16-bit files) is decided where they are put together.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
from rich.console import Console

from cxrjax import console, files
from cxrjax.data import decode, reading, stream
from cxrjax.data.reading import Decoded, Plan
from cxrjax.data.sources.base import Record
from cxrjax.errors import UserError

BYTES = 1 << 24  # of pixels in a file, about
SHOWN = 3
_PIXELS = ("film", "twin", "truth", "enh")
_FOLDER = re.compile(r"(\d+)-of-(\d+)")


class Shard(NamedTuple):
    """One of `of` like parts of all films, by its number from 0."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class Done(NamedTuple):
    """A shard that is whole: its films, how many of them could not be read, the depth that 16-bit ones were read as of,
    and how many films need which."""

    films: int
    left_out: int
    depth: int
    depths: dict[str, int]


def root(plan: Plan) -> Path:
    """The folder of all shards of these films; deleting it loses nothing but time."""
    return plan.directory.with_name(f".shards-{plan.directory.name}")


def _folder(plan: Plan, shard: Shard) -> Path:
    return root(plan) / f"{shard.number}-of-{shard.of}"


def files_of(plan: Plan, shard: Shard) -> dict[Path, range]:
    """The files of a shard, each with the positions of its films."""
    planes = (5 if plan.source.has_truth else 1) + (3 if plan.options.enh is not None else 0)
    # Phase features are computed in batches, which must begin where those of one process do.
    unit = 1 if plan.options.enh is None else stream.ENH_BATCH
    total, units = plan.source.total, -(-plan.source.total // unit)
    first, last = (min(total, unit * (units * i // shard.of)) for i in (shard.number, shard.number + 1))
    step = unit * max(1, BYTES // (unit * planes * plan.size**2))
    return {_folder(plan, shard) / f"{i:09d}.npz": range(i, min(i + step, last)) for i in range(first, last, step)}


def write(plan: Plan, shard: Shard) -> Done:
    """Decodes the films of a shard that are not decoded yet; another process that does is waited for.

    Raises:
      UserError: as `reading.records`, or no space.
    """
    folder = _folder(plan, shard)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock")):
            return _done(folder) or _write(plan, shard)
    except OSError as error:
        raise files.told(error, folder) or UserError(f"cannot write shard {shard} to {folder}: {error}") from error


def _write(plan: Plan, shard: Shard) -> Done:
    folder, parts = _folder(plan, shard), files_of(plan, shard)
    there = {path: facts for path in parts if (facts := _facts(path)) is not None}
    todo = {path: span for path, span in parts.items() if path not in there}
    with console.progress(Console(stderr=True), transient=True) as bar:
        found: Iterator[Record]
        own: list[int] = []
        if plan.source.has_truth:
            found = chain.from_iterable(reading.records(plan, span.start, span.stop) for span in todo.values())
        else:
            every = list(reading.records(plan))
            if len(every) != plan.source.total:
                raise UserError(
                    f"the source announced {plan.source.total} films and gave {len(every)}; if its files changed while "
                    "they were read, run again"
                )
            wanted = [every[i] for span in todo.values() for i in span]
            own, found = reading.depths(plan, wanted, bar), iter(wanted)
        depths = Counter(own)
        depths.update(fact["own"] for facts in there.values() for fact in facts if "own" in fact)
        depth = plan.options.bit_depth or max(depths, default=0)
        total = sum(map(len, parts.values()))
        task = bar.add_task(f"preparing films of shard {shard}", total=total, note="")
        bar.advance(task, total - sum(map(len, todo.values())))
        items, left, needs = reading.items(plan, found, depth), 0, iter(own)
        for path, span in todo.items():
            batch = []
            for item in islice(items, len(span)):
                batch.append(item)
                bar.advance(task)
            facts = [_fact(item) | ({"own": next(needs)} if own else {}) for item in batch]
            _save(path, batch, facts, depth)
            left += sum("fault" in fact for fact in facts)
    left += sum("fault" in fact for facts in there.values() for fact in facts)
    done = Done(total, left, depth, {str(bits): count for bits, count in sorted(depths.items())})
    files.write_json(folder / "done.json", done._asdict())
    return done


def whole(plan: Plan, command: str) -> int:
    """How many shards these films were dealt into, all of which are done.

    Args:
      plan: of the films.
      command: a command line that prepares them, for the message.

    Raises:
      UserError: some are not; names them, and what to run.
    """
    found = begun(plan)
    if not found:
        raise UserError(
            f"no shard of these films, as they are now and with these options, is in {plan.directory.parent}: run "
            f"{command} --shard=I/N for every I from 0 to N - 1, all with one data.cache, then --merge"
        )
    count = min(found, key=lambda n: (len(_lost(plan, n)) / n, n))
    if lost := _lost(plan, count):
        films = []
        for shard in lost[:SHOWN]:
            parts = files_of(plan, shard)
            have = sum(len(span) for path, span in parts.items() if path.exists())
            films.append(f"{shard} ({have} of {sum(map(len, parts.values()))} films)")
        raise UserError(
            f"{len(lost)} of {count} shards are not done: {', '.join(films)}{', ...' * bool(lost[SHOWN:])}; run "
            f"{command} --shard={lost[0]}{' and so on' * bool(lost[1:])}, then {command} --merge again"
        )
    return count


def begun(plan: Plan) -> list[int]:
    """The counts by which these films have been dealt into shards so far, each at least begun."""
    names = [_FOLDER.fullmatch(path.name) for path in root(plan).glob("*-of-*")]
    return sorted({int(match[2]) for match in names if match})


def _lost(plan: Plan, count: int) -> list[Shard]:
    shards = [Shard(i, count) for i in range(count)]
    return [shard for shard in shards if not _done(_folder(plan, shard))]


def read(count: int, command: str, plan: Plan, bar: console.Bar) -> Decoded:
    """All films of `count` shards, in the order of one process.

    Raises:
      UserError: while films are taken: a file is damaged or gone; it is deleted, and what to run is told.
    """
    shards = [Shard(i, count) for i in range(count)]
    done = [found for shard in shards if (found := _done(_folder(plan, shard)))]
    depths = sum((Counter({int(bits): n for bits, n in each.depths.items()}) for each in done), Counter[int]())
    depth = plan.options.bit_depth or max(depths, default=0)

    def items() -> Iterator[stream.Item]:
        for shard in shards:
            for path in files_of(plan, shard):
                try:
                    arrays = files.read_arrays(path)
                except (FileNotFoundError, files.Damaged) as error:
                    path.unlink(missing_ok=True)
                    (path.parent / "done.json").unlink(missing_ok=True)
                    raise UserError(
                        f"shard {shard} has lost a file ({error}); run {command} --shard={shard}, then "
                        f"{command} --merge again"
                    ) from error
                found = _items(arrays)
                # The shard did not know of deeper films elsewhere.
                stale = int(arrays["depth"]) != depth and any(fact.get("own") for fact in _loads(arrays["facts"]))
                yield from reading.items(plan, [item.record for item in found], depth) if stale else found

    return Decoded(items(), depth, depths)


def _done(folder: Path) -> Done | None:
    try:
        return Done(**files.read_json(folder / "done.json"))
    except (FileNotFoundError, files.Damaged, TypeError):
        return None  # it is made again


def _fact(item: stream.Item) -> dict[str, Any]:
    """All of an item but its pixels, as JSON."""
    record, labels = item.record, np.asarray(item.record.labels)
    film = str(record.film) if isinstance(record.film, Path) else ""
    fact = record._asdict() | {"labels": labels.tolist(), "film": film, "twin": None, "truth": None}
    fact |= {"dtype": str(labels.dtype), "content": item.content.hex(), "shown": item.shown}
    if isinstance(item.film, decode.CorruptFilm):
        fact["fault"] = [item.film.file, item.film.reason]
    return fact


def _save(path: Path, items: list[stream.Item], facts: list[dict[str, Any]], depth: int) -> None:
    good = [item for item in items if isinstance(item.film, np.ndarray)]
    pixels: dict[str, list[Any]] = {
        "film": [item.film for item in good],
        "twin": [item.record.twin for item in good if item.record.twin is not None],
        "truth": [item.record.truth for item in good if item.record.truth is not None],
        "enh": [item.enh for item in good if item.enh is not None],
    }
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    arrays = {name: np.stack(found) for name, found in pixels.items() if found}
    files.write_raw_arrays(path, facts=text, depth=np.asarray(depth, np.int32), **arrays)


def _loads(text: np.ndarray) -> list[dict[str, Any]]:
    return json.loads(text.tobytes())


def _facts(path: Path) -> list[dict[str, Any]] | None:
    """Of a file of a shard all but the pixels; None where it is not there, or damaged: then it is made again."""
    try:
        with np.load(path) as file:
            return _loads(file["facts"])
    except files.TORN:
        return None


def _items(arrays: dict[str, np.ndarray]) -> list[stream.Item]:
    pixels = {name: iter(arrays.get(name, ())) for name in _PIXELS}
    out = []
    for fact in _loads(arrays["facts"]):
        fact.pop("own", None)
        dtype, content, shown, fault = (fact.pop(name, None) for name in ("dtype", "content", "shown", "fault"))
        fact |= {"labels": np.array(fact["labels"], dtype), "film": Path(fact["film"])}
        record = Record(**fact | {"boxes": tuple(map(tuple, fact["boxes"]))})
        if fault:
            out.append(stream.Item(record, decode.CorruptFilm(*fault), bytes.fromhex(content)))
            continue
        found: list[Any] = [next(each, None) for each in pixels.values()]
        film, twin, truth, enh = found
        record = record._replace(twin=twin, truth=truth)
        out.append(stream.Item(record, film, bytes.fromhex(content), enh, shown=shown))
    return out
