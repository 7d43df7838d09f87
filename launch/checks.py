"""The checks on a config's values, before anything slow or lasting happens; errors name the nearest right spelling.

Imports neither jax nor cxrjax.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_dict
from ml_collections.config_flags import config_flags

Choices = dict[str, tuple[tuple[Any, ...], str]]


class UsageError(Exception):
    """A mistake on the command line or in a config file; the message says how to mend it."""


class Parser(argparse.ArgumentParser):
    """The flags of a command beside main.py; a mistake raises `UsageError`."""

    def __init__(self, name: str, doc: str | None, **options: Any) -> None:
        first = (doc or "").splitlines()[0]
        super().__init__(prog=f"python launch/{name}.py", description=first, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")

    def add_workdir(self, what: str) -> None:
        """`--workdir`, with the home folder in place of a ~."""
        self.add_argument("--workdir", required=True, type=lambda text: local(text, "--workdir"), help=what)

    def add_out(self) -> None:
        """`--out`, a `Path` that is new or empty."""
        self.add_argument("--out", required=True, type=new_folder, help="a folder; must be new or empty")

    def add_dicom(self, what: str) -> None:
        """`--dicom` and `--keep-patient`, which `parse_args` refuses without it."""
        self.add_argument("--dicom", action="store_true", help=f"{what} as DICOM files too")
        self.add_argument(
            "--keep-patient", action="store_true", help="with --dicom: copy patient and study of DICOM films into them"
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found = super().parse_args(args, namespace)
        if getattr(found, "keep_patient", False) and not found.dicom:
            raise UsageError("--keep-patient is for DICOM files; add --dicom")
        return found


def command(argv: Sequence[str]) -> str:
    """A command line `argv`, the program's file first, as one would type it: tuples in double quotes."""
    return " ".join(["python", *map(_typed, argv)])


def _typed(word: str) -> str:
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word)


def local(text: str, flag: str) -> str:
    """A path with the home folder in place of a ~. Raises `UsageError` where it is a URL."""
    if "://" in text:
        raise UsageError(f"{flag}={text} is a URL; expected a local or mounted folder")
    return os.path.expanduser(text)


def new_folder(given: str) -> Path:
    """`--out` as a folder that is new or empty. Raises `UsageError` where it is not."""
    path = Path(local(given, "--out"))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--out={given} is there and not an empty folder; name another")
    return path


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of `config` by dotted key, in alphabetical order."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The entry of `words` most like `word`, whatever the case; None where none is alike."""
    lower = {entry.lower(): entry for entry in words}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return lower[found[0]] if found else None


def did_you_mean(word: str, words: Iterable[str], form: str = "{}") -> str:
    """`did you mean X?`, or the whole list where nothing is alike."""
    listed = list(words)
    near = nearest(word, listed)
    return f"did you mean {form.format(near)}?" if near else f"there are: {', '.join(listed) or 'none'}"


def override(config: config_dict.ConfigDict, key: str, raw: str | None) -> None:
    """Sets one key of `config` from text, by the type of the value that it replaces."""
    _begin_external(config, key)
    leaves = flatten(config)
    if key not in leaves:
        inner = [f"--config.{leaf}" for leaf in leaves if leaf.startswith(f"{key}.")]
        if inner:
            raise UsageError(f"--config.{key} is a section and cannot be set whole; set its keys: {', '.join(inner)}")
        near = did_you_mean(key, leaves, "--config.{}")
        raise UsageError(f"unknown key --config.{key}; {near}")
    old = leaves[key]
    if raw is None and not isinstance(old, bool):
        raise UsageError(f"--config.{key} needs a value, as in --config.{key}={_literal(old)}")
    # config_flags would take a bare scalar for a tuple of one; here that is more likely a slip.
    if isinstance(old, tuple) and not re.fullmatch(r"\s*[(\[].*[)\]]\s*", raw or "", re.DOTALL):
        raise UsageError(f"--config.{key}={raw}: expected a tuple, written --config.{key}={_literal(old)}")
    token = f"--config.{key}" if raw is None else f"--config.{key}={raw}"
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=[token])
        values(["main.py", token])
    except config_flags.UnsupportedOperationError:
        kind = type(old).__name__
        raise UsageError(f"--config.{key} is a {kind}, which has no form on the command line; edit the file") from None
    except (flags.Error, TypeError, ValueError):
        kind = _article(type(old).__name__) if old is not None else "another type"
        raise UsageError(f"{token}: expected {kind}, as in the default --config.{key}={_literal(old)}") from None
    new = flatten(config)[key]
    if isinstance(old, tuple) and not _same_elements(old, new):
        raise UsageError(f"{token}: expected a tuple with the same kind of entries as {_literal(old)}")


def _begin_external(config: config_dict.ConfigDict, key: str) -> None:
    """Makes room for `data.external.NAME.KEY`, of the type that `data.KEY` has, and for `study.foreign.NAME`."""
    if re.fullmatch(r"study\.foreign\.[^.]+", key) and "foreign" in config.get("study", {}):
        with config.unlocked():
            config.study.foreign.setdefault(key.rpartition(".")[2], "")
        return
    match = re.fullmatch(r"data\.external\.(?P<set>[^.]+)\.(?P<key>.+)", key)
    if match is None or key in flatten(config) or "external" not in config.get("data", {}):
        return
    known = {name: value for name, value in flatten(config.data).items() if not name.startswith("external.")}
    known["class_map"] = ()
    if match["key"] not in known:
        near = did_you_mean(match["key"], known, f"--config.data.external.{match['set']}.{{}}")
        raise UsageError(f"unknown key --config.{key}; {near}")
    *sections, last = key.split(".")
    with config.unlocked():
        inner = config
        for name in sections:
            if name not in inner:
                inner[name] = config_dict.ConfigDict()
            inner = inner[name]
        inner[last] = known[match["key"]]


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _literal(value: Any) -> str:
    """`value` as it is typed after the `=` in a shell."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value!r}"' if isinstance(value, tuple) else shlex.quote(str(value))


def _same_elements(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    """Whether each entry of `new` has a type found in `old`; an int may stand for a float."""
    kinds = {type(entry) for entry in old}
    allowed = kinds | ({int} if float in kinds else set())
    return not old or all(type(entry) in allowed for entry in new)


def choices(path: Path, module: ModuleType, config: config_dict.ConfigDict) -> Choices:
    """The file's choices that this variant has, each value checked against its alternatives where these are closed."""
    leaves = flatten(config)
    choices: Choices = {}
    for key, entry in getattr(module, "CHOICES", {}).items():
        if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], tuple)):
            raise UsageError(f"{path}: CHOICES[{key!r}] must be a pair: (tuple of alternatives, source text)")
        if key not in leaves:  # a variant may do without a phase
            continue
        choices[key] = entry
        alternatives, _ = entry
        if not all(isinstance(alternative, str) for alternative in alternatives):
            continue  # numbers, or a trailing Ellipsis: an open choice
        value = leaves[key]
        for item in value if isinstance(value, tuple) else (value,):
            if item not in alternatives:
                near = nearest(str(item), alternatives)
                hint = f"did you mean {near}? " if near else ""
                raise UsageError(f"--config.{key}={item} is no choice; {hint}it is one of: {', '.join(alternatives)}")
    return choices


def check_phases(config: config_dict.ConfigDict) -> None:
    """Each phase has a section of its own name."""
    sections = [key for key, value in config.items() if isinstance(value, config_dict.ConfigDict)]
    for phase in config.get("phases", ()):
        if isinstance(phase, str) and phase not in sections:
            raise UsageError(f"config.phases names {phase!r}, which has no section; {did_you_mean(phase, sections)}")


def check_local(config: config_dict.ConfigDict) -> None:
    """No key names a bucket, but for `compile_cache`, which jax itself reads and writes."""
    for key, value in flatten(config).items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and key != "compile_cache":
                local(text, f"--config.{key}")


def check_root(config: config_dict.ConfigDict, needing: Sequence[str] = ()) -> None:
    """The folders, tables and files of films exist, where they are named; `needing` lists the data sets that must."""
    values = flatten(config)
    name = values.get("data.name")
    if not values.get("data.root") and name in needing:
        raise UsageError(f"data.name is {name!r}, which needs the folder of its films: --config.data.root=DIR")
    if name == "csv" and not values.get("data.table"):
        raise UsageError("data.name is 'csv', which needs the table of its films: --config.data.table=FILE.csv")
    for key, given in values.items():
        if not re.fullmatch(r"data\.(external\.[^.]+\.)?(root|table|boxes)", key):
            continue
        if not isinstance(given, str) or not given:
            continue
        path = Path(os.path.abspath(os.path.expanduser(given)))
        if not os.path.exists(path):
            raise UsageError(f"--config.{key}={given} does not exist; the nearest that does is {_nearest_path(path)}")


def _nearest_path(path: Path) -> Path:
    """What is most like the missing `path`: a sibling of its first missing part, or the last part that exists."""
    missing: list[str] = []
    while not os.path.exists(path):
        missing.append(path.name)
        path = path.parent
    while missing:
        try:
            with os.scandir(path) as entries:  # a folder of films may hold 100,000: look at enough of them only
                near = nearest(missing.pop(), [entry.name for entry in itertools.islice(entries, 5000)])
        except OSError:  # a file, or not ours to read
            return path
        if near is None:
            return path
        path = path / near
    return path


def workdir(text: str) -> Path:
    """The absolute workdir, which exists or could be created; leaves the disk as it was.

    One that holds a run may be finished and on storage that is only read: of that its lock tells.
    """
    path = Path(os.path.abspath(local(text, "--workdir")))
    if (path / "manifest.json").is_file():
        return path
    parent = path
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise UsageError(f"--workdir={text} cannot be created: {parent} is not a folder; name another")
    try:
        with tempfile.TemporaryFile(dir=parent):  # asks the file system itself: root passes any look at the modes
            pass
    except OSError as error:
        raise UsageError(f"--workdir={text} cannot be written: {parent}: {error.strerror}; name another") from None
    return path
