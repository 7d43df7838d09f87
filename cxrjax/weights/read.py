"""Weight files: what is in them, under the names that torchvision gives today."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cxrjax.types import UserError

TORCH_SUFFIXES = (".pth", ".pt", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = re.compile(r"(?:(?:module|model|state_dict|densenet121)\.)+")
# torchvision before 0.2 called a dense layer's parts norm.1 and conv.2; the CheXNet checkpoints in use are that old.
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_AS_SAFETENSORS = "from safetensors.torch import save_file; save_file(net.state_dict(), 'weights.safetensors')"


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file, by their cleaned names.

    Args:
      path: `.safetensors`, or torch's `.pth`, `.pt`, `.tar` where torch is installed. A torch file is read as plain
        tensors (`weights_only=True`), so that it can run no code; a `state_dict` entry around them is unwrapped.

    Returns:
      arrays in the layout of the file, half-precision reals widened to float32; names as `clean` gives them.

    Raises:
      UserError: no such file, another suffix, a damaged file, a pickled module, or torch is missing.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise UserError(f"weights {path}: no such file")
    if path.suffix == ".safetensors":
        try:
            state: dict[str, np.ndarray] = load_file(path)
        except (AttributeError, KeyError) as e:  # a type that numpy has not: F8, F4
            raise UserError(
                f"weights {path}: holds numbers of a type that cannot be read ({e}); save the tensors as float32"
            ) from e
        except (SafetensorError, OSError, ValueError, TypeError) as e:
            raise UserError(f"weights {path}: not a readable safetensors file ({e}); copy or convert it again") from e
    elif path.suffix in TORCH_SUFFIXES:
        state = _load_torch(path)
    else:
        raise UserError(f"weights {path}: expected .safetensors or {', '.join(TORCH_SUFFIXES)}, got {path.suffix!r}")
    if not state:
        raise UserError(f"weights {path}: holds no tensor; expected the state dict of a network")
    try:
        return clean({key: _widen(value) for key, value in state.items()})
    except UserError as e:
        raise UserError(f"weights {path}: {e}") from e


def clean(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors with torchvision's present names.

    Wrappers before a name go (`module.` of DataParallel, `model.` of torchxrayvision's ResNet, `state_dict.`,
    `densenet121.` of arnoweng's CheXNet), and `norm.1`, `conv.2` of old DenseNets become `norm1`, `conv2`.

    Raises:
      UserError: two names become one.
    """
    out: dict[str, np.ndarray] = {}
    for key, value in state.items():
        match = _PREFIX.match(key)
        name = _OLD_DENSE.sub(r"\1\2.", key[match.end() :] if match else key)
        if name in out:
            raise UserError(
                f"two tensors are called {name!r} once prefixes are gone (one is {key!r}): keep one network"
            )
        out[name] = value
    return out


def describe(path: str | Path) -> dict[str, Any]:
    """What a manifest says of a weight file: `name`, `sha256` of the bytes, and `tensors`, their number.

    Raises:
      UserError: as `load`.
    """
    path = Path(os.path.expanduser(path))
    tensors = len(load(path))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "sha256": digest, "tensors": tensors}


def _widen(value: np.ndarray) -> np.ndarray:
    # bfloat16 is no numpy dtype of its own (kind V); float16 is.
    return value.astype(np.float32) if value.dtype.kind in "fV" and value.dtype.itemsize < 4 else value


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as e:
        raise UserError(
            f"weights {path}: reading {path.suffix} needs torch, which is not installed; "
            f"`pip install torch`, or convert the file where torch is: {_AS_SAFETENSORS}"
        ) from e
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises its own, pickle's, zipfile's and plain RuntimeErrors here
        reason = str(e).strip().partition("\n")[0]
        raise UserError(
            f"weights {path}: torch cannot read it as plain tensors ({reason}); if it is a pickled module that you "
            f"trust, load it where its code is and write its tensors: {_AS_SAFETENSORS}"
        ) from e
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        raise UserError(f"weights {path}: holds a {type(found).__name__}; expected a state dict of tensors")
    odd = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise UserError(
            f"weights {path}: {', '.join(odd[:5])} are no tensors; expected a state dict, or one under "
            f"{', '.join(_WRAPPERS)}"
        )
    # numpy has no bfloat16, so reals pass through float32.
    return {
        str(key): (value.detach().float() if value.is_floating_point() else value.detach()).contiguous().numpy()
        for key, value in found.items()
    }
