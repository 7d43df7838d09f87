"""The record of a run: what was asked, with which versions, on which devices, on which films, and every open choice."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cxrjax import files
from cxrjax.errors import UserError
from cxrjax.files import write_json as write_json

_PACKAGES = (
    "cxrjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "clu",
    "ml_collections", "numpy",
)  # fmt: skip
PRNG = "threefry2x32"  # of every run
# What may differ between two commands that are one run: where things lie, not what is computed.
_FREE = ("compile_cache", "data.cache", "data.root", "mesh.")
# Films that no phase sees: others are another test of the same run.
_TESTED = ("data.external.", "study.foreign.")


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON gives it back: tuples are lists."""
    return files.plain(config)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted paths."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def commit() -> str:
    """The checkout's commit, with `-dirty` where it was changed; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def make(
    config: Any, choices: Mapping[str, tuple[tuple[Any, ...], str]], command: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of a run that is about to begin."""
    resolved = plain(config)
    flat = flatten(resolved)
    return {
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "config": resolved,
        "choices": {
            key: {"value": flat[key], "alternatives": list(alternatives), "source": source}
            for key, (alternatives, source) in choices.items()
        },
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "commit": commit(),
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "processes": jax.process_count(),
        "random_numbers": str(jax.random.key_impl(jax.random.key(0))),
        "data": dict(data),
        "finished": False,
    }


def external(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a plain config that say by which films from elsewhere, or of whom, a run is tested."""
    return {key: value for key, value in flatten(config).items() if key.startswith(_TESTED)}


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], workdir: Path) -> None:
    """Stops a run whose configuration or films are not those that the workdir began with.

    Raises:
      UserError: names the keys that differ.
    """
    before, after = flatten(old["config"]), flatten(new["config"])
    held = {k for k in before.keys() | after.keys() if not k.startswith((*_FREE, *_TESTED))}
    differ = sorted(k for k in held if before.get(k) != after.get(k))
    for key in ("fingerprint", "boxes"):
        name = f"data.{key}"
        before[name], after[name] = old["data"].get(key), new["data"].get(key)
        differ += [name] if before[name] != after[name] else []
    if differ:
        shown = "; ".join(f"{k} was {before.get(k)!r}, is now {after.get(k)!r}" for k in differ[:5])
        raise UserError(
            f"{workdir} holds a run of another configuration ({shown}); give a new --workdir, or the old values"
        )
