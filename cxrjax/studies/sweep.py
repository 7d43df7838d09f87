"""Treats films at every lambda under every mode; each result is a file at once, so that a kill costs one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from cxrjax.ops import cam, diffusion, guidance
from cxrjax.tasks import classify, ddpm
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, PyTree, State, UserError


class Judge(NamedTuple):
    """A classifier that says how normal a film looks.

    Attributes:
      net: the network.
      variables: its weights and statistics.
      normal: the column of the class Normal.
      disease: the column that the map should explain.
    """

    net: nn.Module
    variables: PyTree
    normal: int
    disease: int


def check_judge(config: Any, classes: tuple[str, ...]) -> None:
    """Raises UserError unless a classification phase tells Normal from exactly one other class."""
    if config.task != "classify" or len(classes) != 2 or "Normal" not in classes or config.loss != "softmax":
        raise UserError(
            f"the progress study needs classifiers of two exclusive classes, one of them 'Normal' (loss softmax); "
            f"data.classes is {classes}, a judge's task {config.task!r}"
        )


def judge_of(config: Any, state: State, classes: tuple[str, ...]) -> Judge:
    """A judge from a finished classification phase."""
    check_judge(config, classes)
    normal = classes.index("Normal")
    net = classify.network(config, len(classes))
    return Judge(net, {"params": state.params["net"], **state.stats["net"]}, normal, 1 - normal)


def normal_probability(net: nn.Module, normal: int, variables: PyTree, image: Array) -> Array:
    """(b, h, w, 1) in [0, 1] -> (b,), the softmax share of Normal."""
    logits, _ = net.apply(variables, classify.normalize(image), train=False)
    return jax.nn.softmax(logits, axis=-1)[:, normal]


def heat(judge: Judge, source: str, target: str, image: Array) -> Array:
    """The map of the disease score, (b, h', w'), non-negative.

    Args:
      judge: the network to explain.
      source: `gradcam`, or `cam` where the head is a pool and one linear layer.
      target: `difference` explains y_disease - y_normal: with two logits the disease score alone ignores a shift of
        both; `class` explains y_disease.
      image: (b, h, w, 1) in [0, 1].

    Raises:
      UserError: `cam` of a head with hidden layers.
    """
    net, variables, normal, disease = judge
    _, endpoints = net.apply(variables, classify.normalize(image), train=False)

    def head(features: Array) -> Array:
        logits: Any = net.apply(variables, features, method="head_from")
        return logits

    def score(logits: Array) -> Array:
        return logits[:, disease] - (logits[:, normal] if target == "difference" else 0.0)

    if source == "gradcam":
        return cam.grad_cam(endpoints["features"], head, score)
    if "map" not in endpoints:
        raise UserError("study.guidance.source = 'cam' needs a head without hidden layers; use 'gradcam', or hidden=()")
    maps = endpoints["map"]  # (b, h', w', classes), the linear layer at every position
    maps = maps.astype(jnp.float32)
    return jax.nn.relu(score(maps.reshape(-1, maps.shape[-1]))).reshape(maps.shape[:3])


def masks(config: Any, judge: Judge, image: Array) -> tuple[Array, Array]:
    """The soft and the thresholded mask, both (b, h, w, 1), from one heat map.

    Args:
      config: `study.guidance`: `source`, `target`, `blur`, `power`, `floor`, `threshold`.
    """
    maps = heat(judge, config.source, config.target, image)
    size = (image.shape[1], image.shape[2])
    soft = cam.to_mask(maps, size, blur_std=config.blur, power=config.power, floor=config.floor)
    hard = cam.to_mask(maps, size, blur_std=config.blur, threshold=config.threshold)
    return soft, hard


def base_mode(mode: str) -> tuple[str, bool]:
    """`time_gated_hard` -> (`time_gated`, True): the sampler's mode, and whether the mask is thresholded."""
    return mode.removesuffix("_hard"), mode.endswith("_hard")


def in_chunks(mesh: Mesh, size: int, function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """Applies a jitted function to rows `size` at a time, the last chunk padded by its first row; one compilation.

    Every process holds all rows, hands its share to its devices, and gets the whole answer back.
    """
    size = meshes.whole_batch(mesh, size)
    share = size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    parts = []
    for start in range(0, len(arrays[0]), size):
        chunk = [a[start : start + size] for a in arrays]
        real = len(chunk[0])
        padded = [np.concatenate([c, np.repeat(c[:1], size - real, axis=0)]) for c in chunk]
        out = function(*meshes.put(mesh, tuple(p[mine] for p in padded)))
        if jax.process_count() > 1:
            out = multihost_utils.process_allgather(out, tiled=True)
        parts.append(jax.tree.map(lambda x, n=real: np.asarray(x)[:n], out))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed .npz whole or not at all, by the first process; the others wait for it."""
    if jax.process_index() == 0:
        _write(path, arrays)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(str(path))


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.partial")
    with partial_path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial_path.replace(path)


def run(
    config: Any,
    *,
    image: np.ndarray,
    unet: tuple[nn.Module, diffusion.Schedule, diffusion.Prediction, PyTree],
    judges: Mapping[str, Judge],
    workdir: Path,
    mesh: Mesh,
    seed: int,
    log: logs.Log,
) -> None:
    """Writes `progress/<mode>_<lambda>.npz` with `image` (n, h, w) and `normal_probability_<judge>` (n,).

    Args:
      config: `study`: `modes`, `lambdas`, `batch`, `guidance`, `sampler`.
      image: (n, h, w, 1) films in [0, 1].
      unet: network, schedule, prediction and the weights that sample.
      judges: `cam_network` makes the masks; every judge scores every result.
    """
    net, schedule, prediction, weights = unet
    weights = meshes.replicate(mesh, weights)
    judges = {k: j._replace(variables=meshes.replicate(mesh, j.variables)) for k, j in judges.items()}
    options = config.sampler

    film_keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(len(image)))
    keys = np.asarray(jax.random.key_data(film_keys))

    @jax.jit
    def make_masks(variables: PyTree, x: Array) -> tuple[Array, Array]:
        return masks(config.guidance, judges["cam_network"]._replace(variables=variables), x)

    soft, hard = in_chunks(mesh, config.batch, partial(make_masks, judges["cam_network"].variables), image)

    @partial(jax.jit, static_argnames="mode")
    def treat(mode: str, weights: PyTree, lam: Array, image: Array, mask: Array, keys: Array) -> Array:
        return guidance.treat(
            ddpm.noise_predictor(net, schedule, prediction, weights),
            schedule,
            image,
            mask,
            lam,
            jax.random.wrap_key_data(keys),
            mode=mode,  # type: ignore[arg-type]
            stride=options.stride,
            sampler=options.name,
            variance=options.variance,
            eta=options.eta,
            clip=options.clip,
            resamples=options.resamples,
        )

    score = {k: jax.jit(partial(normal_probability, j.net, j.normal)) for k, j in judges.items()}

    def finish(path: Path, treated: np.ndarray) -> None:
        normal = {
            f"normal_probability_{k}": in_chunks(mesh, config.batch, partial(score[k], j.variables), treated)
            for k, j in judges.items()
        }
        write_arrays(path, image=treated[..., 0], **normal)

    folder = workdir / "progress"
    finish(folder / "untreated.npz", image)
    write_arrays(folder / "masks.npz", soft=soft[..., 0], hard=hard[..., 0])
    pairs = [(mode, lam) for mode in config.modes for lam in config.lambdas]
    with logs.progress(log.console) as bar:
        task_id = bar.add_task("progress", total=len(pairs), note="")
        for mode, lam in pairs:
            path = folder / f"{mode}_{lam:04d}.npz"
            bar.update(task_id, note=f"{mode}, lambda {lam}")
            if not path.exists():
                base, thresholded = base_mode(mode)
                mask = hard if thresholded else soft
                uniform = folder / f"uniform_{lam:04d}.npz"
                if base == "mask_blend" and uniform.exists():  # the same walk, pasted: no need to walk again
                    treated = np.asarray(
                        guidance.blend(
                            jnp.asarray(image), jnp.asarray(np.load(uniform)["image"][..., None]), jnp.asarray(mask)
                        )
                    )
                else:
                    walk = partial(treat, base, weights, jnp.int32(lam))
                    treated = in_chunks(mesh, config.batch, walk, image, mask, keys)
                finish(path, treated)
            bar.advance(task_id)
