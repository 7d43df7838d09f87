"""The radiographic sign of each finding, as what it fills, adds, clears or displaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cxrjax.data.phantom import strokes
from cxrjax.data.phantom.anatomy import Geometry, smoothstep, wall
from cxrjax.data.phantom.scene import Effect, Scalar, Scene, haze, on_side, roundness, side_of


def atelectasis(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """Plates above a raised hemidiaphragm, or a collapsed lower lobe's wedge; the mediastinum follows."""
    side = side_of(rng)
    k = 0 if side < 0 else 1
    lobar = rng.random() < 0.4
    rise = 0.035 + 0.075 * s
    where = rng.uniform(0.5, 0.6) if side < 0 else rng.uniform(0.68, 0.74)
    tilt = rng.normal(0.12, 0.12, 3)
    jitter = rng.uniform(-0.02, 0.02, 3)

    def move(g: Geometry) -> Geometry:
        dome = (g.dome[0] - rise, g.dome[1]) if k == 0 else (g.dome[0], g.dome[1] - rise)
        return replace(g, dome=dome, shift=g.shift + side * (0.006 + 0.026 * s))

    g = scene.geometry
    base = g.dome[k] - rise
    fill = np.zeros_like(scene.frame.u)
    if lobar:
        # A lower lobe collapses toward the spine: a wedge with a straight lateral border.
        border = (0.055 + 0.05 * s + (scene.frame.v - base) * 0.55) - scene.frame.u * side
        top = scene.frame.v - Scalar(base - 0.26)
        fill = Scalar(0.55 + 0.4 * s) * smoothstep(border / 0.02) * smoothstep(top / 0.10) * on_side(scene, side)
    for i in range(1 + round(2 * s)):
        u, v = side * where * g.width, base - 0.035 - 0.035 * i + jitter[i]
        plate = scene.radius(u, v, 0.07 + 0.035 * s, 0.0065 + 0.006 * s, -side * tilt[i])
        fill = np.maximum(fill, Scalar(0.45 + 0.45 * s) * smoothstep((1.1 - plate) * 1.4))
    return Effect(fill=fill, move=move)


def cardiomegaly(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """The heart is wider than half of the thorax."""
    ratio = 0.54 + 0.18 * s

    def move(g: Geometry) -> Geometry:
        wide = g.width * ratio
        return replace(g, heart=wide, heart_v=g.heart_v - 0.32 * max(0.0, wide - g.heart))

    return Effect(move=move)


def effusion(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """Fluid from the costophrenic angle upward with a meniscus along the wall."""
    side = side_of(rng)
    sides = (-1.0, 1.0) if s > 0.5 and rng.random() < 0.25 else (side,)
    fill = np.zeros_like(scene.frame.u)
    g = scene.geometry
    x = np.clip(scene.lateral, 0.0, 1.0)
    for one in sides:
        k = 0 if one < 0 else 1
        amount = s if one == side else 0.6 * s
        level = g.dome[k] + 0.5 * g.fall[k] - 0.02 - 0.30 * amount
        meniscus = Scalar(level) + 0.03 - Scalar(0.05 + 0.13 * amount) * x**6
        wet = smoothstep((scene.frame.v - meniscus) / 0.022) * on_side(scene, one)
        fill = np.maximum(fill, Scalar(0.96) * wet)
    return Effect(fill=fill, add=0.02 * fill, clear=fill)


def infiltration(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """One or two ill-defined hazes with coarse streaks, anywhere but in the apex."""
    side = side_of(rng)
    fill = np.zeros_like(scene.frame.u)
    for i in range(2):
        where = side if i == 0 else -side
        at = scene.spot(where, rng.uniform(0.42, 0.74), rng.uniform(0.25, 0.85))
        r = (0.075 + 0.05 * s) * (1.0 if i == 0 else 0.75)
        blob = haze(scene, rng, at, (r, r * 1.35), 0.35, 12)
        if i == 0 or s > 0.6:
            fill = np.maximum(fill, blob)
    streaks = np.clip(1.0 + 0.28 * scene.texture(rng, 28, 2), 0.3, 1.7)
    return Effect(fill=np.clip(Scalar(0.14 + 0.32 * s) * fill * streaks, 0.0, 0.8))


def mass(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A lobulated round opacity of more than 3 cm."""
    at = scene.spot(side_of(rng), rng.uniform(0.45, 0.74), rng.uniform(0.15, 0.8))
    body = roundness(scene, rng, at, 0.044 + 0.05 * s, 0.05)
    return Effect(fill=Scalar(0.5 + 0.35 * s) * body, add=0.03 * body)


def nodule(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A small round opacity of less than 3 cm."""
    side = side_of(rng)
    low = 0.85 if side < 0 else 0.55
    at = scene.spot(side, rng.uniform(0.55, 0.78), rng.uniform(0.25, low))
    body = roundness(scene, rng, at, 0.013 + 0.018 * s, 0.03)
    return Effect(fill=Scalar(0.42 + 0.3 * s) * body, add=0.02 * body)


def pneumonia(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """Patchy segmental airspace opacity with fuzzy edges and a hint of air bronchograms."""
    side = side_of(rng)
    at = scene.spot(side, rng.uniform(0.48, 0.72), rng.uniform(0.2, 0.8))
    r = (0.085 + 0.03 * s) * rng.uniform(0.9, 1.1)
    patch = haze(scene, rng, at, (r, r * rng.uniform(0.8, 1.4)), 0.4, 10) * on_side(scene, side)
    clumps = np.clip(0.9 + 0.4 * scene.texture(rng, 20, 2), 0.15, 1.2)
    air = 1.0 - 0.30 * scene.bronchi(rng, side, at)
    return Effect(fill=np.clip(Scalar(0.74 + 0.22 * s) * patch * clumps * air, 0.0, 0.95), clear=0.7 * patch)


def pneumothorax(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A dark rim without vessels beyond a thin pleural line, widest at the apex."""
    side = side_of(rng)
    g = scene.geometry
    height = np.clip(scene.height, -0.2, 1.3)
    # The collapsed lung's outline: it falls from the apex and leaves the wall.
    fall = 0.04 + 0.20 * s
    shrunk = replace(g, apex=g.apex + fall, width=g.width * (1.0 - 0.04 - 0.28 * s))
    limit = wall(shrunk, scene.frame.v) * (1.0 + (0.10 - 0.04 * s) * np.clip(height, 0.0, 1.0) ** 3)
    distance = scene.frame.u * side - limit
    free = smoothstep(distance / 0.006) * on_side(scene, side)
    line = np.exp(-((distance / 0.0042) ** 2)) * on_side(scene, side) * smoothstep((scene.frame.v - shrunk.apex) / 0.02)
    inner = (1.0 - free) * on_side(scene, side) * Scalar(0.3 * max(0.0, s - 0.5))

    def move(geometry: Geometry) -> Geometry:
        return replace(geometry, shift=geometry.shift - side * 0.025 * max(0.0, s - 0.5))

    return Effect(fill=inner, gain=1.0 + Scalar(0.22 + 0.1 * s) * free, add=0.055 * line, clear=free, move=move)


def consolidation(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A dense homogeneous lobe with a sharp fissure and air bronchograms; it may hide the border it touches."""
    side = side_of(rng)
    upper = rng.random() < 0.4
    edge = rng.uniform(0.42, 0.5) if upper else rng.uniform(0.5, 0.6)
    slope = rng.uniform(-0.12, 0.12)
    fissure = scene.height - Scalar(edge) - Scalar(slope) * (scene.lateral - 0.5)
    extent = 0.18 + 0.42 * s
    center = 0.55 * rng.uniform(0.9, 1.1)
    near = smoothstep(
        (Scalar(0.22 + 0.5 * s) - np.abs(scene.lateral - Scalar(center)) + 0.06 * scene.texture(rng, 10)) / 0.16
    )
    inside_lobe = -fissure if upper else fissure
    far = smoothstep((Scalar(extent) - inside_lobe + 0.05 * scene.texture(rng, 9)) / 0.16)
    lobe = smoothstep(inside_lobe / 0.035) * far * near * on_side(scene, side)
    at = scene.spot(side, center, edge + (-0.5 if upper else 0.5) * extent)
    air = 1.0 - 0.35 * scene.bronchi(rng, side, at)
    return Effect(fill=Scalar(0.6 + 0.36 * s) * lobe * air, clear=lobe)


def edema(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A bilateral perihilar bat wing, fine haze, thick upper vessels and Kerley B lines at the bases."""
    fill = np.zeros_like(scene.frame.u)
    canvas = strokes.blank(scene.frame.n)
    g = scene.geometry
    tex = scene.texture(rng, 14)
    for side in (-1.0, 1.0):
        at = scene.spot(side, rng.uniform(0.36, 0.5), rng.uniform(0.45, 0.65))
        q = scene.radius(*at, 0.10 + 0.05 * s, 0.15 + 0.07 * s)
        fill = np.maximum(fill, smoothstep((1.0 - q + 0.25 * tex) * 0.9))
        v = np.linspace(g.dome[0] - 0.14, g.dome[0] + 0.03, 8) + rng.normal(0.0, 0.003, 8)
        outer = side * g.width * 0.985
        lines = [np.array([[outer, y], [outer - side * rng.uniform(0.03, 0.05), y + 0.004]]) for y in v]
        strokes.stroke(canvas, scene.frame, lines, 0.0035, 0.9)
        root = np.array([side * 0.085, at[1] - 0.03])
        up = -np.pi / 2 + side * np.array([0.25, 0.6, 0.9])
        for branch in strokes.tree(rng, root, up, 0.19, 2):
            strokes.stroke(canvas, scene.frame, branch, 0.0068, 0.9)
    lines_ = strokes.finish(canvas, scene.frame.n, 0.0014)
    grain = np.clip(1.0 + 0.16 * scene.texture(rng, 40, 2), 0.3, 1.7)
    return Effect(
        fill=np.clip((Scalar(0.06 * s) + Scalar(0.16 + 0.48 * s) * fill) * grain, 0.0, 0.9),
        add=Scalar(0.03 + 0.05 * s) * lines_,
    )


def emphysema(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """Hyperlucent long lungs, flat low diaphragms, a narrow heart, few peripheral vessels, perhaps a bulla."""

    def move(g: Geometry) -> Geometry:
        low = 0.03 + 0.07 * s
        flat = 1.0 - (0.3 + 0.4 * s)
        return replace(
            g,
            dome=(g.dome[0] + low, g.dome[1] + low),
            fall=(g.fall[0] * flat, g.fall[1] * flat),
            heart=g.heart * (1.0 - 0.06 - 0.16 * s),
            heart_v=g.heart_v + 0.5 * low,
        )

    upper = 1.0 + 0.4 * smoothstep((0.5 - scene.height) / 0.5)
    side = side_of(rng)
    bulla = roundness(scene, rng, scene.spot(side, 0.62, rng.uniform(0.15, 0.4)), 0.05 + 0.05 * s, 0.04)
    return Effect(
        gain=1.0 + Scalar(0.10 + 0.16 * s) * upper + Scalar(0.10 * s) * bulla,
        clear=np.maximum(Scalar(0.25 + 0.35 * s), bulla),
        move=move,
    )


def fibrosis(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A basal, peripheral network of lines with small cysts; the lungs lose some volume."""
    n = scene.frame.n
    where = smoothstep((scene.height - 0.62 + 0.25 * (scene.lateral - 0.7)) / (0.5 + 0.4 * Scalar(s))) * smoothstep(
        (scene.lateral - 0.5) / 0.6
    )
    where = np.clip(where * (1.25 + 0.4 * scene.texture(rng, 9)), 0.0, 1.0)
    ridges = np.maximum(
        1.0 - 1.6 * np.abs(strokes.texture(rng, n, 44, 1)), 1.0 - 1.9 * np.abs(strokes.texture(rng, n, 64, 1))
    )
    net = np.clip(ridges, 0.0, 1.0)

    def move(g: Geometry) -> Geometry:
        return replace(g, dome=(g.dome[0] - 0.025 * s, g.dome[1] - 0.025 * s))

    return Effect(fill=Scalar(0.12 + 0.22 * s) * where, add=Scalar(0.06 + 0.10 * s) * where * net, move=move)


def pleural_thickening(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A band of soft tissue along the lateral wall and over the apex, blunting the angle at high severity."""
    side = side_of(rng)
    g = scene.geometry
    u, v = scene.frame.u, scene.frame.v
    gap = (1.0 - scene.lateral) * wall(g, v)
    start, stop = rng.uniform(0.35, 0.55), rng.uniform(0.95, 1.15)
    long = smoothstep((scene.height - Scalar(start - 0.15 * s)) / 0.16) * (
        1.0 - smoothstep((scene.height - Scalar(stop)) / 0.16)
    )
    wave = 1.0 + 0.22 * scene.texture(rng, 7, 2)
    band = smoothstep((Scalar(0.016 + 0.028 * s) * wave * long - gap) / 0.008) * smoothstep((long - 0.15) / 0.2)
    cap_depth = Scalar(0.02 + 0.035 * s) * wave
    cap = 1.0 - smoothstep((v - Scalar(g.apex) - cap_depth - 0.25 * (np.abs(u) - 0.12) ** 2 * 4) / 0.012)
    both = np.maximum(band, cap) * on_side(scene, side)
    return Effect(fill=Scalar(0.6 + 0.3 * s) * both, add=0.03 * both, clear=both)


def hernia(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """A round retrocardiac mass with gas above a fluid level."""
    g = scene.geometry
    r = 0.05 + 0.05 * s
    at = (rng.uniform(0.02, 0.05), g.dome[1] - 0.55 * r)
    body = roundness(scene, rng, at, r * 1.1, 0.03)
    cavity = roundness(scene, rng, at, r * 0.88, 0.03)
    level = at[1] + rng.uniform(-0.02, 0.12) * r
    gas = cavity * (1.0 - smoothstep((scene.frame.v - Scalar(level)) / 0.006))
    return Effect(over=Scalar(0.07 + 0.04 * s) * body - Scalar(0.26 + 0.10 * s) * gas)


def covid(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """Bilateral peripheral ground-glass patches, mostly in the lower zones."""
    fill = np.zeros_like(scene.frame.u)
    extra = round(2 * s)
    for side in (-1.0, 1.0):
        for i in range(3):
            height = (0.8, 0.58, 0.36)[i] + rng.uniform(-0.14, 0.14)
            at = scene.spot(side, rng.uniform(0.66, 0.9), height)
            r = (0.05 + 0.045 * s) * rng.uniform(0.75, 1.25)
            blob = haze(scene, rng, at, (r, r * 1.3), 0.35, 14)
            if i <= extra:
                fill = np.maximum(fill, blob)
    mottle = np.clip(1.0 + 0.22 * scene.texture(rng, 30, 2), 0.4, 1.6)
    return Effect(fill=np.clip(Scalar(0.22 + 0.36 * s) * fill * mottle, 0.0, 0.9))


def tuberculosis(scene: Scene, rng: np.random.Generator, s: float) -> Effect:
    """An upper-lobe infiltrate around a thick-walled cavity, with satellite nodules."""
    side = side_of(rng)
    at = scene.spot(side, rng.uniform(0.45, 0.7), rng.uniform(0.16, 0.42))
    r = 0.065 + 0.05 * s
    patch = haze(scene, rng, at, (r, r), 0.45, 12) * on_side(scene, side)
    clumps = np.clip(0.8 + 0.4 * scene.texture(rng, 24, 2), 0.15, 1.3)
    fill = Scalar(0.28 + 0.35 * s) * patch * clumps
    hole = 0.022 + 0.022 * s
    shell = roundness(scene, rng, at, hole * 1.5, 0.04)
    cavity = smoothstep((1.0 - scene.radius(*at, hole, hole * 0.9)) * 2.5)
    fill = np.maximum(fill, Scalar(0.55 + 0.3 * s) * shell) * (1.0 - 0.9 * cavity)
    for _ in range(6):
        where = scene.spot(side, rng.uniform(0.4, 0.8), rng.uniform(0.15, 0.6))
        fill = np.maximum(fill, Scalar(0.3 + 0.2 * s) * smoothstep((1.0 - scene.radius(*where, 0.010, 0.010)) * 1.2))
    return Effect(fill=np.clip(fill, 0.0, 0.95), clear=cavity)


SIGNS: dict[str, Callable[[Scene, np.random.Generator, float], Effect]] = {
    "Atelectasis": atelectasis,
    "Cardiomegaly": cardiomegaly,
    "Effusion": effusion,
    "Infiltration": infiltration,
    "Mass": mass,
    "Nodule": nodule,
    "Pneumonia": pneumonia,
    "Pneumothorax": pneumothorax,
    "Consolidation": consolidation,
    "Edema": edema,
    "Emphysema": emphysema,
    "Fibrosis": fibrosis,
    "Pleural_Thickening": pleural_thickening,
    "Hernia": hernia,
    "COVID-19": covid,
    "Tuberculosis": tuberculosis,
}
