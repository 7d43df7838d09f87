"""Trained diffusions that treat films: in the films' own space, or in the latents of an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cxrjax import models
from cxrjax.infer.classifier import NORMAL
from cxrjax.ops import diffusion, guidance, noise, sampling
from cxrjax.tasks import autoencoder, ddpm, latent
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, PyTree, State


class Diffusion(NamedTuple):
    """A diffusion phase that has ended; `variables` apart, everything is static.

    Attributes:
      net, schedule, prediction, time, noise: of the phase, see `tasks.ddpm`.
      variables: `unet`, the weights that sample; in latent space also `autoencoder` and `scale`.
      codec: the autoencoder; None where the diffusion is of films.
      classes: that it may be told; () of one that is told none.
    """

    net: nn.Module
    schedule: diffusion.Schedule
    prediction: diffusion.Prediction
    time: str
    noise: noise.Draw
    variables: PyTree
    codec: models.Autoencoder | None = None
    classes: tuple[str, ...] = ()

    @property
    def latents(self) -> tuple[models.Autoencoder, PyTree, Array]:
        """What `latent.to_latent` and `from_latent` take, where the diffusion is of latents."""
        assert self.codec is not None
        return self.codec, self.variables["autoencoder"], self.variables["scale"]


def of(config: Any, state: State, mesh: Mesh, classes: tuple[str, ...] = ()) -> Diffusion:
    """The diffusion of a finished phase of task `ddpm` or `latent_ddpm`; `classes` are those of its films."""
    variables: dict[str, Any] = {"unet": state.ema["unet"]}
    codec = None
    if config.task == "latent_ddpm":
        codec = autoencoder.network(config.autoencoder)
        variables |= {"autoencoder": state.frozen["autoencoder"], "scale": state.stats["latent"]["scale"]}
    return Diffusion(
        ddpm.network(config), ddpm.schedule_of(config), config.prediction, config.time, ddpm.noise_of(config),
        meshes.replicate(mesh, variables), codec, classes if config.net.get("told", 0) else (),
    )  # fmt: skip


def to_grid(mask: Array, side: int, pool: str) -> Array:
    """A mask (b, h, w, 1) on a latent grid of `side` columns.

    Args:
      pool: `max` keeps what is small; `mean` is the share of the square.
    """
    b, h, w, _ = mask.shape
    factor = w // side
    squares = mask.reshape(b, h // factor, factor, side, factor)
    return (squares.max(axis=(2, 4)) if pool == "max" else squares.mean(axis=(2, 4)))[..., None]


def treat(
    trained: Diffusion,
    image: Array,
    mask: Array,
    lam: Array,
    keys: Array,
    *,
    mode: Any,
    sampler: sampling.Sampler,
    pool: str = "max",
    paste: bool = False,
    remask: Callable[[Array, Array], Array] | None = None,
    every: int = 0,
    **own: Any,
) -> Array:
    """`guidance.treat` by a trained diffusion, which in latent space diffuses latents under the same modes.

    Args:
      trained: of films or of latents.
      image, mask, lam, keys, mode, sampler: as in `guidance.treat`; the noise is the diffusion's.
      pool: see `to_grid`.
      paste: known pixels are pasted back through the mask, since a decoder does not return them.
      remask: `(films, masks) -> masks`, all (b, h, w, 1) in [0, 1]; in latent space it is told the mask on the grid,
        enlarged.
      every: see `guidance.treat`.
      own: of a mode with a walk of its own, which is of films alone: `loss`, `distance` and `options`.

    Returns:
      (b, h, w, 1) in [0, 1]. A latent film is decoded even where nothing was treated, unless it is pasted.
    """
    variables = trained.variables
    sampler = sampler._replace(noise=trained.noise)
    told: Any = partial(
        ddpm.noise_predictor, trained.net, trained.schedule, trained.prediction, variables["unet"], trained.time
    )
    epsilon = told()
    if trained.codec is None:
        if NORMAL in trained.classes:
            normal = trained.classes.index(NORMAL)
            own["told"] = {"healthy": told(normal), "diseased": told(1 - normal)}
        return guidance.treat(
            epsilon, trained.schedule, image, mask, lam, keys, mode=mode, sampler=sampler, remask=remask, every=every,
            **own,
        )  # fmt: skip
    codec = trained.latents
    z = latent.to_latent(*codec, image)  # (b, h', w', c)
    side = z.shape[2]

    def renew(x: Array, small: Array) -> Array:
        assert remask is not None
        big = jax.image.resize(small, mask.shape, "nearest")
        return to_grid(remask(latent.from_latent(*codec, x), big), side, pool)

    x, _, _ = guidance.sample(
        epsilon, trained.schedule, z, to_grid(mask, side, pool), lam, keys, mode=mode, sampler=sampler,
        remask=renew if remask else None, every=every,
    )  # fmt: skip
    generated = latent.from_latent(*codec, x)
    pasted = guidance.blend(image, generated, mask)
    blends = jnp.asarray(paste) | guidance.trait(mode, "pastes", image)
    return jnp.where(blends, pasted, generated)


def round_trip(trained: Diffusion, image: Array) -> Array:
    """Films through the autoencoder and back: what latent space costs before anything is treated."""
    return latent.from_latent(*trained.latents, latent.to_latent(*trained.latents, image))
