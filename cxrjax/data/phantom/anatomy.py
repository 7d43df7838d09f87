"""The phantom's anatomy: parameters drawn once in body coordinates, and the smooth fields that they define.

Body coordinates: `u` is the distance from the midline (positive toward the patient's left, the viewer's right) and `v`
runs down the film, both in film heights, so that one seed is one patient at every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

Field = np.ndarray
HEART_TILT = np.deg2rad(36.0)
HEART_SHORT = 0.70  # short axis over long axis


def smoothstep(x: Field) -> Field:
    """0 below -1/2, 1 above 1/2, a cubic between; any shape."""
    t = np.clip(x + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@dataclass(frozen=True)
class Geometry:
    """What a finding may displace. Lengths in film heights.

    Attributes:
      apex: height of the lung apices.
      width: half of the inner thorax's width.
      dome: heights of the right and the left hemidiaphragm's summit.
      fall: how far the diaphragm falls from its summit to the costophrenic angle, right and left.
      heart: half of the heart's width.
      heart_v: height of the heart's center.
      shift: sideways displacement of the heart and the mediastinum.
    """

    apex: float
    width: float
    dome: tuple[float, float]
    fall: tuple[float, float]
    heart: float
    heart_v: float
    shift: float


@dataclass(frozen=True)
class Anatomy:
    """Everything about the patient and the exposure that no finding changes, with the healthy `geometry`."""

    geometry: Geometry
    rotation: float
    scale: float
    offset: tuple[float, float]
    fat: float
    breast: float
    body: np.ndarray  # (k, 2) control points (v, half width)
    right: np.ndarray  # (k, 2) mediastinal contour on the patient's right: (fraction of lung height, half width)
    left: np.ndarray  # (k, 2)
    rib_spacing: float
    rib_start: float
    rib_curve: float
    rib_density: float
    spine: float
    bubble: tuple[float, float, float, float]  # (u, depth below the dome, half width, half height)
    air: tuple[float, float]  # how much of each lung is air, of the right and of the left; 1 is plain
    markings: float  # strength of vessels and hila
    veil: float  # how uneven what overlies the chest is; thickness
    tilt: tuple[float, float]  # thickness from the middle to the film's side and to its lower end
    contrast: float
    exposure: float
    window: tuple[float, float]  # gray of the darkest and of the brightest that the curve reaches
    blur: float
    noise: float

    @cached_property
    def tables(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Contours as dense tables, so that a field needs one linear interpolation."""
        out = {}
        for name in ("body", "right", "left"):
            points = getattr(self, name)
            x = np.linspace(points[0, 0], points[-1, 0], 256)
            out[name] = (x, PchipInterpolator(points[:, 0], points[:, 1])(x))
        return out

    def contour(self, name: str, x: Field) -> Field:
        """The half width of `body`, `right` or `left` at x; float32 of x's shape."""
        return np.interp(x, *self.tables[name]).astype(np.float32)


def draw(seed: int) -> Anatomy:
    """Draws the patient and the exposure of one seed."""
    rng = np.random.default_rng([seed, 0])
    r = rng.uniform
    fat = r(0.0, 1.0)
    female = r() < 0.5
    width = r(0.33, 0.40)
    apex = r(0.09, 0.15)
    dome = r(0.665, 0.775)
    fall = r(0.085, 0.12)
    heart = width * r(0.38, 0.47)
    pad = 0.045 + 0.06 * fat
    slope = r(0.0, 1.0)
    body = [
        (-0.3, 0.13),
        (0.0, 0.15 + 0.03 * fat),
        (0.06, 0.24 + 0.05 * slope + 0.03 * fat),
        (0.12, 0.44 + 0.05 * slope),
        (0.19, 0.54 + 0.03 * fat),
        (0.30, 0.56 + 0.03 * fat),
        (0.40, width + 0.10 + pad + r(-0.03, 0.03)),
        (0.50, width + 0.02 + pad),
        (0.62, width + 0.01 + pad + (0.03 if female else 0.0)),
        (0.80, width - 0.01 + pad),
        (1.0, width + r(-0.03, 0.01) + pad),
        (1.3, width + pad),
    ]
    knob, pulmonary, svc = r(0.074, 0.096), r(0.068, 0.084), r(0.058, 0.072)
    right = [(-1.0, 0.05), (0.0, 0.046), (0.12, 0.052), (0.3, svc), (0.5, svc + 0.004), (0.7, svc + 0.016)]
    right += [(0.85, svc + 0.024), (1.3, svc + 0.026)]
    level = r(0.72, 1.08)
    at = r(0.23, 0.29)
    left = [(-1.0, 0.05), (0.0, 0.04), (0.12, 0.046), (at, knob), (at + 0.09, knob - 0.016), (at + 0.16, pulmonary)]
    left += [
        (at + 0.30, pulmonary + 0.022),
        (at + 0.50, pulmonary + 0.062),
        (at + 0.72, pulmonary + 0.085),
        (1.4, 0.16),
    ]
    return Anatomy(
        geometry=Geometry(
            apex=apex,
            width=width,
            dome=(dome, dome + r(0.005, 0.03)),
            fall=(fall, fall + r(-0.01, 0.01)),
            heart=heart,
            heart_v=dome - r(0.085, 0.105),
            shift=0.0,
        ),
        rotation=np.deg2rad(r(-5.0, 5.0)),
        scale=r(0.88, 1.14),
        offset=(r(-0.04, 0.04), r(-0.03, 0.04)),
        fat=fat,
        breast=r(0.4, 1.0) if female else 0.0,
        body=np.array(body),
        right=np.array(right),
        left=np.array(left),
        rib_spacing=r(0.066, 0.076),
        rib_start=apex - r(0.01, 0.03),
        rib_curve=r(0.10, 0.15),
        rib_density=r(0.75, 1.2),
        spine=r(0.030, 0.036),
        bubble=(r(0.10, 0.20), r(0.04, 0.06), r(0.035, 0.07), r(0.022, 0.04)),
        air=(level * r(0.88, 1.12), level * r(0.88, 1.12)),
        markings=r(0.8, 1.2),
        veil=r(0.03, 0.07),
        tilt=(r(-0.15, 0.15), r(-0.15, 0.15)),
        contrast=r(3.4, 5.6),
        exposure=r(0.40, 0.58),
        window=(r(2.0, 30.0), r(215.0, 254.0)),
        blur=r(0.0010, 0.0024),
        noise=r(1.2, 3.0),
    )


class Frame:
    """The film's pixels in body coordinates, and back.

    Attributes:
      u, v: (n, n) float32 body coordinates of the pixel centers.
    """

    def __init__(self, anatomy: Anatomy, n: int) -> None:
        self.anatomy, self.n = anatomy, n
        cos, sin = np.cos(anatomy.rotation), np.sin(anatomy.rotation)
        self.turn = np.array([[cos, sin], [-sin, cos]]) / anatomy.scale
        self.back = np.linalg.inv(self.turn).T
        self.origin = 0.5 + np.array(anatomy.offset)
        x = (np.arange(n) + 0.5) / n - 0.5
        dx, dy = x - anatomy.offset[0], x - anatomy.offset[1]
        self.u = (self.turn[0, 0] * dx[None, :] + self.turn[0, 1] * dy[:, None]).astype(np.float32)
        self.v = (self.turn[1, 0] * dx[None, :] + self.turn[1, 1] * dy[:, None] + 0.5).astype(np.float32)

    def film(self, points: np.ndarray) -> np.ndarray:
        """Body coordinates (..., 2) to film coordinates (..., 2) as (x, y) in [0, 1]."""
        return (points - np.array([0.0, 0.5])) @ self.back + self.origin


def wall(g: Geometry, v: Field) -> Field:
    """The inner half width of the thorax at height v: a superellipse from the apex down, then straight."""
    t = np.clip((v - g.apex) / (0.74 - g.apex), 0.0, 1.0)
    return np.maximum(g.width * (1.0 - (1.0 - t) ** 3.0) ** 0.52, 1e-3)


def diaphragm(g: Geometry, u: Field) -> Field:
    """The height of the hemidiaphragms at u."""
    a = np.abs(u) / g.width
    is_left = u > 0
    top = np.where(is_left, g.dome[1], g.dome[0])
    fall = np.where(is_left, g.fall[1], g.fall[0])
    outer = np.clip((a - 0.42) / 0.58, 0.0, 1.2)
    inner = np.clip((0.42 - a) / 0.42, 0.0, 1.0)
    return (top + fall * outer**2.2 + 0.3 * fall * inner**2).astype(np.float32)


def heart_radius(g: Geometry, u: Field, v: Field) -> Field:
    """The heart's elliptic radius at (u, v): 1 on its border."""
    long = g.heart / np.hypot(np.cos(HEART_TILT), HEART_SHORT * np.sin(HEART_TILT))
    du, dv = u - g.shift - 0.33 * g.heart, v - g.heart_v
    along = (np.cos(HEART_TILT) * du + np.sin(HEART_TILT) * dv) / long
    across = (np.cos(HEART_TILT) * dv - np.sin(HEART_TILT) * du) / (long * HEART_SHORT)
    return np.sqrt(along**2 + across**2)


@dataclass(frozen=True)
class Inside:
    """What fills the thorax, each (n, n) float32 in [0, 1].

    Attributes:
      lungs: the aerated lungs as seen (not behind the heart).
      air: how much air the ray crosses.
      heart: the heart above the diaphragm.
      depth: the heart's thickness.
      abdomen: what lies below the diaphragm.
    """

    lungs: Field
    air: Field
    heart: Field
    depth: Field
    abdomen: Field


def inside(anatomy: Anatomy, g: Geometry, u: Field, v: Field) -> Inside:
    """The thorax's contents at (u, v) under geometry `g`."""
    edge = 0.008
    lateral = np.abs(u) / wall(g, v)
    height = (v - g.apex) / (anatomy.geometry.dome[0] - g.apex)
    within = smoothstep((1.0 - lateral) * wall(g, v) / edge)
    below = smoothstep((v - diaphragm(g, u)) / edge)
    is_left = u > g.shift
    half = np.where(is_left, anatomy.contour("left", height), anatomy.contour("right", height))
    # The lower contour belongs to the heart and narrows with it; a large heart covers it anyway.
    half = half * (1.0 - max(0.0, 1.0 - g.heart / anatomy.geometry.heart) * smoothstep((height - 0.55) / 0.4))
    medial = smoothstep((half - np.abs(u - g.shift)) / 0.020)
    radius = heart_radius(g, u, v)
    heart = smoothstep((1.0 - radius) * g.heart / 0.016)
    profile = np.sqrt(np.clip(1.0 - lateral**5, 0.0, 1.0)) * (0.78 + 0.22 * np.clip(height, 0.0, 1.0))
    dome = np.clip(0.125 - np.abs(u), 0.0, 0.125)
    chest = within * (1.0 - below) * smoothstep((v - g.apex - 0.005 - 3.2 * dome**2) / 0.014)
    lungs = chest * (1.0 - medial) * (1.0 - heart)
    air = chest * profile * (1.0 - medial) * (1.0 - 0.86 * heart)
    depth = heart * np.sqrt(np.clip(1.15 - radius**2, 0.0, 1.0)) * (1.0 - 0.5 * below)
    return Inside(lungs, air, heart * (1.0 - below), depth, below * within)
