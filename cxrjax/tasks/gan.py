"""Conditional generative adversarial training: one generator, a discriminator for each scale, in alternation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxrjax import models
from cxrjax.errors import UserError, lookup
from cxrjax.nn.conv import halve
from cxrjax.ops import adversarial, conditions, ms_ssim
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task

RATIO_MODES = ("one_d_per_batch", "all_d_per_batch")
TAU_STEP = 0.1  # of the schedule (section 2 of the paper)


class Networks(NamedTuple):
    """The players and their optimizers; `d` and `tx` name a discriminator by its scale, as `d64`."""

    g: nn.Module
    d: dict[str, nn.Module]
    tx: dict[str, optax.GradientTransformation]


class Options(NamedTuple):
    """What a step needs beside the players.

    Attributes:
      classes: the conditions, the classes of a batch's labels.
      priority: a film of several findings is conditioned on the first of these.
      normal: `zero_vector`, `ninth_class` (a condition of its own) or `drop` (no such film is trained on).
      noise: width of the latent beside the condition.
      loss: a key of `adversarial.ADVERSARIAL`.
      ratio: discriminator updates for each of the generator's.
      ratio_mode: `one_d_per_batch`, the generator following at every `ratio`-th batch, or `all_d_per_batch`, all of
        them and the generator's on the same batch.
      together: a discriminator sees patients' films and made ones in one forward pass; with BatchNorm it must not.
      mismatched: films of patients under another film's condition count as made, for the head that sees conditions.
      tau_every: batches after which the attention's weight rises by 0.1; 0 keeps it at 0.
      ema: decay of the generator that samples, over its updates; 0 for the generator itself.
      collapse: the flag of mode collapse is up where a class's samples are more alike than its films by this much.
    """

    classes: tuple[str, ...]
    priority: tuple[str, ...] = conditions.PRIORITY
    normal: str = "zero_vector"
    noise: int = 92
    loss: str = "least_squares"
    ratio: int = 5
    ratio_mode: str = "one_d_per_batch"
    together: bool = True
    mismatched: bool = False
    tau_every: int = 0
    ema: float = 0.999
    collapse: float = 0.1

    @property
    def width(self) -> int:
        """Of the condition."""
        return len(self.classes) + (self.normal == "ninth_class")


def tau_of(options: Options, step: Array) -> Array:
    """The attention's weight: min(1, 0.1 floor(step / tau_every))."""
    if not options.tau_every:
        return jnp.float32(0)
    return jnp.minimum(1.0, TAU_STEP * (step // options.tau_every)).astype(jnp.float32)


def sampling_tau(options: Options, step: Array) -> Array:
    """The attention's weight after `step` batches, for samples: that under which the generator last moved."""
    every = options.ratio if options.ratio_mode == "one_d_per_batch" else 1
    return tau_of(options, jnp.maximum(step // every * every - 1, 0))


def condition_of(options: Options, label: Array) -> Array:
    """Labels (b, k) -> conditions (b, width), by the priority rule."""
    code = conditions.first_of(label, conditions.ranks(options.classes, options.priority))
    return conditions.with_normal(code) if options.normal == "ninth_class" else code


def pyramid(image: Array, sizes: Sequence[int]) -> tuple[Array, ...]:
    """Films (b, s, s, 1) in [0, 1] -> in [-1, 1] at every size, by area."""
    out = [2.0 * image - 1.0]
    while out[0].shape[1] > sizes[0]:
        out.insert(0, halve(out[0]))
    return tuple(out)


def generate(
    net: nn.Module, variables: PyTree, z: Array, c: Array, tau: Array, train: bool
) -> tuple[tuple[Array, ...], PyTree, dict[str, Array]]:
    """Films in [-1, 1] of every scale, the generator's statistics after them, and its endpoints."""
    if not train:
        films, endpoints = net.apply(variables, z, c, tau, train=False)
        return films, {}, endpoints  # type: ignore[return-value]
    (films, endpoints), stats = net.apply(variables, z, c, tau, train=True, mutable=["batch_stats"])
    return films, stats, endpoints


def discriminate(
    net: nn.Module, params: PyTree, stats: PyTree, pairs: Sequence[tuple[Array, Array]], together: bool, moves: bool
) -> tuple[list[tuple[Array, ...]], PyTree]:
    """The scores of every (films, conditions) by each head, and the statistics after them.

    Args:
      net: a discriminator.
      params: its parameters.
      stats: its statistics.
      pairs: films (b, s, s, 1) and conditions (b, k).
      together: one forward pass for all, so that the spectral vectors move once.
      moves: whether this is a forward pass of the discriminator's training.
    """
    train: dict[str, Any] = {} if together else {"train": True}  # BatchNorm: the batch's statistics in both updates
    kinds = list(stats) if moves or not together else False

    def once(x: Array, c: Array, stats: PyTree) -> tuple[tuple[Array, ...], PyTree]:
        out = net.apply({"params": params, **stats}, x, c, mutable=kinds, **train)
        ((scores, _), changed) = out if kinds else (out, stats)
        return scores, {**stats, **changed}

    if together:
        x, c = (jnp.concatenate(parts) for parts in zip(*pairs, strict=True))
        scores, stats = once(x, c, stats)
        split = [jnp.split(score, len(pairs)) for score in scores]
        return [tuple(parts) for parts in zip(*split, strict=True)], stats
    found = []
    for x, c in pairs:
        scores, changed = once(x, c, stats)
        stats = changed if moves else stats
        found.append(scores)
    return found, stats


def _discriminate(
    nets: Networks, options: Options, state: State, films: tuple[Array, ...], c: Array, valid: Array, key: Key
) -> tuple[State, Scalars]:
    """One update of every discriminator; the generator stays as it is, to the bit."""
    z = jax.random.normal(key, (c.shape[0], options.noise))
    made, _, _ = generate(
        nets.g, {"params": state.params["g"], **state.stats["g"]}, z, c, tau_of(options, state.step), True
    )
    loss = adversarial.ADVERSARIAL[options.loss]
    params, stats, opt, scalars = dict(state.params), dict(state.stats), dict(state.opt), {}
    fooled = jnp.float32(0)
    wrong = jnp.roll(c, 1, axis=0)  # the neighbor's condition
    other = valid * (wrong != c).any(axis=-1)
    for (name, net), x, s in zip(nets.d.items(), films, made, strict=True):

        def objective(p: PyTree, net: nn.Module = net, name: str = name, x: Array = x, s: Array = s) -> Any:
            pairs = [(x, c), (s, c), *([(x, wrong)] if options.mismatched else [])]
            scores, changed = discriminate(net, p, state.stats[name], pairs, options.together, True)
            total = sum(loss.real(score, valid) for score in scores[0]) + sum(
                loss.fake(score, valid) for score in scores[1]
            )
            if options.mismatched:
                total = total + loss.fake(scores[2][-1], other)
            return total, (changed, sum(loss.fool(score, valid) for score in scores[1]))

        (value, (stats[name], fool)), grads = jax.value_and_grad(objective, has_aux=True)(params[name])
        updates, opt[name] = nets.tx[name].update(grads, opt[name], params[name])
        params[name] = optax.apply_updates(params[name], updates)
        scalars[f"loss_{name}"] = value
        fooled = fooled + fool
    # The generator's loss under the discriminators as they were: known at every batch, at no cost.
    scalars |= {"loss": sum(scalars.values(), jnp.float32(0)), "loss_g": fooled}
    return dataclasses.replace(state, params=params, stats=stats, opt=opt), scalars


def _generate(nets: Networks, options: Options, state: State, c: Array, valid: Array, key: Key) -> State:
    """One update of the generator; the discriminators stay as they are, their spectral vectors too, to the bit."""
    z = jax.random.normal(key, (c.shape[0], options.noise))
    loss = adversarial.ADVERSARIAL[options.loss]

    def objective(p: PyTree) -> tuple[Array, PyTree]:
        made, stats, _ = generate(nets.g, {"params": p, **state.stats["g"]}, z, c, tau_of(options, state.step), True)
        total = jnp.float32(0)
        for (name, net), s in zip(nets.d.items(), made, strict=True):
            scores, _ = discriminate(net, state.params[name], state.stats[name], [(s, c)], options.together, False)
            total = total + sum(loss.fool(score, valid) for score in scores[0])
        return total, stats

    grads, stats = jax.grad(objective, has_aux=True)(state.params["g"])
    updates, opt = nets.tx["g"].update(grads, state.opt["g"], state.params["g"])
    moved = optax.apply_updates(state.params["g"], updates)
    ema = state.ema
    if options.ema:
        done = state.step // (options.ratio if options.ratio_mode == "one_d_per_batch" else 1)
        ema = {"g": optim.update_ema(state.ema["g"], {"params": moved, **stats}, done, options.ema)}
    return dataclasses.replace(
        state,
        params={**state.params, "g": moved},
        stats={**state.stats, "g": stats},
        opt={**state.opt, "g": opt},
        ema=ema,
    )


def step(nets: Networks, options: Options, state: State, batch: Batch, key: Key) -> tuple[State, Scalars]:
    """One batch: the discriminators' update or updates and, where it is its turn, the generator's (eqs 5 and 6)."""
    d_key, g_key = jax.random.split(key)
    c = condition_of(options, batch.label)
    sizes = sorted({int(name.removeprefix("d")) for name in nets.d})
    films = pyramid(batch.image, sizes)
    if options.ratio_mode == "all_d_per_batch":

        def one(state: State, key: Key) -> tuple[State, Scalars]:
            return _discriminate(nets, options, state, films, c, batch.valid, key)

        state, each = jax.lax.scan(one, state, jax.random.split(d_key, options.ratio))
        scalars = jax.tree.map(jnp.mean, each)
        state = _generate(nets, options, state, c, batch.valid, g_key)
    else:
        state, scalars = _discriminate(nets, options, state, films, c, batch.valid, d_key)
        follow = partial(_generate, nets, options, c=c, valid=batch.valid, key=g_key)
        turn = (state.step + 1) % options.ratio == 0
        state = follow(state) if options.ratio == 1 else jax.lax.cond(turn, follow, lambda state: state, state)
    return dataclasses.replace(state, step=state.step + 1), scalars


def variables_of(options: Options, state: State) -> PyTree:
    """The weights and statistics of the generator that samples."""
    return state.ema["g"] if options.ema else {"params": state.params["g"], **state.stats["g"]}


def sample(net: nn.Module, options: Options, state: State, z: Array, c: Array) -> tuple[Array, ...]:
    """Films in [0, 1], one (b, s, s, 1) a scale, from noise (b, noise) and conditions (b, width)."""
    films, _, _ = generate(net, variables_of(options, state), z, c, sampling_tau(options, state.step), False)
    return tuple(0.5 * (film + 1.0) for film in films)


def predict(nets: Networks, options: Options, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """Rows of how alike two samples of a film's condition are, and how alike it and another film of it.

    Returns:
      `made` and `real` (b,) multi-scale SSIM, the latter NaN where the batch has no other film of that condition, and
      `condition` (b,) int32, the position in `classes`, or their number for none.
    """
    c = condition_of(options, batch.label)
    own = [jax.vmap(partial(jax.random.fold_in, k))(batch.index) for k in jax.random.split(key)]  # in whatever batch
    latents = [jax.vmap(lambda k: jax.random.normal(k, (options.noise,)))(keys) for keys in own]
    one, two = (sample(nets.g, options, state, z, c)[-1] for z in latents)
    number = conditions.number(c[:, : len(options.classes)])
    b = c.shape[0]
    # The nearest later film of the same condition, around the end of the batch.
    ahead = (jnp.arange(b)[None, :] - jnp.arange(b)[:, None]) % b  # (b, b)
    same = (number[:, None] == number[None, :]) & (ahead > 0) & (batch.valid[None, :] > 0)
    partner = jnp.where(same, ahead, b).argmin(axis=1)
    alike = ms_ssim.ms_ssim(batch.image, batch.image[partner])
    return {
        "made": ms_ssim.ms_ssim(one, two),
        "real": jnp.where(same.any(axis=1), alike, jnp.nan),
        "condition": number,
    }


def summarize(options: Options, rows: Rows) -> dict[str, float]:
    """Mean MS-SSIM by class, of samples and of films, and `collapsed`, the number of classes with the flag up."""
    out: dict[str, float] = {}
    collapsed = 0
    for i, name in enumerate((*options.classes, conditions.NORMAL)):
        made, real = (rows[kind][rows["condition"] == i].astype(np.float64) for kind in ("made", "real"))
        real = real[np.isfinite(real)]
        if not len(made) or not len(real):
            continue
        out |= {f"ms_ssim/{name}": float(made.mean()), f"ms_ssim_films/{name}": float(real.mean())}
        collapsed += int(made.mean() > real.mean() + options.collapse)
    return out | {"collapsed": float(collapsed)}


def on_eval(state: State, summary: Mapping[str, float]) -> State:
    """Remembers in how many classes the flag of mode collapse was up last."""
    return dataclasses.replace(state, evals={"collapsed": jnp.float32(summary["collapsed"])})


def init(nets: Networks, options: Options, key: Key, batch: Batch) -> State:
    """A fresh state for films of the batch's shape."""
    keys = jax.random.split(key, 1 + len(nets.d))
    c = condition_of(options, jnp.asarray(batch.label))
    z = jnp.zeros((c.shape[0], options.noise))
    sizes = [int(name.removeprefix("d")) for name in nets.d]
    if batch.image.shape[1] != max(sizes):
        raise UserError(f"films of {batch.image.shape[1]} px for a largest scale of {max(sizes)}: set data.size or net")
    films = pyramid(jnp.asarray(batch.image), sizes)
    made = dict(nets.g.init(keys[0], z, c, jnp.float32(0), train=True))
    params, stats = {"g": made.pop("params")}, {"g": made}
    for (name, net), x, k in zip(nets.d.items(), films, keys[1:], strict=True):
        found = dict(net.init(k, x, c))
        params[name], stats[name] = found.pop("params"), found
    return State(
        step=jnp.int32(0),
        params=params,
        stats=stats,
        opt={name: nets.tx[name].init(params[name]) for name in params},
        ema={"g": jax.tree.map(jnp.copy, {"params": params["g"], **stats["g"]})} if options.ema else {},
        frozen={},
        evals={"collapsed": jnp.float32(0)},
    )


def options_of(config: Any, classes: Sequence[str]) -> Options:
    """A phase's options, from its keys of the same names.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    values = {name: config[name] for name in Options._fields if name in config}
    shared = {"classes": tuple(classes), "priority": tuple(config.priority), "together": config.net.name != "cdcgan"}
    options = Options(**{**values, **shared})
    lookup(adversarial.ADVERSARIAL, options.loss, "the adversarial loss")
    lookup(dict.fromkeys(RATIO_MODES), options.ratio_mode, "ratio_mode")
    lookup(dict.fromkeys(conditions.NORMALS), options.normal, "normal")
    conditions.ranks(options.classes, options.priority)
    if options.ratio < 1:
        raise UserError(
            f"ratio = {options.ratio}: expected at least 1 discriminator update for each of the generator's"
        )
    if config.latent <= options.width:
        raise UserError(f"latent = {config.latent}: expected more than the {options.width} of the condition in it")
    return options._replace(noise=config.latent - options.width)


def networks(config: Any) -> Networks:
    """The phase's players, `config.net.name` with the other keys of `config.net` as options, and their optimizers."""
    g, d = models.build_gan(**config.net)
    tx = {"g": optim.make(config.optim, config.steps)}
    return Networks(g, d, tx | {name: optim.make(config.optim_d, config.steps) for name in d})


def make(config: Any, classes: Sequence[str]) -> Task:
    """Binds a phase's configuration: `net`, `optim`, `optim_d`, `steps`, `latent`, and the fields of `Options`."""
    nets, options = networks(config), options_of(config, classes)
    return Task(
        init=partial(init, nets, options),
        step=partial(step, nets, options),
        predict=partial(predict, nets, options),
        summarize=partial(summarize, options),
        on_eval=on_eval,
    )
