"""Weight files: what is in them, under the names that torchvision gives today."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cxrjax.errors import UserError
from cxrjax.weights.rules import FAMILIES

TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# torchvision before 0.2 called a dense layer's parts norm.1 and conv.2; the CheXNet checkpoints in use are that old.
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_AS_SAFETENSORS = "from safetensors.torch import save_file; save_file(net.state_dict(), 'weights.safetensors')"


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file, by their cleaned names.

    Args:
      path: `.safetensors`, or torch's `.pth`, `.pt`, `.tar`, `.bin`, `.ckpt` where torch is installed; `~` is the home
        folder. A torch file is read as plain tensors (`weights_only=True`), so that it can run no code; a `state_dict`
        entry around them is unwrapped.

    Returns:
      arrays in the layout of the file, half-precision reals widened to float32; names as `clean` gives them.

    Raises:
      UserError: no such file, another suffix, a damaged file, a pickled module, or torch is missing.
    """
    try:
        return clean(_tensors(path))
    except UserError as e:
        raise UserError(f"weights {path}: {e}") from e


def _tensors(given: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file by their own names."""
    path = Path(os.path.expanduser(given))
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
        state = _load_torch(path)
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


def describe(path: str | Path) -> dict[str, Any]:
    """What a manifest says of a weight file: `name`, `sha256` of the bytes, `tensors`, their number, and `prefix`, what
    was taken off their names.

    Raises:
      UserError: as `load`.
    """
    try:
        tensors = _tensors(path)
    except UserError as e:
        raise UserError(f"weights {path}: {e}") from e
    path = Path(os.path.expanduser(path))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "sha256": digest, "tensors": len(tensors), "prefix": prefix_of(tensors)}


def _widen(value: np.ndarray) -> np.ndarray:
    # bfloat16 is no numpy dtype of its own (kind V); float16 is.
    return value.astype(np.float32) if value.dtype.kind in "fV" and value.dtype.itemsize < 4 else value


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as e:
        raise UserError(
            f"reading {path.suffix} needs torch, which is not installed; "
            f"`pip install torch`, or convert the file where torch is: {_AS_SAFETENSORS}"
        ) from e
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises its own, pickle's, zipfile's and plain RuntimeErrors here
        reason = str(e).strip().partition("\n")[0]
        raise UserError(
            f"torch cannot read it as plain tensors ({reason}); if it is a pickled module that you "
            f"trust, load it where its code is and write its tensors: {_AS_SAFETENSORS}"
        ) from e
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        raise UserError(f"holds a {type(found).__name__}; expected a state dict of tensors")
    odd = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise UserError(
            f"{', '.join(odd[:5])} are no tensors; expected a state dict, or one under {', '.join(_WRAPPERS)}"
        )
    # numpy has no bfloat16, so reals pass through float32.
    return {
        str(key): (value.detach().float() if value.is_floating_point() else value.detach()).contiguous().numpy()
        for key, value in found.items()
    }
