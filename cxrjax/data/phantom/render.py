"""From anatomy and findings to a film: thickness adds up, an exposure curve turns it into gray, grain comes last."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from cxrjax.data.labels import FINDINGS
from cxrjax.data.phantom import anatomy as body
from cxrjax.data.phantom.findings import SIGNS
from cxrjax.data.phantom.layers import Layers, blurred, build
from cxrjax.data.phantom.scene import NONE, SAME, Amount, Effect, Scene
from cxrjax.errors import UserError

VISIBLE = 3  # gray levels
FINEST = 128  # smaller films are rendered at least this large and averaged down


@dataclass(frozen=True)
class Phantom:
    """A procedural film.

    Attributes:
      image: (size, size) uint8; bone white, air black.
      twin: (size, size) uint8; the same anatomy, exposure and grain without the findings.
      findings: the severities in (0, 1] that are present.
      masks: by finding, (size, size) bool: where it changes the film, displaced anatomy included.
      lungs: (size, size) bool; the lungs as seen, without what the heart covers.
      heart: (size, size) bool; the heart above the diaphragm.
    """

    image: np.ndarray
    twin: np.ndarray
    findings: dict[str, float]
    masks: dict[str, np.ndarray]
    lungs: np.ndarray
    heart: np.ndarray


def checked(findings: Mapping[str, float] | None) -> dict[str, float]:
    """The present findings in the label order.

    Raises:
      UserError: an unknown finding, or a severity outside [0, 1].
    """
    asked = dict(findings or {})
    for name, severity in asked.items():
        if name not in SIGNS:
            near = difflib.get_close_matches(name, FINDINGS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"the phantom cannot draw {name!r} (it draws {', '.join(FINDINGS)}){hint}")
        if not 0.0 <= severity <= 1.0:
            raise UserError(f"the severity of {name!r} is {severity}; give a number in [0, 1], 0 for absent")
    return {name: float(asked[name]) for name in FINDINGS if asked.get(name, 0.0) > 0.0}


def compose(scene: Scene, layers: Layers, effects: list[Effect]) -> tuple[np.ndarray, body.Inside]:
    """The film's gray at the internal size, before grain, with the thorax as displaced.

    Returns:
      (n, n) float32 in [0, 255], and the thorax's contents.
    """
    a, geometry = scene.anatomy, scene.geometry
    for effect in effects:
        geometry = effect.move(geometry) if effect.move else geometry
    chest = scene.healthy
    if geometry != scene.geometry:
        chest = body.inside(a, geometry, scene.frame.u, scene.frame.v)
    keep: Amount = SAME
    gain: Amount = SAME
    markings: Amount = SAME
    add: Amount = NONE
    over: Amount = NONE
    for effect in effects:
        keep, gain, markings = keep * (1.0 - effect.fill), gain * effect.gain, markings * (1.0 - effect.clear)
        add, over = add + effect.add, over + effect.over
    side = np.where(scene.frame.u > 0, np.float32(a.air[1]), np.float32(a.air[0]))
    air = chest.air * gain * keep * side
    lines = (0.15 * a.markings * layers.vessels * markings * (0.25 + 0.75 * keep) + 0.010 * layers.grain) * chest.air
    thick = layers.outer - 0.48 * air + lines + 0.05 * chest.depth + 0.10 * chest.abdomen + over
    thick += (0.13 * a.markings * layers.hila) * chest.air + add * np.minimum(1.0, 1.6 * chest.air)
    thick -= 0.15 * layers.trachea * (1.0 - chest.air) * (1.0 - 0.6 * chest.abdomen)
    thick -= 0.28 * layers.bubble * chest.abdomen
    thick = blurred(thick, a.blur * scene.frame.n)
    low, high = 1 / (1 + np.exp(a.contrast * a.exposure)), 1 / (1 + np.exp(-a.contrast * (1.12 - a.exposure)))
    curve = 1.0 / (1.0 + np.exp(np.float32(-a.contrast) * (thick - np.float32(a.exposure))))
    black, white = a.window
    return np.clip((curve - np.float32(low)) * np.float32((white - black) / (high - low)) + black, 0.0, 255.0), chest


def shrink(picture: np.ndarray, size: int) -> np.ndarray:
    """Area average to (size, size)."""
    return picture if len(picture) == size else cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def speckless(mask: np.ndarray, smallest: int) -> np.ndarray:
    """Drops components of fewer than `smallest` pixels; keeps the largest one whatever its size."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    keep = area >= min(smallest, int(area.max()))
    return keep[parts]


def footprint(alone: np.ndarray, together: np.ndarray) -> np.ndarray:
    """A finding's mask: where it is visible on its own and the film shows it, without specks and pinholes.

    Args:
      alone, together: (size, size) bool; where the finding alone, and the whole film, visibly differ from the twin.
    """
    seen = speckless(alone & together, max(2, round(len(alone) ** 2 * 2e-4)))
    closed = ndimage.binary_closing(np.pad(seen, 2), np.ones((3, 3)))[2:-2, 2:-2] | seen
    # Closing may cover pixels that the findings left alone; at least nine in ten must show a difference.
    return closed if together[closed].sum() >= 0.92 * closed.sum() else seen


def render(seed: int, size: int, findings: Mapping[str, float] | None = None) -> Phantom:
    """Draws the film of patient `seed` with the asked findings.

    The anatomy and the exposure depend on the seed alone, and the grain on seed and size; outside the union of the
    masks the film equals its twin exactly.

    Args:
      seed: the patient, a non-negative integer.
      size: height and width in pixels, at least 16.
      findings: severity in [0, 1] by finding; 0 or missing is absent.

    Raises:
      UserError: an unknown finding, a severity outside [0, 1], a negative seed or a size below 16.
    """
    if seed < 0 or size < 16:
        raise UserError(
            f"the phantom wants a seed of at least 0 and a size of at least 16, got seed {seed}, size {size}"
        )
    present = checked(findings)
    patient = body.draw(seed)
    frame = body.Frame(patient, size * max(1, -(-FINEST // size)))
    scene = Scene(patient, frame, body.inside(patient, patient.geometry, frame.u, frame.v))
    layers = build(patient, frame, scene.healthy, seed)
    rng = np.random.default_rng([seed, 4])
    sigma = patient.noise * min(1.0, (size / 256) ** 0.5)
    grain = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 0.6) * np.float32(
        1.7 * sigma
    )

    def film(effects: list[Effect]) -> tuple[np.ndarray, body.Inside]:
        gray, chest = compose(scene, layers, effects)
        return np.clip(np.rint(shrink(gray, size) + grain), 0, 255).astype(np.uint8), chest

    twin, chest = film([])
    image, masks = twin, {}
    if present:
        effects = {
            name: SIGNS[name](scene, np.random.default_rng([seed, 100 + FINDINGS.index(name)]), severity)
            for name, severity in present.items()
        }
        image, chest = film(list(effects.values()))
        together = cv2.absdiff(image, twin) >= VISIBLE
        for name, effect in effects.items():
            alone = together if len(effects) == 1 else cv2.absdiff(film([effect])[0], twin) >= VISIBLE
            masks[name] = footprint(alone, together)
        image = np.where(np.any(list(masks.values()), axis=0), image, twin)
    return Phantom(image, twin, present, masks, shrink(chest.lungs, size) > 0.5, shrink(chest.heart, size) > 0.5)
