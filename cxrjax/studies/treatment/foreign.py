"""Films that another's code treated, as one more arm: read from a folder by film key and strength, and judged alike.

A folder holds `STRENGTH/KEY.png` (gray, 8 or 16 bit), or `STRENGTH.npz` with `key` (m,) and `image` (m, h, w), uint8 or
floats in [0, 1]. A strength is a whole number from 1 up, such as a lambda; each has every treated film of the run's own
set, at the run's size. `launch/export_films.py` hands these films out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.files import Damaged, read_arrays
from cxrjax.studies.arrays import write_arrays
from cxrjax.studies.treatment.measures import PIXEL

TOLD = {"mode": "foreign", "masked": False, "guided": False, "rival": True}  # of such an arm, see `infer.arms.told`
_SHOWN = 3  # names in a message


def check(study: Any) -> None:
    """Refuses before any training a name that an arm has, or a folder without strengths.

    Raises:
      UserError: names the key and what was expected.
    """
    for name, folder in study.foreign.items():
        taken = name in (*study.modes, "untreated") or name.startswith(PIXEL)  # an arm of a pixel run is called so
        if taken or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise UserError(f"study.foreign.{name}: give it a name of letters, digits and _ that no arm has, nor "
                            "untreated, nor pixel_ before another")  # fmt: skip
        strengths(name, folder)


def strengths(name: str, folder: str) -> dict[int, Path]:
    """The files or folders of a foreign arm by strength, rising.

    Raises:
      UserError: no such folder, nothing in it, or something that is no strength.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise UserError(f"study.foreign.{name} = {folder}: no such folder")
    found: dict[int, Path] = {}
    for path in sorted(root.iterdir()):
        number = path.name if path.is_dir() else path.name.removesuffix(".npz")
        if not number.isdecimal() or int(number) < 1 or int(number) in found:
            raise UserError(f"study.foreign.{name}: {path} is no strength, or one twice: expected folders or .npz "
                            "files named by a whole number from 1 up, such as 0400")  # fmt: skip
        found[int(number)] = path
    if not found:
        raise UserError(f"study.foreign.{name}: {root} is empty; expected STRENGTH/KEY.png or STRENGTH.npz")
    return dict(sorted(found.items()))


def read(name: str, path: Path, keys: list[str], size: int) -> np.ndarray:
    """The treated films of one strength in the order of `keys`: (n, size, size) float32 in [0, 1].

    Raises:
      UserError: a film that is missing, of another size, or no gray film in [0, 1]; names it.
    """
    where = f"study.foreign.{name}: {path}"
    found = _of_arrays(where, path, keys) if path.suffix == ".npz" else _of_folder(where, path, keys)
    if missing := [key for key in keys if key not in found]:
        shown = ", ".join(missing[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
        raise UserError(f"{where} lacks {len(missing)} of the {len(keys)} treated films ({shown}); give every one")
    out = []
    for key in keys:
        film = found[key]
        if film.shape != (size, size):
            raise UserError(f"{where}: the film {key} is {' x '.join(map(str, film.shape))}; the run's are {size} x "
                            f"{size}, and a resized film is not judged")  # fmt: skip
        if film.dtype == np.uint8:
            film = film.astype(np.float32) / 255
        if not (np.issubdtype(film.dtype, np.floating) and film.min() >= 0 and film.max() <= 1):  # NaN is in no range
            raise UserError(f"{where}: the film {key} is {film.dtype} from {film.min()} to {film.max()}; expected "
                            "uint8, or floats in [0, 1]")  # fmt: skip
        out.append(film.astype(np.float32))
    return np.stack(out)


def _of_arrays(where: str, path: Path, keys: list[str]) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path)
    except Damaged as error:
        raise UserError(f"study.foreign: {error}") from error
    if not {"key", "image"} <= arrays.keys() or len(arrays["key"]) != len(arrays["image"]):
        raise UserError(f"{where} has {', '.join(arrays)}; expected key (m,) and image (m, h, w) of equal length")
    names = arrays["key"].astype(str).tolist()
    if unknown := sorted(set(names) - set(keys)):
        raise UserError(f"{where} has the film {unknown[0]}, which is none of the study's; see launch/export_films.py")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{where} has the film {twice[0]} more than once; give every film once")
    return dict(zip(names, arrays["image"], strict=True))


def _of_folder(where: str, path: Path, keys: list[str]) -> dict[str, np.ndarray]:
    found = {}
    for key in keys:
        file = path / f"{key}.png"
        if not file.is_file():
            continue
        try:
            with Image.open(file) as film:
                mode, pixels = film.mode, np.asarray(film)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises of a file that is cut or no image
            raise UserError(f"{where}: the film {key} cannot be read ({error})") from error
        if mode not in ("L", "I;16"):
            raise UserError(f"{where}: the film {key} is a PNG of mode {mode}; expected gray, 8 or 16 bit")
        found[key] = pixels if mode == "L" else pixels.astype(np.float32) / 65535
    return found


def check_films(study: Any, keys: list[str], size: int) -> None:
    """Reads every foreign film once, before anything is trained. Raises UserError, see `read`."""
    for name, folder in study.foreign.items():
        for path in strengths(name, folder).values():
            read(name, path, keys, size)


def run(
    study: Any, keys: list[str], size: int, folder: Path, judged: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> dict[str, tuple[int, ...]]:
    """Judges every foreign arm; files as an arm's of ours, but without what it cost.

    Args:
      study: `study`.
      keys: of the run's own treated films, in their order.
      size: of them.
      folder: of their files.
      judged: `treated (n, h, w, 1) -> arrays`, what an arm's file holds beside its films.

    Returns:
      the strengths of each foreign arm.
    """
    found = {}
    for name, given in study.foreign.items():
        paths = strengths(name, given)
        for strength, path in paths.items():
            treated = read(name, path, keys, size)
            write_arrays(folder / f"{name}_{strength:04d}.npz", image=treated, **judged(treated[..., None]))
        found[name] = tuple(paths)
    return found
