"""One arm of treatment as one compiled program: what rows must share to run together, everything else being data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.infer import classifier, diffusion, masks
from cxrjax.infer.arms import Arm, Mask
from cxrjax.infer.classifier import Classifier
from cxrjax.infer.diffusion import Diffusion
from cxrjax.ops import guidance, sampling
from cxrjax.types import Array, PyTree


class Program(NamedTuple):
    """What rows must share to run together; everything else of them is data.

    Attributes:
      mode: of one that is a program of its own; "" where modes are data.
      options: what its arm sets of `guidance.options_of`.
      renewed: where a mask is made anew from.
      asked: the phase of the classifier that the walk asks, "" for none.
      diffusion, sampler, pool, paste, every, widens: as in `Arm`.
    """

    diffusion: str
    sampler: sampling.Sampler
    mode: str
    options: tuple[tuple[str, Any], ...]
    pool: str
    paste: bool
    every: int
    widens: bool
    renewed: Mask | None
    asked: str


def program_of(arm: Arm) -> Program:
    """An arm's program."""
    alone, asks = guidance.alone(arm.mode), arm.every or guidance.MODES[arm.mode].sees
    return Program(
        arm.diffusion, arm.sampler._replace(stride=0), alone, arm.options, arm.pool, arm.paste, arm.every, arm.widens,
        arm.mask if arm.every else None, arm.mask.phase if asks else "",
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
    if program.mode and guidance.MODES[program.mode].by_hand:
        return partial(_by_hand, program, trained.schedule.num_steps)
    seeing = classifiers[program.asked] if program.asked else None

    @jax.jit
    def walk(
        variables: PyTree, seen: PyTree, image: Array, mask: Array, lung: Array, lam: Array, stride: Array, mode: Array,
        keys: Array,
    ) -> Array:  # fmt: skip
        asked: dict[str, Any] = {}
        if seeing is not None:
            looking = seeing._replace(variables=seen)
            if program.renewed:
                asked["remask"] = partial(masks.renewed, program.renewed, program.widens, looking, lung)
            else:
                asked["loss"], asked["distance"] = classifier.asked(looking)
        return diffusion.treat(
            trained._replace(variables=variables), image, mask, lam, jax.random.wrap_key_data(keys),
            mode=program.mode or mode, sampler=program.sampler._replace(stride=stride), pool=program.pool,
            paste=program.paste, every=program.every, options=dict(program.options), **asked,
        )  # fmt: skip

    return partial(walk, trained.variables, seeing.variables if seeing else ())


def _by_hand(program: Program, num_steps: int, image: Array, mask: Array, lung: Array, lam: Array, *_: Array) -> Array:
    """Rows by a mode without a model: each device's on the host, in the process that has them."""

    def one(shards: tuple[Any, ...]) -> Array:
        films, where, lambdas = (np.asarray(shard.data) for shard in shards)
        treated = guidance.treat_by_hand(program.mode, films, where, lambdas / num_steps, **dict(program.options))
        return jax.device_put(treated, shards[0].device)

    parts = zip(*(rows.addressable_shards for rows in (image, mask, lam)), strict=True)
    return jax.make_array_from_single_device_arrays(image.shape, image.sharding, [one(part) for part in parts])


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
