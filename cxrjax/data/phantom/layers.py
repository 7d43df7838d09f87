"""The pictures that no finding changes: chest wall, bones, spine, vessels; thickness in units of log attenuation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cxrjax.data.phantom import strokes
from cxrjax.data.phantom.anatomy import Anatomy, Field, Frame, Inside, diaphragm, smoothstep, wall


@dataclass(frozen=True)
class Layers:
    """(n, n) float32 pictures.

    Attributes:
      outer: thickness of the body's wall and of the bones.
      vessels: the lungs' markings in [0, 1].
      hila: the hilar shadows in [0, 1].
      trachea: the central airways in [0, 1].
      grain: the lungs' fine texture, unit variance.
      bubble: the stomach's gas in [0, 1].
    """

    outer: Field
    vessels: Field
    hila: Field
    trachea: Field
    grain: Field
    bubble: Field


def ribs(anatomy: Anatomy, frame: Frame) -> Field:
    """Posterior and anterior ribs as two families of shifted curves; thickness."""
    g = anatomy.geometry
    u, v = np.abs(frame.u), frame.v
    half = wall(g, v) * 1.02 + 0.006
    a = u / g.width
    side = np.where(frame.u > 0, 0.12, 0.0).astype(np.float32)
    cage = smoothstep((half - u) / 0.012) * smoothstep((u - 0.03) / 0.02)
    fade = 1.0 - 0.55 * smoothstep((v - g.dome[0] - 0.08) / 0.1)

    def family(phase: Field, thick: float, first: int, last: int) -> Field:
        index = np.floor(phase)
        d = np.abs(phase - index - 0.5) / thick
        body = smoothstep((1.0 - d) * 4.0)
        cortex = np.exp(-(((d - 0.85) / 0.16) ** 2))
        return (0.7 * body + 0.45 * cortex) * ((index >= first) & (index <= last))

    drop = anatomy.rib_curve * (1.25 * a**2.2 - 0.45 * a * (1.0 - a))
    back = family((v - anatomy.rib_start - drop) / anatomy.rib_spacing + side, 0.22, 0, 9)
    rise = 0.30 * (1.0 - np.clip(a, 0.0, 1.0)) ** 1.1
    front = family((v - anatomy.rib_start - 0.16 - rise) / (anatomy.rib_spacing * 1.25) + 1.6 * side, 0.27, 0, 4)
    front *= smoothstep((a - 0.55) / 0.35)
    return anatomy.rib_density * cage * fade * (0.075 * back + 0.034 * front)


def bones(anatomy: Anatomy, frame: Frame, seed: int) -> Field:
    """Clavicles, scapulae and humeral heads; thickness."""
    rng = np.random.default_rng([seed, 1])
    g = anatomy.geometry
    canvas, collar = strokes.blank(frame.n), strokes.blank(frame.n)
    lift = rng.uniform(-0.02, 0.03)
    for side in (-1.0, 1.0):
        j = rng.normal(0.0, 0.006, 4)
        x = np.linspace(0.0, 1.0, 14)
        outer = g.width + 0.055
        line = np.stack([side * (0.045 + (outer - 0.045) * x), 0.0 * x], 1)
        line[:, 1] = g.apex + 0.115 + j[0] - (0.105 + lift) * x - 0.022 * np.sin(2 * np.pi * x)
        shoulder = np.array([side * (outer + 0.045), g.apex + 0.02 - lift + j[1]])
        blade = shoulder + np.array(
            [
                [0, 0.02],
                [-0.05 * side, 0.05],
                [-0.085 * side, 0.14],
                [-0.06 * side, 0.30],
                [-0.03 * side, 0.2],
                [0, 0.1],
            ]
        )
        strokes.fill(canvas, frame, blade, 0.28)
        strokes.stroke(canvas, frame, [blade[1:4]], 0.006, 0.5)
        strokes.stroke(
            canvas, frame, [shoulder + np.array([[0, 0], [0.05 * side, 0.1], [0.09 * side, 0.32]])], 0.05, 0.5
        )
        strokes.stroke(canvas, frame, [shoulder + np.array([[0, 0.02], [0.001, 0.021]])], 0.085, 0.55)
        strokes.stroke(collar, frame, [line], 0.027, 0.85)
        strokes.stroke(collar, frame, [line], 0.014, 0.62)
    return 0.22 * strokes.finish(canvas, frame.n, 0.006) + 0.15 * strokes.finish(collar, frame.n, 0.0022)


def spine(anatomy: Anatomy, frame: Frame) -> Field:
    """Vertebral bodies, disc spaces, pedicles; thickness."""
    u, v = np.abs(frame.u), frame.v
    column = smoothstep((anatomy.spine + 0.006 * v - u) / 0.02)
    phase = v / (0.048 + 0.006 * v)
    disc = 0.5 + 0.5 * np.cos(2 * np.pi * phase)
    spinous = np.exp(-((u / 0.008) ** 2)) * (1.0 - disc)
    pedicle = np.exp(-(((u - 0.02) / 0.006) ** 2)) * (1.0 - disc) ** 2
    return column * (0.095 - 0.045 * disc**3) + 0.02 * spinous + 0.016 * pedicle


def soft(anatomy: Anatomy, frame: Frame) -> Field:
    """The body's wall: an elliptic cylinder with neck, shoulders and breasts; thickness."""
    g = anatomy.geometry
    u, v = frame.u, frame.v
    half = anatomy.contour("body", v)
    x = np.clip(np.abs(u) / half, 0.0, 1.0)
    round_ = np.sqrt(np.clip(1.0 - x**3, 0.0, 1.0))
    tall = np.interp(v, [-0.2, 0.0, 0.12, 0.3, 0.6, 1.0, 1.2], [0.60, 0.63, 0.69, 0.70, 0.72, 0.84, 0.86]).astype(
        np.float32
    )
    out = (tall + 0.05 * anatomy.fat) * round_
    if anatomy.breast:
        for side in (-1.0, 1.0):
            du, dv = (u - side * 0.55 * g.width) / 0.165, (v - g.dome[0] + 0.05) / 0.16
            r2 = du * du + dv * dv
            out = out + 0.10 * anatomy.breast * np.sqrt(np.clip(1.0 - r2, 0.0, 1.0)) * (
                0.6 + 0.4 * np.clip(dv + 0.3, 0, 1)
            )
    return out


def vessels(anatomy: Anatomy, frame: Frame, seed: int) -> tuple[Field, Field]:
    """The lungs' vascular trees and the hilar shadows, each in [0, 1]."""
    rng = np.random.default_rng([seed, 2])
    g = anatomy.geometry
    canvas = strokes.blank(frame.n)
    thick = np.zeros_like(canvas)
    hub_v = g.apex + 0.47 * (g.dome[0] - g.apex)
    for side in (-1.0, 1.0):
        hub = np.array([side * 0.09, hub_v - (0.015 if side > 0 else 0.0)])
        spread = np.concatenate([np.linspace(-1.3, -0.4, 4), np.linspace(0.0, 1.35, 6)]) + rng.normal(0.0, 0.1, 10)
        angles = spread if side > 0 else np.pi - spread
        generations = strokes.tree(rng, hub + np.stack([0.0 * spread, 0.045 * spread], 1), angles, 0.17, 4)
        for level in (3, 2, 1, 0):
            width, value = (0.0072, 0.0050, 0.0036, 0.0022)[level], (0.62, 0.52, 0.44, 0.36)[level]
            strokes.stroke(canvas, frame, generations[level], width, value)
        strokes.stroke(canvas, frame, generations[0][:, :4], 0.0110, 0.75)
        strokes.stroke(thick, frame, generations[0][2:9, :3], 0.024, 0.8)
        strokes.stroke(
            thick,
            frame,
            [hub + np.array([[-0.01 * side, -0.04], [0.012 * side, 0.0], [0.006 * side, 0.06]])],
            0.035,
            0.9,
        )
    return strokes.finish(canvas, frame.n, 0.0016), strokes.finish(thick, frame.n, 0.011)


def airways(anatomy: Anatomy, frame: Frame) -> Field:
    """The trachea and the main bronchi, in [0, 1]."""
    g = anatomy.geometry
    canvas = strokes.blank(frame.n)
    carina = g.apex + 0.36 * (g.dome[0] - g.apex)
    strokes.stroke(
        canvas, frame, [np.array([[0.0, -0.2], [-0.003, carina - 0.1], [-0.004, carina - 0.01]])], 0.036, 0.9
    )
    strokes.stroke(canvas, frame, [np.array([[-0.004, carina - 0.012], [-0.05, carina + 0.05]])], 0.022, 0.6)
    strokes.stroke(canvas, frame, [np.array([[-0.004, carina - 0.012], [0.06, carina + 0.045]])], 0.020, 0.55)
    return strokes.finish(canvas, frame.n, 0.006)


def build(anatomy: Anatomy, frame: Frame, healthy: Inside, seed: int) -> Layers:
    """Renders every unchanging picture of a patient."""
    u, v = frame.u, frame.v
    uneven = anatomy.tilt[0] * u + anatomy.tilt[1] * (v - 0.5)
    uneven = uneven + anatomy.veil * strokes.texture(np.random.default_rng([seed, 5]), frame.n, 3, 1)
    wall_and_bones = soft(anatomy, frame)
    wall_and_bones = wall_and_bones + uneven * smoothstep(wall_and_bones / 0.2 - 0.5)
    inside_body = smoothstep(wall_and_bones / 0.2)
    wall_and_bones = wall_and_bones + inside_body * (
        ribs(anatomy, frame) * (0.4 + 0.6 * healthy.air) + bones(anatomy, frame, seed) + spine(anatomy, frame)
    )
    markings, hila = vessels(anatomy, frame, seed)
    bu, depth, hw, hh = anatomy.bubble
    top = float(diaphragm(anatomy.geometry, np.asarray(bu, np.float32)))
    gas = smoothstep((1.0 - np.hypot((u - bu) / hw, (v - top - depth) / hh)) * 1.6)
    gas = gas * (1.0 - smoothstep((v - top - depth - 0.3 * hh) / 0.008))
    grain = strokes.texture(np.random.default_rng([seed, 3]), frame.n, 48, 2)
    return Layers(wall_and_bones, markings, hila, airways(anatomy, frame), grain, gas)


def blurred(picture: Field, sigma: float) -> Field:
    """Gaussian blur by `sigma` pixels; nothing below a third of a pixel."""
    return cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.33 else picture
