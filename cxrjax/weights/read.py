"""Weight files: what is in them, under the names that torchvision gives today."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cxrjax.errors import UserError
from cxrjax.weights import torchfile
from cxrjax.weights.rules import FAMILIES

TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
# torchvision before 0.2 called a dense layer's parts norm.1 and conv.2; the CheXNet checkpoints in use are that old.
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


class File(NamedTuple):
    """A weight file that was read.

    Attributes:
      name, sha256: of the file.
      prefix: what was taken off the names.
      tensors: arrays in the layout of the file, half-precision reals widened to float32, by the names that `clean`
        gives.
    """

    name: str
    sha256: str
    prefix: str
    tensors: dict[str, np.ndarray]


def read(path: str | Path) -> File:
    """Reads a weight file.

    Args:
      path: `.safetensors`, or torch's `.pth`, `.pt`, `.tar`, `.bin`, `.ckpt`, see `torchfile`, of which a `state_dict`
        entry around the tensors is unwrapped; `~` is the home folder.

    Raises:
      UserError: no such file, another suffix, a damaged file, or one that holds code.
    """
    try:
        tensors = _tensors(Path(os.path.expanduser(path)))
        return File(Path(path).name, digest(path), prefix_of(tensors), clean(tensors))
    except UserError as e:
        raise UserError(f"weights {path}: {e}") from e


def digest(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; `~` is the home folder."""
    with open(os.path.expanduser(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file alone; see `read`."""
    return read(path).tensors


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file by their own names."""
    if not path.is_file():
        raise UserError("no such file")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            state: dict[str, np.ndarray] = load_file(path)
        except (SafetensorError, OSError, ValueError, TypeError) as e:
            raise UserError(f"not a readable safetensors file ({e}); copy or convert it again") from e
        except (KeyError, AttributeError) as e:  # of a dtype that numpy has not, such as F8_E4M3
            raise UserError(f"holds numbers of a type that cannot be read ({e}); save them as float32") from e
    elif suffix in TORCH_SUFFIXES:
        state = torchfile.state_dict(path.read_bytes())
    else:
        raise UserError(f"expected .safetensors or {', '.join(TORCH_SUFFIXES)}, got {path.suffix!r}")
    if not state:
        raise UserError("holds no tensor; expected the state dict of a network")
    return {key: _widen(value) for key, value in state.items()}


def prefix_of(keys: Iterable[str]) -> str:
    """What stands before the torchvision names of a network that others are built around; "" where nothing does.

    `module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of torchxrayvision's ResNet,
    `module.densenet121.` of arnoweng's CheXNet, any attribute of a module of one's own: of the prefixes of at least
    half the tensors the one under which most names are some family's.
    """
    keys = [_OLD_DENSE.sub(r"\1\2.", key) for key in keys]
    parts = (key.split(".") for key in keys)
    counts = Counter(".".join(part[:n]) + "." for part in parts for n in range(1, len(part)))
    shared = sorted((prefix for prefix, count in counts.items() if 2 * count >= len(keys)), key=len)

    def known(prefix: str) -> int:
        modules = {key.removeprefix(prefix): np.empty(0) for key in keys if key.startswith(prefix)}
        return max(len(family.paths(modules)) for family in FAMILIES.values())

    return max(["", *shared], key=known)  # of equal ones the shortest


def clean(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors with torchvision's present names: without `prefix_of` them, and `norm1` for `norm.1`.

    Raises:
      UserError: two names become one.
    """
    prefix = prefix_of(state)
    out: dict[str, np.ndarray] = {}
    for key, value in state.items():
        name = _OLD_DENSE.sub(r"\1\2.", key).removeprefix(prefix)
        if name in out:
            raise UserError(f"two tensors are called {name!r} without {prefix!r} (one is {key!r}): keep one network")
        out[name] = value
    return out


def _widen(value: np.ndarray) -> np.ndarray:
    # bfloat16 is no numpy dtype of its own (kind V); float16 is.
    return value.astype(np.float32) if value.dtype.kind in "fV" and value.dtype.itemsize < 4 else value
