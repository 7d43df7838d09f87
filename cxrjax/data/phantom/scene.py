"""What a finding may look at and what it may do, with the shapes that several findings share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrjax.data.phantom import strokes
from cxrjax.data.phantom.anatomy import Anatomy, Field, Frame, Geometry, Inside, smoothstep, wall

Scalar = np.float32
Amount = Field | np.floating
NONE = np.float32(0.0)
SAME = np.float32(1.0)


@dataclass(frozen=True)
class Effect:
    """What a finding does. Fields broadcast against the film.

    Attributes:
      fill: share of the lungs' air replaced by fluid or tissue, in [0, 1].
      gain: factor on the lungs' air; above 1 is hyperlucent.
      add: thickness added within the thorax (inside the lungs' outline).
      over: thickness added anywhere.
      clear: share of the vessels' markings that disappears, in [0, 1].
      move: what it displaces.
    """

    fill: Amount = NONE
    gain: Amount = SAME
    add: Amount = NONE
    over: Amount = NONE
    clear: Amount = NONE
    move: Callable[[Geometry], Geometry] | None = None


@dataclass(frozen=True)
class Scene:
    """What a finding may look at: the patient, the film's grid and the healthy thorax."""

    anatomy: Anatomy
    frame: Frame
    healthy: Inside

    @property
    def geometry(self) -> Geometry:
        return self.anatomy.geometry

    def spot(self, side: float, lateral: float, height: float) -> tuple[float, float]:
        """(u, v) at a fraction of the lung's half width and of its height (0 apex, 1 diaphragm)."""
        g = self.geometry
        v = g.apex + height * (g.dome[0] - g.apex)
        return side * lateral * float(wall(g, np.asarray(v, np.float32))), v

    def radius(self, u: float, v: float, ru: float, rv: float, angle: float = 0.0) -> Field:
        """Elliptic radius around (u, v); 1 on the border."""
        du, dv = self.frame.u - Scalar(u), self.frame.v - Scalar(v)
        c, s = Scalar(np.cos(angle)), Scalar(np.sin(angle))
        return np.hypot((c * du + s * dv) / Scalar(ru), (c * dv - s * du) / Scalar(rv))

    def texture(self, rng: np.random.Generator, cells: int, octaves: int = 3) -> Field:
        return strokes.texture(rng, self.frame.n, cells, octaves)

    def bronchi(self, rng: np.random.Generator, side: float, target: tuple[float, float]) -> Field:
        """Air-filled bronchi that fan from the hilum toward `target`; (n, n) in [0, 1]."""
        root = np.array([side * 0.085, self.spot(side, 0.0, 0.47)[1]])
        way = np.array(target) - root
        heading = np.arctan2(way[1], way[0]) + np.array([-0.3, 0.0, 0.3])
        canvas = strokes.blank(self.frame.n)
        lines = strokes.tree(rng, root, heading, float(np.hypot(*way)) * 1.3, 3)
        for level, width in ((2, 0.005), (1, 0.007), (0, 0.010)):
            strokes.stroke(canvas, self.frame, lines[level], width, 0.9)
        return strokes.finish(canvas, self.frame.n, 0.0022)

    @property
    def lateral(self) -> Field:
        """Distance from the midline over the thorax's half width."""
        return np.abs(self.frame.u) / wall(self.geometry, self.frame.v)

    @property
    def height(self) -> Field:
        """0 at the apex, 1 at the diaphragm's summit."""
        g = self.geometry
        return (self.frame.v - Scalar(g.apex)) / Scalar(g.dome[0] - g.apex)


def side_of(rng: np.random.Generator) -> float:
    return -1.0 if rng.random() < 0.5 else 1.0


def on_side(scene: Scene, side: float) -> Field:
    return (scene.frame.u * side > 0).astype(np.float32)


def haze(
    scene: Scene, rng: np.random.Generator, at: tuple[float, float], size: tuple[float, float], rough: float, cells: int
) -> Field:
    """An opacity with irregular, fuzzy edges, in [0, 1]."""
    q = scene.radius(*at, *size, rng.uniform(-0.4, 0.4))
    return smoothstep((1.0 - q + Scalar(rough) * scene.texture(rng, cells)) * 0.95)


def roundness(scene: Scene, rng: np.random.Generator, at: tuple[float, float], r: float, lobes: float) -> Field:
    """The depth of a nearly round lesion, 1 in its middle."""
    du, dv = scene.frame.u - Scalar(at[0]), scene.frame.v - Scalar(at[1])
    angle = np.arctan2(dv, du)
    p = rng.uniform(0.0, 2 * np.pi, 3)
    border = 1.0 + lobes * (np.cos(2 * angle + p[0]) + 0.7 * np.cos(3 * angle + p[1]) + 0.5 * np.cos(5 * angle + p[2]))
    q = np.hypot(du, dv) / (Scalar(r) * border.astype(np.float32))
    return np.sqrt(np.clip(1.0 - q**4, 0.0, 1.0))
