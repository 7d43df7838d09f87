"""The one train loop. It knows a task only by its type, and waits for the device only to evaluate and to save."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cxrjax import stop
from cxrjax.errors import UserError
from cxrjax.stop import Preempted as Preempted
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes
from cxrjax.train import optim, processes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch, Key, Rows, State, Task


class Stream(Protocol):
    """An endless iterator of local batches whose position is a small JSON value."""

    def __next__(self) -> Batch: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Phase(NamedTuple):
    """How long to train and how often to look up.

    Attributes:
      name: its folder and its label in the log.
      steps: optimizer steps.
      log_every: steps averaged into one log line.
      eval_every: steps between evaluations; 0 evaluates only at the end.
      save_every: steps between checkpoints; the last step is always saved.
      select: `last`, or `best` to end with the best evaluated step.
      metric: name and direction (`max` or `min`) of what `best` means.
    """

    name: str
    steps: int
    log_every: int = 20
    eval_every: int = 0
    save_every: int = 100
    select: str = "last"
    metric: tuple[str, str] = ("loss", "min")


class Diverged(UserError):
    """Every step of a logging window was not finite, or of the last of a phase, which may be shorter."""

    by_all = True  # every process raises it


Running = dict[str, metrics.Average]


def keys(key: Key) -> tuple[Key, Key, Key]:
    """A phase's key, split: that of its fresh state, of its steps and of its evaluations."""
    init, steps, evals = jax.random.split(key, 3)
    return init, steps, evals


def advance(
    step: Callable[[State, Batch, Key], tuple[State, dict[str, jax.Array]]],
    state: State,
    running: Running,
    batch: Batch,
    root: Key,
) -> tuple[State, Running]:
    """One optimizer step and its share of the running averages.

    The key is `fold_in(root, state.step)`, so that a resumed run is the same run. A step that is not `optim.sound`
    changes nothing but the counter, and is counted as skipped.
    """
    new, scalars = step(state, batch, jax.random.fold_in(root, state.step))
    finite = optim.sound(new, scalars)
    # A branch, and no choice leaf by leaf: fused into each of them, the test took minutes to compile.
    kept = jax.lax.cond(finite, lambda: new, lambda: state).replace(step=new.step)
    values = {k: jnp.where(finite, v, 0.0) for k, v in scalars.items()}
    now = {k: metrics.Average.from_model_output(values=v[None], mask=finite[None]) for k, v in values.items()}
    now["skipped"] = metrics.Average.from_model_output(values=1.0 - finite[None])
    return kept, {k: running[k].merge(now[k]) for k in now}


class Programs(NamedTuple):
    """A task's jitted functions on one placement of its state."""

    init: Callable[[Key, Batch], State]
    copy: Callable[[State], State]
    run: Callable[[State, Running, Batch, Key], tuple[State, Running]]
    predict: Callable[[State, Batch, Key], dict[str, jax.Array]]


# Phases that share a Task, such as the cells of a grid, share its compilations. Few are kept, for their memory.
@lru_cache(maxsize=8)
def programs(task: Task, mesh: Mesh, structure: Any, leaves: tuple[NamedSharding, ...]) -> Programs:
    """The jitted functions of `task` whose state is placed by the pytree of shardings `(structure, leaves)`."""
    shardings, everywhere = jax.tree.unflatten(structure, leaves), NamedSharding(mesh, PartitionSpec())
    return Programs(
        init=jax.jit(task.init, out_shardings=shardings),
        copy=jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=shardings),
        run=jax.jit(partial(advance, task.step), donate_argnums=(0,), out_shardings=(shardings, everywhere)),
        predict=jax.jit(task.predict),
    )


def evaluate(
    predict: Callable[[State, Batch, Key], dict[str, jax.Array]],
    state: State,
    batches: Iterable[Batch],
    mesh: Mesh,
    key: Key,
) -> Rows:
    """Runs `predict` over a split and returns the valid rows, each film once, in the order of its index.

    Every batch gets the same key: a task folds in the films' indices, so that rows do not depend on the batches.
    """
    parts: list[dict[str, np.ndarray]] = []
    for local in batches:
        batch = meshes.put(mesh, local)
        rows = {**predict(state, batch, key), "index": batch.index, "valid": batch.valid}
        parts.append(processes.rows(rows))
    whole = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    valid = whole.pop("valid") > 0
    order = np.argsort(whole["index"][valid], kind="stable")
    return {k: v[valid][order] for k, v in whole.items()}


class _BrokenOff(Exception):
    """An evaluation that a signal ended; it is owed."""


def fit(
    task: Task,
    phase: Phase,
    *,
    stream: Stream,
    evals: Callable[[], Iterator[Batch]] | None,
    example: Batch,
    workdir: Path,
    mesh: Mesh,
    key: Key,
    log: logs.Log,
    shardings: Callable[[Mesh, Any], Any] = meshes.state_shardings,
    carry: Callable[[State], State] | None = None,
) -> State:
    """Trains a phase to its end, from wherever its checkpoints left it; also past the end that a shorter one had.

    Called again with the same `task` object, it compiles nothing anew.

    Args:
      task: the algebra.
      phase: how long, how often.
      stream: training batches; its position is part of every checkpoint.
      evals: makes an iterator over the validation part; None evaluates nothing.
      example: a batch of the right shapes, for initialization.
      workdir: checkpoints go to `workdir/checkpoints/<phase>`.
      mesh: every device.
      key: the phase's root key.
      log: where scalars go.
      shardings: places a state on the mesh, as `mesh.state_shardings` does.
      carry: takes a fresh state and brings weights of an earlier phase into it.

    Raises:
      Preempted: after a signal to any of the processes, saved.
      Diverged: a whole logging window was not finite, or the last, of two steps or more or the phase's only one.
      UserError: the checkpoints do not fit this configuration.
    """
    init_key, root, eval_key = keys(key)
    abstract = jax.eval_shape(task.init, init_key, example)
    placed = shardings(mesh, abstract)
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, placed)
    root, eval_key = meshes.replicate(mesh, (root, eval_key))
    leaves, structure = jax.tree.flatten(placed)
    jitted = programs(task, mesh, structure, tuple(leaves))

    if phase.select not in ("last", "best"):
        raise UserError(f"{phase.name}.select = {phase.select!r}: expected last or best")
    best = phase.metric if phase.select == "best" else None
    if best and evals is None:
        raise UserError(f"{phase.name}.select = 'best', but there is no validation part to choose by; use 'last'")
    vote = processes.Vote()
    try:
        with Checkpoints(workdir / "checkpoints" / phase.name, best=best) as checkpoints:
            restored = checkpoints.restore(target)
            if restored and restored.done and restored.step >= phase.steps:  # else it was a shorter phase's end
                return _best(checkpoints, target, log) if best else restored.state
            if restored:
                state, position = restored.state, restored.position
                stream.set_state(position)
                log.say(f"{phase.name}: resuming at step {restored.step} of {phase.steps}")
            else:
                state = jitted.init(init_key, example)
                if carry:  # copied: the first step is donated this state, and the earlier phase's must live on
                    state = jitted.copy(carry(state))
            first, owed = (restored.step, restored.owed) if restored else (0, False)
            log.rewind(phase.name, first)

            shapes = jax.eval_shape(task.step, target, meshes.put(mesh, example), root)[1]
            # Placed like the outputs that follow it: the second step would compile anew otherwise.
            blank: Running = meshes.replicate(mesh, {k: metrics.Average.empty() for k in (*shapes, "skipped")})
            running, late = blank, None
            lost, patience = 0, min(phase.log_every, phase.steps - first)  # steps of windows that were skipped whole
            begun = restored.window.get("running", {}) if restored else {}  # what the next line of the log averages
            if restored and begun.keys() == blank.keys():
                kept = {k: metrics.Average(*map(jnp.asarray, pair)) for k, pair in begun.items()}
                running = meshes.replicate(mesh, jax.tree.map(lambda x, b: x.astype(b.dtype), kept, dict(blank)))
                lost = restored.window["lost"]

            def report(at: int, averages: Running, indices: np.ndarray) -> str:
                nonlocal lost
                found, count = jax.device_get(
                    ({k: v.compute() for k, v in averages.items()}, averages["skipped"].count)
                )
                scalars = {k: float(v) for k, v in found.items()}
                log.goodput.mark("trained")
                lost = lost + int(count) if scalars["skipped"] == 1.0 else 0
                # At the end two steps suffice: no later window tells. One may be its batch's fault.
                if lost >= (min(patience, 2) if at == phase.steps else patience):
                    raise Diverged(
                        f"{phase.name}: no finite loss and update in the {lost} steps up to step {at} (last batch: "
                        f"films {indices.tolist()}); lower {phase.name}.optim.lr and give a new --workdir"
                    )
                log.write(phase.name, at, scalars)
                return f"loss {scalars['loss']:.4f}"

            def unbroken(batches: Iterable[Batch]) -> Iterator[Batch]:
                for batch in batches:
                    if vote(stop.asked()):
                        raise _BrokenOff
                    yield batch

            with logs.progress(log.console) as bar, contextlib.ExitStack() as worth_saving:
                task_id = bar.add_task(phase.name, total=phase.steps, completed=first, note="")
                log.goodput.begin()
                for done in range(first + (not owed), phase.steps + 1):
                    if done > first:  # else the evaluation that a signal broke off comes first
                        local = next(stream)
                        log.goodput.mark("read" if state.step.is_ready() else "trained")
                        state, running = jitted.run(state, running, meshes.put(mesh, local), root)
                    if done == first + 1:  # compiled: the rate counts from here
                        worth_saving.enter_context(stop.saving())
                        bar.update(task_id, completed=done)
                    if late:  # read only now, while the step just sent is running; of others none knows if it is done
                        bar.update(task_id, note=report(*late), completed=late[0])
                        late = None
                    last, halt = done == phase.steps, vote(stop.asked())
                    summary: dict[str, float] = {}
                    if done > first and (done % phase.log_every == 0 or last):
                        late, running = (done, running, np.asarray(local.index)), blank
                    owed = bool(evals and (last or (phase.eval_every and done % phase.eval_every == 0)))
                    if evals and owed and not halt:
                        jax.block_until_ready(state)
                        log.goodput.mark("trained")
                        try:
                            rows = evaluate(jitted.predict, state, unbroken(evals()), mesh, eval_key)
                        except _BrokenOff:
                            halt = True
                        else:
                            owed, summary = False, task.summarize(rows)
                            state = meshes.place(task.on_eval(state, summary), placed)
                            log.write(phase.name, done, summary, split="val")
                        log.goodput.mark("evaluated")
                    if last or halt or done % phase.save_every == 0 or (best and summary):
                        if late:
                            bar.update(task_id, note=report(*late), completed=late[0])
                            late = None
                        averages = {k: [float(v.total), int(v.count)] for k, v in jax.device_get(running).items()}
                        window = {"running": averages, "lost": lost}
                        log.goodput.mark("trained")
                        checkpoints.save(
                            done, state, stream.get_state(), summary, done=last and not owed, window=window, owed=owed
                        )
                        log.goodput.mark("saved")
                        log.goodput.keep()
                    if halt:
                        checkpoints.wait()
                        raise Preempted(f"{phase.name}: stopped by a signal at step {done}; the same command goes on")
                checkpoints.wait()
                log.goodput.mark("saved")
            return _best(checkpoints, target, log) if best else state
    finally:
        stream.close()


def _best(checkpoints: Checkpoints, target: State, log: logs.Log) -> State:
    found = checkpoints.restore_best(target)
    if found.note:
        log.warn(found.note)
    return found.state
