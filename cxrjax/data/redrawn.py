"""A drawn patient once more: the same chest at another time, otherwise placed, exposed and grained, with or without
the findings. What several films of one patient are to a data set of real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import cv2
import numpy as np

from cxrjax.data.labels import FINDINGS
from cxrjax.data.phantom import anatomy as body
from cxrjax.data.phantom.findings import SIGNS
from cxrjax.data.phantom.layers import build
from cxrjax.data.phantom.render import FINEST, checked, compose, shrink
from cxrjax.data.phantom.scene import Scene

# What the second film has of its own; the rest of the anatomy is the patient.
TAKEN = ("rotation", "offset", "tilt", "contrast", "exposure", "window", "blur", "noise")
WELL = 0.5  # share of second films of diseased patients that show no finding


def redrawn(seed: int, size: int, findings: Mapping[str, float] | None = None, take: int = 1) -> np.ndarray:
    """Another film (size, size) uint8 of the patient of `phantom.render(seed, size, findings)`.

    Args:
      seed, size, findings: as of the first film.
      take: which other film, 1 or more; each has its own placing, exposure and grain.

    Raises:
      UserError: findings that no phantom has.
    """
    rng = np.random.default_rng([seed, 6, take])
    other = body.draw(int(rng.integers(2**62)))
    patient = dataclasses.replace(body.draw(seed), **{name: getattr(other, name) for name in TAKEN})
    frame = body.Frame(patient, size * max(1, -(-FINEST // size)))
    scene = Scene(patient, frame, body.inside(patient, patient.geometry, frame.u, frame.v))
    shown = {} if rng.random() < WELL else checked(findings)
    signs = [SIGNS[name](scene, np.random.default_rng([seed, 100 + FINDINGS.index(name)]), severity)
             for name, severity in shown.items()]  # fmt: skip
    gray, _ = compose(scene, build(patient, frame, scene.healthy, seed), signs)
    sigma = 1.7 * patient.noise * min(1.0, (size / 256) ** 0.5)
    grain = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 0.6)
    return np.clip(np.rint(shrink(gray, size) + np.float32(sigma) * grain), 0, 255).astype(np.uint8)
