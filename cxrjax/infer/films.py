"""Films at the door: files or arrays become what a trained network was shown, or an error says what was found."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cxrjax.data import decode
from cxrjax.errors import UserError
from cxrjax.ops import enhance

Films = np.ndarray | str | Path | Sequence[str | Path]
SHOWN = 1024  # pixels
EXPECTED = "expected paths of film files, or an array (n, h, w) of uint8, or of floats in [0, 1]"


def read(films: Films, size: int, depth: int = 0) -> np.ndarray:
    """Films of any size as a run sees them.

    Args:
      films: a path or a list of paths, decoded as `data.decode` does; or an array (n, h, w), uint8 or float in [0, 1].
      size: the run's side in pixels; films are resized to a square, as they were for training.
      depth: bits that the run took its 16-bit files to hold, `data.bit_depth` of its manifest; 0 for each file's own.

    Returns:
      (n, size, size, 1) float32 in [0, 1].

    Raises:
      UserError: no film, a wrong rank, type or range, a file that cannot be read; says what was found.
    """
    paths = _paths(films)
    if paths is None:
        image = _of_array(np.asarray(films), size)
    elif paths:
        image = np.stack([decode.decode(path, size, depth) for path in paths])
    else:
        raise UserError(f"there are no films; {EXPECTED}")
    scaled = np.multiply(image, np.float32(1 / 255), dtype=np.float32) if image.dtype == np.uint8 else image
    return scaled[..., None]


class Read(NamedTuple):
    """A film's file: its pixels (size, size) uint8, or None and why not.

    `shown` is the film at its own proportions, (h, w) uint8 of at most `SHOWN` on a side; None unless asked for. `by`
    is what a DICOM file's stored values became gray by, as `decode.Film.shown`; "" of other files.
    """

    path: Path
    pixels: np.ndarray | None
    fault: str = ""
    shown: np.ndarray | None = None
    by: str = ""


def find(given: str) -> list[Path]:
    """The files that a path, a folder (its own and those below it, hidden ones left out) or a glob names, by name.

    Raises:
      UserError: there are none.
    """
    text = os.path.expanduser(given)
    path = Path(text)
    found = [path] if path.is_file() else sorted(map(Path, glob.glob(text, recursive=True)))
    if path.is_dir():
        found = sorted(path.rglob("*"))
    found = [file for file in found if file.is_file() and not file.name.startswith(".")]
    if not found:
        raise UserError(f"{given} names no file; expected a film, a folder of films, or a pattern as 'films/*.png'")
    return found


def stream(paths: Sequence[str | Path], size: int, depth: int, batch: int, shown: bool = False) -> Iterator[list[Read]]:
    """Films from files by batches, as `read` decodes them; the next batch is decoded while one is used."""
    parts = iter([paths[i : i + batch] for i in range(0, len(paths), batch)])
    with ThreadPoolExecutor() as pool:

        def ask(count: int) -> list[list[Future[Read]]]:
            return [
                [pool.submit(_try, Path(path), size, depth, shown) for path in part] for part in islice(parts, count)
            ]

        ahead = ask(2)
        while ahead:
            done = [film.result() for film in ahead.pop(0)]
            ahead += ask(1)
            yield done


def _try(path: Path, size: int, depth: int, shown: bool) -> Read:
    try:
        film = decode.film(path, size, depth)
        if not shown:
            return Read(path, film.pixels, by=film.shown)
        own = Image.fromarray(decode.decode(path, None, depth))
        own.thumbnail((SHOWN, SHOWN))
        return Read(path, film.pixels, "", np.asarray(own), film.shown)
    except UserError as error:
        return Read(path, None, getattr(error, "reason", str(error)))


def originals(films: Films, depth: int = 0) -> list[np.ndarray]:
    """The same films at their own sizes, each (h, w) float32 in [0, 1]."""
    paths = _paths(films)
    own = list(np.asarray(films)) if paths is None else [decode.decode(path, None, depth) for path in paths]
    return [film.astype(np.float32) / 255 if film.dtype == np.uint8 else film.astype(np.float32) for film in own]


def _paths(films: Films) -> list[Path] | None:
    """The films' paths; None where they are arrays."""
    if isinstance(films, str | Path):
        films = [films]
    if isinstance(films, np.ndarray) or not all(isinstance(film, str | Path) for film in films):
        return None
    return [Path(os.path.expanduser(film)) for film in films]


def _of_array(films: np.ndarray, size: int) -> np.ndarray:
    if films.ndim == 4 and films.shape[-1] == 1:
        films = films[..., 0]
    if films.ndim != 3 or not films.size:
        raise UserError(f"films are an array of shape {films.shape}; {EXPECTED}")
    if films.dtype == np.uint8:
        return np.stack([decode.from_array(f"film {i}", film, size) for i, film in enumerate(films)])
    if not np.issubdtype(films.dtype, np.floating):
        raise UserError(f"films are an array of {films.dtype}; {EXPECTED}")
    low, high = float(films.min()), float(films.max())
    if not (low >= 0 and high <= 1):  # NaN is in no range
        raise UserError(f"films are floats from {low:g} to {high:g}; {EXPECTED}: divide by the largest value there is")
    return np.stack([resize(film, size, size) for film in films])


def resize(film: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) float -> (height, width) float32, by the filter that films are prepared with."""
    film = np.asarray(film, np.float32)
    if film.shape == (height, width):
        return film
    return np.asarray(Image.fromarray(film).resize((width, height), Image.Resampling.BILINEAR))


def phase_features(image: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Films (n, h, w, 1) in [0, 1] -> their local-phase channels (n, h, w, 3), in steps of 1/255 as they are stored."""
    return np.rint(np.clip(np.asarray(enhance.enhance(image, **options)), 0, 1) * 255).astype(np.float32) / 255
