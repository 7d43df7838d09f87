"""The workdir of a GAN study as it leaves it, of random films: what makes pages of one is tried on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FINDINGS = np.array(["Normal", "Mass", "Pleural_Thickening"])
Files = dict[str, dict[str, np.ndarray]]


def _films(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _maps(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Maps of every row but the first, and one that is flat."""
    maps = rng.random(shape)
    maps[0], maps[1, 0] = np.nan, 0.5
    return maps


def files(baseline: bool) -> Files:
    rng, r, m = np.random.default_rng(0), len(FINDINGS), 5
    kinds = ("real", "made", *(("baseline",) if baseline else ()))
    shown = {kind: _films(rng, r, m, 32, 32) for kind in kinds}
    shown |= {f"{kind}_map": _maps(rng, r, m, 32, 32) for kind in kinds}
    weights = rng.random((2, 3, 4, 4))
    weights[0, 0] = np.nan
    return {
        "shown": {"finding": FINDINGS, **shown},
        "scales": {"finding": FINDINGS, **{f"made_{s}": _films(rng, r, 2, s, s) for s in (16, 32, 64)}},
        "interpolation": {"start": FINDINGS[:2], "end": FINDINGS[1:], "films": _films(rng, 2, 12, 32, 32)},
        "attention": {
            "film": _films(rng, 2, 32, 32),
            "finding": FINDINGS[1:],
            "point": rng.random((2, 3, 2)),
            "map": weights / weights.sum(axis=(2, 3), keepdims=True),
        },
        "neighbors": {
            "made": _films(rng, 4, 32, 32),
            "nearest": _films(rng, 4, 32, 32),
            "distance": np.array([2.0, 1.5, 3.0, np.nan]),
            "made_distance": np.append(rng.gamma(9, 0.3, 50), np.nan),
            "held_out_distance": rng.gamma(9, 0.3, 40),
        },
        "blinded": {
            "real": _films(rng, 6, 16, 16),
            "made": _films(rng, 4, 16, 16),
            **{f"{kind}_name": np.array([f"{kind} {i}" for i in range(n)]) for kind, n in (("real", 6), ("made", 4))},
            **{f"{kind}_finding": np.array(["Mass"] * n) for kind, n in (("real", 6), ("made", 4))},
        },
    }


def rows() -> list[dict[str, Any]]:
    rng, out = np.random.default_rng(1), []
    for step in range(20, 401, 20):
        losses = {f"loss_{side}": rng.uniform(0.1, 1.0) for side in ("g", "d16", "d32", "d128")}
        out.append({"phase": "gan", "step": step, "loss": sum(losses.values()), **losses})
        if step % 100 == 0:
            alike = {f"{k}/{name}": rng.random() for name in FINDINGS for k in ("ms_ssim", "ms_ssim_films")}
            out.append({"phase": "gan", "step": step, "eval": "val", "collapsed": 0.0, **alike})
            out.append({"phase": "features", "step": step, "loss": 0.1})
    return out


def make(workdir: Path, baseline: bool = True, net: str = "cgan") -> Path:
    """A workdir of a `net`, with a baseline beside it or without."""
    (workdir / "synthesis").mkdir(parents=True)
    for name, arrays in files(baseline).items():
        np.savez(workdir / "synthesis" / f"{name}.npz", **arrays)
    (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows())))
    manifest = {"name": "synthesis <1>", "config": {"study": {"name": "synthesis"}, "gan": {"net": {"name": net}}}}
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    (workdir / "results.json").write_text(json.dumps({"headline": "FID 12."}))
    return workdir
