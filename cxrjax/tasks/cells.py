"""Trainings of one network that differ in learning rate and momentum alone: both are arrays in the optimizer's state.

One compiled step then serves every such cell of a grid, one after the other (`alone`) or all at once (`together`).
"""

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
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cxrjax.tasks import classify
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, Rows, Scalars, State, Task

# Every leaf of a stacked state has the cells first, but for the step, which they share.
CELLS = State(step=None, params=0, stats=0, opt=0, ema=0, frozen=0, evals=0)  # type: ignore[arg-type]
FIGURES = ("loss", "auroc", "accuracy")


class Cell(NamedTuple):
    """A point of the grid.

    Attributes:
      depth: the network's name.
      optimizer: `sgd`, `nag`, `adam` or `adamw`.
      lr: learning rate, positive.
      momentum: in [0, 1); beta1 of Adam.
    """

    depth: str
    optimizer: str
    lr: float
    momentum: float

    @property
    def pair(self) -> str:
        """The name of all cells that share a compilation."""
        return f"{self.depth}-{self.optimizer}"

    @property
    def name(self) -> str:
        """A name for files, as `resnet18-adam-lr0.001-m0.9`."""
        return f"{self.pair}-lr{self.lr:g}-m{self.momentum:g}"


def hyper_optimizer(config: Any, name: str, steps: int) -> optax.GradientTransformation:
    """`train.optim.make` with learning rate and momentum read from its state; `with_hyper` sets them.

    Args:
      config: as for `optim.make`; its `name`, `lr` and `b1` are not read.
      name: the optimizer.
      steps: of the whole training, for a schedule.
    """

    def build(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        chosen = config.copy_and_resolve_references()
        with chosen.ignore_type():
            chosen.update({"name": name, "lr": learning_rate, "b1": momentum})
        return optim.make(chosen, steps)

    return optax.inject_hyperparams(build, hyperparam_dtype=jnp.float32)(learning_rate=0.0, momentum=0.0)


def with_hyper(state: State, lr: Any, momentum: Any) -> State:
    """The state with another learning rate and momentum, () float32 each."""
    hyper = {"learning_rate": jnp.asarray(lr, jnp.float32), "momentum": jnp.asarray(momentum, jnp.float32)}
    return dataclasses.replace(state, opt={"net": state.opt["net"]._replace(hyperparams=hyper)})


def summarize(options: classify.Options, rows: Rows) -> dict[str, float]:
    """As `classify.summarize`; all NaN where a logit is not finite, since a cell may fail and the grid may not."""
    if not np.isfinite(rows["logits"]).all():
        return dict.fromkeys(FIGURES if options.exclusive else FIGURES[:2], float("nan"))
    return classify.summarize(options, rows)


def _keep(state: State, summary: Mapping[str, float]) -> State:
    del summary
    return state


def _parts(
    config: Any, num_classes: int, optimizer: str
) -> tuple[nn.Module, optax.GradientTransformation, classify.Options]:
    tx = hyper_optimizer(config.optim, optimizer, config.steps)
    return classify.network(config, num_classes), tx, classify.options_of(config)


def alone(config: Any, num_classes: int, optimizer: str) -> Task:
    """The task of one cell, the same object for all cells of a network and an optimizer.

    Its fresh state has learning rate 0: the loop's `carry` is to be `with_hyper`.
    """
    net, tx, options = _parts(config, num_classes, optimizer)
    return Task(
        init=partial(classify.init, net, tx, options),
        step=partial(classify.step, net, tx, options),
        predict=partial(classify.predict, net, options),
        summarize=partial(summarize, options),
        on_eval=_keep,
    )


def together(config: Any, num_classes: int, cells: Sequence[Cell], mesh: Mesh) -> Task:
    """The task of many cells of one network and one optimizer, whose stacked states see the same batches.

    Each begins with the weights that it would have alone. A cell whose loss or gradient is not finite skips the step.
    When it has skipped every step of a logging window (`log_every`), which is when the loop gives up one that trains
    alone, it is dead and keeps its last finite state for good.

    Args:
      config: a classification phase.
      num_classes: logits.
      cells: of one `pair`.
      mesh: its devices share the cells where their number divides; every device sees the whole batch.

    Returns:
      A task whose rows are `logits` (b, cells, k), `label` (b, k) and `dead` (b, cells), and whose summary has the
      figures of each cell as `NAME/loss`, and `NAME/diverged`.
    """
    net, tx, options = _parts(config, num_classes, cells[0].optimizer)
    return Task(
        init=partial(_init, net, tx, options, tuple(cells)),
        step=partial(_step, net, tx, options, mesh, config.log_every),
        predict=partial(_predict, net, options, mesh),
        summarize=partial(_summarize, options, tuple(cells)),
        on_eval=_keep,
    )


def _init(
    net: nn.Module,
    tx: optax.GradientTransformation,
    options: classify.Options,
    cells: Sequence[Cell],
    key: Key,
    batch: Batch,
) -> State:
    fresh = classify.init(net, tx, options, key, batch)
    fresh = dataclasses.replace(fresh, evals={**fresh.evals, "bad": jnp.int32(0), "dead": jnp.zeros((), bool)})
    lrs, momenta = (jnp.asarray([getattr(cell, field) for cell in cells], jnp.float32) for field in ("lr", "momentum"))
    return jax.vmap(partial(with_hyper, fresh), out_axes=CELLS)(lrs, momenta)


def _everywhere(mesh: Mesh, batch: Batch) -> Batch:
    """The batch on every device, once: the devices split the cells, not the films."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec()))


def _step(
    net: nn.Module,
    tx: optax.GradientTransformation,
    options: classify.Options,
    mesh: Mesh,
    window: int,
    state: State,
    batch: Batch,
    key: Key,
) -> tuple[State, Scalars]:
    """One optimizer step of every cell; the scalars are means over those that moved, and their share, `live`."""
    batch = _everywhere(mesh, batch)

    def one(state: State) -> tuple[State, Scalars, Array]:
        new, scalars = classify.step(net, tx, options, state, batch, key)
        finite = optim.sound(new, scalars)
        bad = jnp.where(finite, 0, state.evals["bad"] + 1).astype(jnp.int32)
        moved = finite & ~state.evals["dead"]
        kept = jax.tree.map(lambda a, b: jnp.where(moved, a, b), new, state)
        dead = state.evals["dead"] | ((new.step % window == 0) & (bad >= window))
        kept = dataclasses.replace(kept, step=new.step, evals={**kept.evals, "bad": bad, "dead": dead})
        return kept, {k: jnp.where(moved, v, 0.0) for k, v in scalars.items()}, moved

    state, scalars, moved = jax.vmap(one, in_axes=(CELLS,), out_axes=(CELLS, 0, 0))(state)
    count = jnp.maximum(moved.sum(), 1)
    return state, {k: v.sum() / count for k, v in scalars.items()} | {"live": moved.mean()}


def _predict(
    net: nn.Module, options: classify.Options, mesh: Mesh, state: State, batch: Batch, key: Key
) -> dict[str, Array]:
    batch = _everywhere(mesh, batch)

    def one(state: State) -> Array:
        return classify.predict(net, options, state, batch, key)["logits"]

    logits = jax.vmap(one, in_axes=(CELLS,), out_axes=1)(state)  # (b, cells, k)
    dead = jnp.broadcast_to(state.evals["dead"][None, :], logits.shape[:2])  # (b, cells)
    return {"logits": logits, "label": batch.label, "dead": dead}


def _summarize(options: classify.Options, cells: Sequence[Cell], rows: Rows) -> dict[str, float]:
    out: dict[str, float] = {}
    for i, cell in enumerate(cells):
        figures = summarize(options, {"logits": rows["logits"][:, i], "label": rows["label"]})
        figures["diverged"] = float(rows["dead"][0, i])
        out |= {f"{cell.name}/{key}": value for key, value in figures.items()}
    return out


def take(state: State, positions: Sequence[int]) -> State:
    """The stacked state of some of its cells."""

    @jax.jit  # arrays that several processes share cannot be indexed outside of it
    def pick(stacked: dict[str, Any]) -> dict[str, Any]:
        return jax.tree.map(lambda x: jnp.take(x, jnp.asarray(positions), axis=0), stacked)

    whole = {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "step"}
    return State(step=state.step, **pick(whole))
