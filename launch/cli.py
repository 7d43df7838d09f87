"""The command line: flags, config file, variant and overrides, all checked before anything slow or lasting happens.

Imports neither jax nor cxrjax. Each check raises `UsageError` with the nearest right spelling.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import checks
import pages
from absl import flags
from checks import UsageError
from ml_collections import config_dict

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FLAGS = ("config", "workdir", "dry_run", "help")
OVERRIDE = re.compile(r"--?(?P<no>no)?config\.(?P<key>[^=]*)(=(?P<value>.*))?", re.DOTALL)


class Request(NamedTuple):
    """A run that has passed every check.

    Attributes:
      config: the config file's `ConfigDict` with the overrides applied, locked.
      choices: `{dotted key: (alternatives, source)}`, those of the file's `CHOICES` whose key this variant has.
      workdir: absolute; may not exist yet.
      name: `NAME` or `NAME-VARIANT`.
    """

    config: config_dict.ConfigDict
    choices: checks.Choices
    workdir: Path
    name: str


def parse(args: list[str]) -> Request | str:
    """The run that `args` (without the program's name) asks for, or the page of `--help` or `--dry_run`.

    An override given twice takes its last value. Creates nothing on disk.

    Raises:
      UsageError: at the first mistake.
    """
    rest, overrides = _split(args)
    values = _launcher_flags(rest)
    if values.help:
        return pages.usage(CONFIGS)
    if not values.config:
        names = ", ".join(_shown(path) for path in config_files(CONFIGS)) or "none"
        raise UsageError(f"--config is missing; give --config=FILE.py[:VARIANT]; this clone's files: {names}")

    file, _, variant = values.config.partition(":")
    path = _config_file(Path(file))
    module = _load(path)
    variant = _variant(values.config, path, module)
    config = _get_config(path, module, variant)
    for key, value in overrides.items():
        checks.override(config, key, value)
    choices = checks.choices(path, module, config)
    checks.check_phases(config)
    checks.check_local(config)
    checks.check_root(config)

    name = path.stem if variant == "default" else f"{path.stem}-{variant}"
    if values.dry_run:
        return pages.resolved(name, checks.flatten(config), choices, set(overrides))
    checks.check_root(config, getattr(module, "NEEDS_ROOT", ()))
    return Request(config, choices, checks.workdir(values.workdir or f"runs/{name}"), name)


def config_files(folder: Path) -> list[Path]:
    """The config files of a folder, by name; none where there is no such folder."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _shown(path: Path) -> str:
    """`path` as one would type it here: relative to the current folder where it lies below, else absolute."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _split(args: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """The launcher's own flags, and the overrides by key; the value is None where the flag stands alone."""
    rest: list[str] = []
    overrides: dict[str, str | None] = {}
    queue = list(args)
    while queue:
        token = queue.pop(0)
        match = OVERRIDE.fullmatch(token)
        if match is None:
            rest.append("--dry_run" if token == "--dry-run" else token)
            continue
        value = match["value"]
        if match["no"]:
            if value is not None:
                raise UsageError(f"{token}: the form --noconfig.KEY takes no value")
            value = "false"
        elif value is None and queue and (not queue[0].startswith("-") or re.match(r"-[\d.]", queue[0])):
            value = queue.pop(0)  # the command line has no positional arguments, so this can only be the value
        overrides.pop(match["key"], None)
        overrides[match["key"]] = value
    return rest, overrides


def _launcher_flags(args: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "the config file", flag_values=values)
    flags.DEFINE_string("workdir", None, "where the run writes", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "print the resolved config", flag_values=values)
    flags.DEFINE_bool("help", False, "print the usage", short_name="h", flag_values=values)
    try:
        extra = values(["main.py", *args])[1:]
    except flags.UnrecognizedFlagError as error:
        name, dot, key = error.flagname.partition(".")
        near = checks.nearest(name, FLAGS)
        known = ", ".join(f"--{flag}" for flag in FLAGS)
        hint = f"did you mean --{near}{dot}{key}?" if near else f"the flags are {known} and --config.KEY=VALUE"
        raise UsageError(f"unknown flag --{error.flagname}; {hint}") from None
    except flags.Error as error:
        raise UsageError(f"{error}; see --help") from None
    if extra:
        raise UsageError(f"unexpected argument {extra[0]!r}; every argument is a flag, as in --config=FILE.py")
    for name in ("config", "workdir"):
        value = values[name].value
        if value is not None and (not value or value.startswith("--")):
            raise UsageError(f"--{name} needs a value, as in --{name}={'FILE.py' if name == 'config' else 'DIR'}")
    return values


def _config_file(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        names = ", ".join(_shown(file) for file in config_files(path)) or "none"
        raise UsageError(f"--config={path} is a folder; name one config file; it holds: {names}")
    folders = dict.fromkeys((path.parent.resolve(), CONFIGS))
    known = {file.stem: _shown(file) for folder in reversed(folders) for file in config_files(folder)}
    near = checks.nearest(path.stem, known)
    hint = f"did you mean {known[near]}?" if near else f"there are: {', '.join(sorted(known.values())) or 'none'}"
    raise UsageError(f"config file {path} does not exist; {hint}")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"config file {path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"config file {path} does not load: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "get_config", None)):
        raise UsageError(f"config file {path} has no function get_config(variant)")
    return module


def _variant(spec: str, path: Path, module: ModuleType) -> str:
    _, colon, variant = spec.partition(":")
    names = ("default", *getattr(module, "VARIANTS", ()))
    if colon and variant not in names:
        near = checks.nearest(variant, names)
        hint = f"did you mean {path}:{near}? " if near else ""
        raise UsageError(f"{path} has no variant {variant!r}; {hint}its variants: {', '.join(names)}")
    return variant or "default"


def _get_config(path: Path, module: ModuleType, variant: str) -> config_dict.ConfigDict:
    try:
        config = module.get_config(variant)
    except Exception as error:
        raise UsageError(f"{path}: get_config({variant!r}) failed: {type(error).__name__}: {error}") from error
    if not isinstance(config, config_dict.ConfigDict):
        raise UsageError(f"{path}: get_config({variant!r}) returned {type(config).__name__}, expected a ConfigDict")
    return config.lock()
