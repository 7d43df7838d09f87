"""The masks of arms, from a classifier's map or from the residual of a uniform pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cxrjax.data import lungs
from cxrjax.errors import UserError
from cxrjax.infer import classifier
from cxrjax.infer.arms import Mask
from cxrjax.infer.batches import in_batches
from cxrjax.infer.classifier import Classifier
from cxrjax.ops import cam
from cxrjax.types import Array


def of_heat(mask: Mask, heat: Array, size: tuple[int, int]) -> Array:
    """A map (b, h', w') -> the mask (b, h, w, 1) that an arm asks for; its lungs are left to the caller."""
    threshold = mask.threshold if mask.hard else None
    return cam.to_mask(heat, size, blur_std=mask.blur, power=mask.power, floor=mask.floor, threshold=threshold)


def renewed(mask: Mask, widens: bool, seeing: Classifier, lung: Array, image: Array, old: Array) -> Array:
    """The mask of an estimated film (b, h, w, 1), within `lung` (b, h, w, 1).

    With `widens` it is added to the old one (b, h, w, 1); else it takes its place, and what leaves the mask is the
    patient's own film again, lesion and all.
    """
    size = (image.shape[1], image.shape[2])
    new = of_heat(mask, classifier.heat(seeing, mask.source, mask.target, image), size) * lung
    return jnp.maximum(old, new) if widens else new


def lung_fields(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lungs of films (n, h, w, 1) as float32, 1 everywhere where none were found, and whether they were (n,)."""
    found, sure = lungs.lungs(image[..., 0])
    return found[..., None].astype(np.float32), sure


def base(study: Any) -> Mask:
    """The soft map of `study.guidance` by the CAM phase: every arm is judged in and out of it."""
    g = study.guidance.to_dict()
    source = g["source"] if g["source"] in classifier.SOURCES else "gradcam"
    return Mask(**{key: g[key] for key in Mask._fields if key in g} | {
        "phase": study.cam_phase, "hard": False, "lungs": False, "power": 1.0, "floor": 0.0, "source": source,
    })  # fmt: skip


def make(
    wanted: tuple[Mask, ...],
    seeing: Mapping[str, Classifier],
    image: np.ndarray,
    mesh: Mesh,
    batch: int,
    residual: Callable[[int], np.ndarray] | None = None,
) -> dict[Mask, np.ndarray]:
    """Every mask (n, h, w, 1) float32 of films (n, h, w, 1) in [0, 1].

    Args:
      wanted: each once.
      seeing: the classifiers, by phase.
      image: the films.
      mesh: every device.
      batch: films at once.
      residual: `lambda -> |x - x'|` (n, h, w) of a uniform pass, for masks of source `anomaly`.

    Raises:
      UserError: a map is not finite.
    """
    size = image.shape[1:3]
    fields = lung_fields(image)[0] if any(mask.lungs for mask in wanted) else np.float32(1)
    heats: dict[tuple[str, str, str], np.ndarray] = {}
    out = {}
    for mask in wanted:
        if mask.source == "anomaly":
            assert residual is not None
            heat = residual(mask.anomaly_lambda)
        else:
            key = (mask.phase, mask.source, mask.target)
            if key not in heats:
                heats[key] = in_batches(
                    mesh, batch, seeing[mask.phase].compiled(partial(_heat, mask.source, mask.target)), image
                )
            heat = heats[key]
        mask_of = np.asarray(jax.jit(partial(of_heat, mask, size=size))(jnp.asarray(heat)))
        if not np.isfinite(mask_of).all():
            bad = np.flatnonzero(~np.isfinite(mask_of).all(axis=(1, 2, 3)))
            raise UserError(
                f"the map of {mask.phase} ({mask.source}) is not finite on {len(bad)} of {len(mask_of)} films, the "
                f"first at {bad[0]}: look for a diverged classifier or a film that is not finite"
            )
        out[mask] = mask_of * fields if mask.lungs else mask_of
    return out


def _heat(source: str, target: str, seeing: Classifier, image: Array) -> Array:
    return classifier.heat(seeing, source, target, image)
