"""Films from elsewhere: sets that no network is trained on or chosen by, with their classes by the run's names.

`data.external` is a section of sets by name, each with the keys of a data section that are its own: `name` (of the
source), `root` and so on; what it leaves out has its default, but size, cache and phase features, which are those of
the run's films. `class_map`, pairs (ours, theirs), says what the run's classes are called there: every one of them has
a pair, with "" for theirs where that set lacks it; several pairs of one of ours are joined. Without any, names agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cxrjax import defaults
from cxrjax.data import builder, preparation, twins
from cxrjax.data import labels as labels_lib
from cxrjax.data.labels import NORMAL
from cxrjax.data.prepared import ALL, Prepared
from cxrjax.data.sources import SOURCES
from cxrjax.data.sources.base import Record, Source, digest
from cxrjax.errors import UserError, did_you_mean, lookup

PART = "test"  # of every film of an external set
AS_OURS = ("size", "cache", "classes", "enh", "enh_options")  # as networks of the run are fed
WHOLE = {"nih": "none", "merged": "none", "kaggle4": "random_8_2"}  # the split by which a source reads all its films
_NAME = re.compile(r"\w[\w-]*")


class Taken(NamedTuple):
    """The films of an external set that a study of classes can score.

    Attributes:
      keep: (m,) positions in the set's only part.
      label: (m, k) 1 present, 0 absent, NaN unknown, by the run's classes.
      classes: those that the set can have.
      words: what was left out, "" where nothing was.
    """

    keep: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...]
    words: str


def section(config: Any, name: str) -> Any:
    """The whole data section of an external set of a run's config.

    Raises:
      UserError: an unknown key, no source, or another value of what the run's films decide.
    """
    where, entry = f"data.external.{name}", config.data.external[name]
    if not hasattr(entry, "to_dict"):
        raise UserError(f"{where} is {entry!r}: expected a section, as {{'name': 'kermany', 'root': 'DIR'}}")
    given = entry.to_dict()
    given.pop("class_map", None)
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: a set's name is of letters, digits, _ and -, as files are named by it")
    lookup(SOURCES, given.get("name", ""), f"{where}.name")
    known = set(defaults.data("", (), 0)) - {"external"}
    for key, value in given.items():
        if key not in known:
            raise UserError(f"{where}.{key}: no key of a data section{did_you_mean(key, [*known, 'class_map'])}")
        if key in AS_OURS and value != (ours := config.data.to_dict()[key]):
            raise UserError(f"{where}.{key} is {value!r}, and the run's films have {ours!r}: leave it out there")
    shared = {key: config.data[key] for key in AS_OURS}
    split = WHOLE.get(given["name"], "")
    try:
        return defaults.data(**{**shared, "split": split, **given})
    except KeyError as error:
        raise UserError(f"{where}: {error.args[0]}") from None


def class_map(config: Any, name: str) -> dict[str, tuple[str, ...]]:
    """What each of the run's classes is called in an external set: none where the set lacks it, or several names.

    Raises:
      UserError: pairs that are none, name no class of the run, leave one out or contradict one another.
    """
    classes, given = tuple(config.data.classes), config.data.external[name].get("class_map", ())
    where = f"data.external.{name}.class_map"
    if not given:
        return {ours: (ours,) for ours in classes}
    found: dict[str, list[str]] = {ours: [] for ours in classes}
    for pair in given:
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(side, str) for side in pair):
            raise UserError(f"{where} has {pair!r}: expected pairs (ours, theirs), as {(classes[0], classes[0])}")
        lookup(found, pair[0], f"{where}: a class of this run").append(pair[1])
    if lost := [ours for ours, theirs in found.items() if not theirs]:
        raise UserError(
            f"{where} says nothing of {', '.join(lost)}: add ({lost[0]!r}, what it is called there), or "
            f"({lost[0]!r}, '') where that set lacks it"
        )
    for ours, theirs in found.items():
        if "" in theirs and len(theirs) > 1:
            raise UserError(f"{where} calls {ours!r} both absent ('') and {max(theirs)!r}: take one pair out")
    count = Counter(theirs for several in found.values() for theirs in several if theirs)
    if not count:
        raise UserError(f"{where} names every class of this run as absent: nothing can be tested on that set")
    if twice := [theirs for theirs, times in count.items() if times > 1]:
        raise UserError(f"{where} gives {twice[0]!r} twice: a class there is one class here")
    return {ours: tuple(filter(None, theirs)) for ours, theirs in found.items()}


def check(config: Any) -> None:
    """Refuses, before any film is read, external sets that are asked for wrongly.

    Raises:
      UserError: as `section` and `class_map`.
    """
    for name in config.data.get("external", {}):
        section(config, name)
        class_map(config, name)


def prepare(config: Any) -> dict[str, Prepared]:
    """Every external set of a run's config, prepared as its own films are; all films stand in the part "test".

    Raises:
      UserError: as `check` and `data.prepare`, or a class map that names what a set has no label for.
    """
    check(config)
    out = {}
    for name in config.data.get("external", {}):
        try:
            out[name] = preparation.prepare(section(config, name), partial(_as_test, class_map(config, name)))
        except UserError as error:
            raise UserError(f"data.external.{name}: {error}") from error
    return out


def _as_test(names: dict[str, tuple[str, ...]], source: Source) -> Source:
    """A source whose films are all test films, if it has the labels that its class map names."""
    for ours, theirs in names.items():
        for name in theirs:
            if name not in (*source.columns, NORMAL):
                hint = did_you_mean(name, [*source.columns, NORMAL])
                raise UserError(
                    f"{name!r}, which {ours!r} is to be, is no label there: it has {', '.join(source.columns)} and "
                    f"{NORMAL}{hint}; say so in class_map, with ({ours!r}, '') where the set lacks it"
                )

    def records() -> Iterator[Record]:
        return (record._replace(split=PART) for record in source.records())

    fingerprint = digest({"part": PART, "of": source.fingerprint})
    return source._replace(
        fingerprint=fingerprint, records=records, splits={PART: source.total}, aliases={}, between=None
    )


def labels(config: Any, name: str, films: Prepared) -> np.ndarray:
    """(n, k) labels of an external set by the run's classes: NaN unknown, also of a class that the set lacks."""
    table = films.table(PART)["labels"]
    columns = []
    for theirs in class_map(config, name).values():
        found = labels_lib.select(table, films.columns, theirs)  # (n, t)
        present, absent = (found == 1).any(axis=1), (found == 0).all(axis=1) & bool(theirs)
        columns.append(np.where(present, 1.0, np.where(absent, 0.0, np.nan)))
    return np.stack(columns, axis=1).astype(np.float32)


def take(config: Any, name: str, films: Prepared, exclusive: bool) -> Taken:
    """The films of an external set to score, with their labels.

    Left out are films of which no label is known and, where each film is to have one class, films of none of the run's
    classes or of several; there a class that the set lacks is absent from every film.

    Raises:
      UserError: no film is left.
    """
    label = labels(config, name, films)
    has = np.array([bool(theirs) for theirs in class_map(config, name).values()])
    known = ~np.isnan(label[:, has])
    count = (label == 1).sum(axis=1)
    if exclusive:
        label[:, ~has] = 0.0
        kinds = {"unknown class": ~known.all(axis=1)}
        kinds |= {"none of these classes": ~kinds["unknown class"] & (count == 0), "several of them": count > 1}
    else:
        kinds = {"no known label": ~known.any(axis=1)}
    keep = ~np.any(list(kinds.values()), axis=0)
    said = [f"{out.sum()} of {what}{_whose(films, out)}" for what, out in kinds.items() if out.any()]
    if not keep.any():
        raise UserError(f"data.external.{name}: no film is left to test on ({', '.join(said)}); mend its class_map")
    classes = tuple(ours for ours, there in zip(config.data.classes, has, strict=True) if there)
    return Taken(np.flatnonzero(keep), label[keep], classes, f"left out: {', '.join(said)}" if said else "")


def _whose(films: Prepared, rows: np.ndarray) -> str:
    """The labels that some films carry there, the commonest first."""
    count = (films.table(PART)["labels"][rows] == 1).sum(axis=0)
    names = [films.columns[i] for i in np.argsort(-count, kind="stable") if count[i]]
    return f" ({', '.join(names[:5])}{', ...' if names[5:] else ''})" if names else ""


def apart(config: Any, films: Prepared, outside: dict[str, Prepared]) -> list[str]:
    """Sentences on films from elsewhere that look like one of the run's own, and on patients of one name in both.

    Raises:
      UserError: a film stands in both, pixel for pixel.
    """
    out: list[str] = []
    if not outside:
        return out
    known = twins.Known(_shown(films, "the run's own films"), near=not films.has_truth)  # drawn chests look alike
    for name, others in outside.items():
        found = known.twins(_shown(others, f"data.external.{name}"))
        if same := [twin for twin in found if not twin.near]:
            raise UserError(
                f"{len(same)} films of data.external.{name} are among the run's own, pixel for pixel: "
                f"{twins.some(same)}; take them out of one of the two sets"
            )
        if found:
            out.append(
                f"{len(found)} films of data.external.{name} look like one of the run's own, by a perceptual hash, as "
                f"rescaled or recompressed copies do ({twins.some(found)}): look at them."
            )
        both = {*others.table(PART)["patient"]} & {*films.table(ALL)["patient"]}
        if both and config.data.external[name].name == config.data.name:
            out.append(
                f"{len(both)} patients of data.external.{name} are called as patients of the run's own films are "
                f"({', '.join(sorted(both)[:5])}): if they are the same people, these films are not from elsewhere."
            )
    return out


def _shown(films: Prepared, where: str) -> Iterator[tuple[Record, np.ndarray]]:
    """Every film of a data set as it is stored, with a record of its name and place alone."""
    for part in films.stored(ALL).split("+"):
        stored, table = builder.read_images(films.directory, part), films.table(part)
        for i, key in enumerate(table["key"]):
            yield Record(str(key), where, str(table["patient"][i]), table["labels"][i], np.zeros(0)), stored[i]
