"""The masks of a treatment study's arms, from a classifier's map or from the residual of a uniform pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cxrjax.data import lungs
from cxrjax.ops import cam
from cxrjax.studies import judges
from cxrjax.studies.arms import Mask
from cxrjax.studies.chunks import in_chunks
from cxrjax.types import Array, PyTree, UserError


def of_heat(mask: Mask, heat: Array, size: tuple[int, int]) -> Array:
    """A map (b, h', w') -> the mask (b, h, w, 1) that an arm asks for; its lungs are left to the caller."""
    threshold = mask.threshold if mask.hard else None
    return cam.to_mask(heat, size, blur_std=mask.blur, power=mask.power, floor=mask.floor, threshold=threshold)


def renewed(mask: Mask, widens: bool, judge: judges.Judge, lung: Array, image: Array, old: Array) -> Array:
    """The mask of an estimated film (b, h, w, 1), within `lung` (b, h, w, 1).

    With `widens` it is added to the old one (b, h, w, 1); else it takes its place, and what leaves the mask is the
    patient's own film again, lesion and all.
    """
    size = (image.shape[1], image.shape[2])
    new = of_heat(mask, judges.heat(judge, mask.source, mask.target, image), size) * lung
    return jnp.maximum(old, new) if widens else new


def lung_fields(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lungs of films (n, h, w, 1) as float32, 1 everywhere where none were found, and whether they were (n,)."""
    found, sure = lungs.lungs(image[..., 0])
    return found[..., None].astype(np.float32), sure


def base(shared: Any, study: Any) -> np.ndarray:
    """The soft map (n, h, w) of `study.guidance` by the CAM phase: every arm is judged in and out of it."""
    g = study.guidance.to_dict()
    source = g["source"] if g["source"] in judges.SOURCES else "gradcam"
    mask = Mask(**{key: g[key] for key in Mask._fields if key in g} | {
        "phase": study.cam_phase, "hard": False, "lungs": False, "power": 1.0, "floor": 0.0, "source": source,
    })  # fmt: skip
    return make((mask,), shared.looking, shared.image, _no_residual, shared.mesh, shared.batch)[mask][..., 0]


def _no_residual(lam: int) -> np.ndarray:
    raise AssertionError(f"no pass to {lam} is needed")


def make(
    wanted: tuple[Mask, ...],
    looking: Mapping[str, judges.Judge],
    image: np.ndarray,
    residual: Callable[[int], np.ndarray],
    mesh: Mesh,
    batch: int,
    fields: np.ndarray | None = None,
) -> dict[Mask, np.ndarray]:
    """Every mask (n, h, w, 1) float32 of films (n, h, w, 1) in [0, 1].

    Args:
      wanted: each once.
      looking: the classifiers, by phase.
      image: the films.
      residual: `lambda -> |x - x'|` (n, h, w) of a uniform pass.
      mesh: every device.
      batch: films at once.
      fields: the lungs (n, h, w, 1); they are looked for where a mask wants them and None is given.

    Raises:
      UserError: a map is not finite.
    """
    size = image.shape[1:3]
    if fields is None and any(mask.lungs for mask in wanted):
        fields = lung_fields(image)[0]
    heats: dict[tuple[str, str, str], np.ndarray] = {}
    out = {}
    for mask in wanted:
        if mask.source == "anomaly":
            heat = residual(mask.anomaly_lambda)
        else:
            key = (mask.phase, mask.source, mask.target)
            if key not in heats:
                heats[key] = in_chunks(mesh, batch, _heat(looking[mask.phase], mask.source, mask.target), image)
            heat = heats[key]
        made = np.asarray(jax.jit(partial(of_heat, mask, size=size))(jnp.asarray(heat)))
        if not np.isfinite(made).all():
            bad = np.flatnonzero(~np.isfinite(made).all(axis=(1, 2, 3)))
            raise UserError(
                f"the map of {mask.phase} ({mask.source}) is not finite on {len(bad)} of {len(made)} films, the first "
                f"at {bad[0]}: look for a diverged classifier or a film that is not finite"
            )
        out[mask] = made * fields if mask.lungs and fields is not None else made
    return out


def _heat(judge: judges.Judge, source: str, target: str) -> Callable[[Array], Array]:
    @jax.jit
    def heat(variables: PyTree, image: Array) -> Array:
        return judges.heat(judge._replace(variables=variables), source, target, image)

    return partial(heat, judge.variables)
