"""Augmentation on the host: 8-bit (h, w) or (h, w, c) in and out, all chance from the generator grain hands over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from cxrjax.errors import UserError, did_you_mean

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]

# 1/14 of the side is 16 pixels at 224; 10 degrees is the range the ETRI deck states.
CROP_SHARE = 1 / 14
MAX_DEGREES = 10.0
BRIGHTNESS = 0.2


def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with probability 1/2 (the heart changes sides, as is usual in this field's training)."""
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pads by reflection and crops to the same size at a uniformly drawn offset: a shift by up to 1/14 of the side."""
    height, width = image.shape[:2]
    pad = max(1, round(height * CROP_SHARE))
    top, left = rng.integers(0, 2 * pad + 1, 2)
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(padded[top : top + height, left : left + width])


def rotate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turns about the center by a uniform angle within 10 degrees, bilinear, border by reflection."""
    height, width = image.shape[:2]
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, rng.uniform(-MAX_DEGREES, MAX_DEGREES), 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiplies by a uniform factor of 1 within 20 %, cut at white."""
    factor = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


TRANSFORMS: dict[str, Transform] = {"flip": flip, "crop": crop, "rotate": rotate, "brightness": brightness}


def compose(names: Sequence[str]) -> Transform:
    """The named transforms in this order, as one.

    Raises:
      UserError: an unknown name.
    """
    for name in names:
        if name not in TRANSFORMS:
            hint = did_you_mean(name, TRANSFORMS)
            raise UserError(f"augmentation {name!r} is unknown: expected some of {', '.join(TRANSFORMS)}{hint}")

    def run(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for name in names:
            image = TRANSFORMS[name](image, rng)
        return image

    return run
