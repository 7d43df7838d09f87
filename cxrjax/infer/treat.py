"""One arm of treatment as one compiled program: what rows must share to run together, everything else being data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.infer import diffusion, masks
from cxrjax.infer.arms import Arm, Mask
from cxrjax.infer.classifier import Classifier
from cxrjax.infer.diffusion import Diffusion
from cxrjax.ops import guidance
from cxrjax.types import Array, PyTree


class Program(NamedTuple):
    """What rows must share to run together; everything else of them is data."""

    diffusion: str
    sampler: guidance.Sampler
    by_pixel: bool
    pool: str
    paste: bool
    every: int
    widens: bool
    renewed: Mask | None


def program_of(arm: Arm) -> Program:
    """An arm's program."""
    return Program(
        arm.diffusion, arm.sampler._replace(stride=0), arm.mode == "per_pixel_time", arm.pool, arm.paste, arm.every,
        arm.widens, arm.mask if arm.every else None,
    )  # fmt: skip


def compiled(
    program: Program, diffusions: Mapping[str, Diffusion], classifiers: Mapping[str, Classifier]
) -> Callable[..., Array]:
    """`(films, masks, lungs, lambdas, strides, modes, key data) -> treated films`, by rows, in one program.

    Args:
      program: of the rows.
      diffusions, classifiers: the trained networks, by phase.
    """
    trained = diffusions[program.diffusion]
    seeing = classifiers[program.renewed.phase] if program.renewed else None

    @jax.jit
    def walk(
        variables: PyTree, seen: PyTree, image: Array, mask: Array, lung: Array, lam: Array, stride: Array, mode: Array,
        keys: Array,
    ) -> Array:  # fmt: skip
        remask = None
        if program.renewed and seeing is not None:
            remask = partial(masks.renewed, program.renewed, program.widens, seeing._replace(variables=seen), lung)
        return diffusion.treat(
            trained._replace(variables=variables), image, mask, lam, jax.random.wrap_key_data(keys),
            mode="per_pixel_time" if program.by_pixel else mode, sampler=program.sampler._replace(stride=stride),
            pool=program.pool, paste=program.paste, remask=remask, every=program.every,
        )  # fmt: skip

    return partial(walk, trained.variables, seeing.variables if seeing else ())


class Rows(NamedTuple):
    """What `compiled` takes, a row a film of an arm at a lambda.

    Attributes:
      image, mask, lung: (b, h, w, 1) in [0, 1].
      lam, stride, mode: (b,) int32.
      keys: (b, ...) PRNG key data.
    """

    image: np.ndarray
    mask: np.ndarray
    lung: np.ndarray
    lam: np.ndarray
    stride: np.ndarray
    mode: np.ndarray
    keys: np.ndarray


def keys_of(seed: int, n: int) -> np.ndarray:
    """Key data of n films: a film's is the same among more films."""
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(n))
    return np.asarray(jax.random.key_data(keys))


def lungs_for(program: Program, image: np.ndarray) -> np.ndarray:
    """The lungs (n, h, w, 1) where the program renews a mask within them; ones where it does not."""
    if program.renewed and program.renewed.lungs:
        return masks.lung_fields(image)[0]
    return np.ones_like(image)
