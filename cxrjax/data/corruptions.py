"""Damage that films meet between detector and network, on the host: 8-bit films in and out.

What a kind draws (a direction, a place, the grain) depends on seed, kind and film alone, so that a film is damaged
alike at every strength, only more.

Source: MedMNIST-C names kinds for chest films (Di Salvo et al. 2024); crop and rotation are ours.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from cxrjax.errors import UserError, lookup

# (h, w) float32 in [0, 1], how strong, chance -> the same form, not yet cut at black and white.
Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


class Kind(NamedTuple):
    """A kind of damage: `change`, the strength `none` at which it does nothing, and the strongest there is."""

    change: Change
    none: float
    most: float


def _exposure(film: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Brighter or darker by a share."""
    return film * (1 + share * _sign(rng))


def _gamma(film: np.ndarray, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """To a power, or its root."""
    return film ** (exponent ** _sign(rng))


def _contrast(film: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Distance to the mean gray, times a factor or divided by it."""
    mean = film.mean()
    return mean + (film - mean) * factor ** _sign(rng)


def _blur(film: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, of a width that is a share of the side."""
    return cv2.GaussianBlur(film, (0, 0), share * len(film)) if share else film


def _noise(film: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, of a standard deviation where white is 1."""
    return film + deviation * rng.standard_normal(film.shape, np.float32)


def _jpeg(film: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of a quality."""
    _, file = cv2.imencode(".jpg", _to_bytes(film), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)) / np.float32(255)


def _downscale(film: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Made smaller by a factor, area-averaged, and enlarged again."""
    height, width = film.shape
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    return _resize(cv2.resize(film, small, interpolation=cv2.INTER_AREA), height, width)


def _crop(film: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Less a share of both sides, at a drawn place, and enlarged again."""
    height, width = film.shape
    kept = (round(height * (1 - share)), round(width * (1 - share)))
    top, left = (
        round(float(at) * (side - part)) for at, side, part in zip(rng.random(2), film.shape, kept, strict=True)
    )
    return _resize(film[top : top + kept[0], left : left + kept[1]], height, width)


def _rotation(film: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turned to either side about the middle, the border by reflection."""
    height, width = film.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees * _sign(rng), 1.0)
    return cv2.warpAffine(film, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


KINDS: dict[str, Kind] = {
    "exposure": Kind(_exposure, 0.0, 1.0),
    "gamma": Kind(_gamma, 1.0, 10.0),
    "contrast": Kind(_contrast, 1.0, 10.0),
    "blur": Kind(_blur, 0.0, 0.5),
    "noise": Kind(_noise, 0.0, 1.0),
    "jpeg": Kind(_jpeg, 100, 1),
    "downscale": Kind(_downscale, 1.0, 16.0),
    "crop": Kind(_crop, 0.0, 0.9),
    "rotation": Kind(_rotation, 0.0, 180.0),
}


def check(kinds: Mapping[str, Sequence[float]], key: str) -> None:
    """Refuses kinds that there are not, and strengths that are none, out of range or in another order than growing.

    Args:
      kinds: strengths by kind, mild to strong.
      key: of the config that has them, for the message.

    Raises:
      UserError: names the kind, its strengths and what was expected.
    """
    for name, strengths in kinds.items():
        kind = lookup(KINDS, name, key)
        away = [(strength - kind.none) / (kind.most - kind.none) for strength in strengths]
        if not away or not all(0 < a <= 1 for a in away) or away != sorted(set(away)):
            raise UserError(
                f"{key}.{name} = {tuple(strengths)}: expected strengths from beyond {kind.none:g}, which does nothing, "
                f"to at most {kind.most:g}, each stronger than the one before"
            )


def damaged(films: np.ndarray, index: np.ndarray, kind: str, strength: float, seed: int) -> np.ndarray:
    """Films with one kind of damage.

    Args:
      films: (n, h, w) uint8.
      index: (n,) a number of each film, by which it draws.
      kind: a key of `KINDS`.
      strength: how much, in the kind's own measure.
      seed: of the draws.

    Returns:
      (n, h, w) uint8.
    """
    change, name = KINDS[kind].change, zlib.crc32(kind.encode())
    out = np.empty_like(films)
    for row, (film, i) in enumerate(zip(films, index, strict=True)):
        rng = np.random.default_rng([seed, name, int(i)])
        out[row] = _to_bytes(change(film / np.float32(255), strength, rng))
    return out


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _resize(film: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(film, (width, height), interpolation=cv2.INTER_LINEAR)


def _to_bytes(film: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(film, 0, 1) * 255).astype(np.uint8)
