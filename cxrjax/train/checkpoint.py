"""Checkpoints that can be trusted: locked, whole, digested, restored onto any mesh.

A folder holds one phase, step by step; how it lies on disk is the matter of `checkpoint_folder`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError
from cxrjax.train.checkpoint_folder import Damaged, Folder, NewestAndBest
from cxrjax.train.digest import kind_of, named_leaves, stored_form
from cxrjax.train.processes import agree
from cxrjax.types import State

log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What `Checkpoints.restore` found: the state on the target's shardings, and what was saved beside it."""

    step: int
    state: State
    position: dict[str, Any]
    metrics: dict[str, float]
    done: bool
    window: dict[str, Any]
    owed: bool
    note: str = ""


def _listed(damaged: Mapping[int, str]) -> str:
    return "; ".join(f"step {step}: {why}" for step, why in damaged.items())


class Checkpoints:
    """The checkpoints of one phase, as a context manager; while it is open no other run may use the folder.

    Args:
      directory: the phase's folder, made if absent; on storage shared by all processes.
      keep: how many of the newest steps stay.
      best: `(metric, "max" or "min")`; the best step by this metric stays too. NaN and absent metrics never win.
      read_only: of a finished run: nothing is written, locked or set aside, and others may read too.

    Raises:
      UserError: the folder cannot be written, or another run holds it.
    """

    def __init__(
        self, directory: Path, *, keep: int = 2, best: tuple[str, str] | None = None, read_only: bool = False
    ) -> None:
        if keep < 1 or (best is not None and best[1] not in ("max", "min")):
            raise ValueError(f"keep={keep} must be at least 1, and best={best} must be (metric, 'max' or 'min')")
        self.directory = Path(directory).absolute()
        self._best = best
        self._policy = NewestAndBest(keep, best)
        self._folder = Folder(self.directory, self._policy, read_only)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and jax.process_count() > 1 and not getattr(error, "by_all", False):
            self._folder.abandon()  # closing is for all together
            return
        try:
            self.close()
        except UserError as late:
            if error is None:
                raise
            log.error("%s", late)  # the error on its way out says more

    def save(
        self,
        step: int,
        state: State,
        position: dict[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        done: bool = False,
        window: Mapping[str, Any] | None = None,
        owed: bool = False,
    ) -> None:
        """Start to save a step; returns once the state is copied, so it may be donated at once.

        The newest step may be saved again: the old copy goes only after the new one is whole.

        Args:
          step: optimizer steps done; not below the newest step saved.
          state: arrays only.
          position: the data iterator's state; anything JSON holds.
          metrics: floats by name; None keeps those of the step that this save replaces.
          done: whether the phase ends here.
          window: of the log, what its next line is to average; anything JSON holds.
          owed: whether an evaluation at this step is still to come.

        Raises:
          UserError: this or the previous save could not be written, `step` goes backward, or the metric of `best` is
            missing.
        """
        self.wait()
        steps = self.steps()
        if steps and step < steps[-1]:
            raise UserError(
                f"{self.directory}: cannot save step {step}, the newest one there is {steps[-1]}; "
                "restore it first, or use a new --workdir"
            )
        if metrics is None and step in steps:
            metrics = self._folder.metrics(step)
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        if self._best is not None and metrics and self._best[0] not in metrics:
            raise UserError(
                f"{self.directory}: the best checkpoint is chosen by {self._best[0]!r}, but the metrics given are "
                f"{sorted(metrics)}; name one of these"
            )
        leaves = {name: x if isinstance(x, jax.Array) else np.asarray(jnp.asarray(x))
                  for name, x in named_leaves(state).items()}  # fmt: skip
        body = {
            "done": done,
            "window": dict(window or {}),
            "owed": owed,
            "position": position,
            "metrics": metrics,
            "leaves": {name: kind_of(x) for name, x in leaves.items()},
        }
        self._folder.write(step, stored_form(leaves), body)

    def wait(self) -> None:
        """Return when the save in progress is whole on disk.

        Raises:
          UserError: it could not be written (a full disk, a lost mount); older steps are as they were.
        """
        self._folder.wait()

    def close(self) -> None:
        """Finish the save in progress and give the folder back. Closing twice does nothing."""
        self._folder.close()

    def steps(self) -> list[int]:
        """Steps in the folder, ascending; being there does not mean being whole."""
        return self._folder.steps()

    def restore(self, target: State) -> Restored | None:
        """The newest good step, or None when the folder has no step.

        Newer steps that are damaged are logged and renamed `<step>.damaged`, so that training may pass them again.

        Args:
          target: a State of `jax.ShapeDtypeStruct` with shardings on any mesh (none: the first local device).

        Raises:
          UserError: every step is damaged, or the newest readable one was written by another configuration.
        """
        self.wait()
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                restored = self._read(step, target)
            except Damaged as error:
                log.warning("checkpoint %s is damaged: %s", self.directory / str(step), error)
                damaged[step] = str(error)
                continue
            for bad in damaged:
                self._folder.set_aside(bad)
            if damaged:
                log.warning("resuming from %s instead", self.directory / str(step))
            return restored
        if damaged:
            raise UserError(
                f"{self.directory}: no checkpoint can be read ({_listed(damaged)}); "
                "restore the folder from a copy, or remove it to start anew"
            )
        return None

    def restore_best(self, target: State) -> Restored:
        """The best step by the metric named at construction; where it is damaged, the next best, with a `note` of it.

        Raises:
          UserError: no step has that metric, all that have it are damaged, or another configuration wrote it.
        """
        if self._best is None:
            raise ValueError("restore_best needs Checkpoints(..., best=(metric, 'max' or 'min'))")
        self.wait()
        damaged: dict[int, str] = {}
        while (step := self._policy.best(set(self.steps()) - set(damaged))) is not None:
            try:
                restored = self._read(step, target)
            except Damaged as error:
                log.warning("checkpoint %s is damaged: %s", self.directory / str(step), error)
                damaged[step] = str(error)
                self._folder.set_aside(step)
                continue
            if not (aside := sorted({*self._folder.damaged(), *damaged})):
                return restored
            note = (
                f"{self.directory.name}: of the evaluated steps the best that can be read, {step}, is used; damaged: "
                f"{', '.join(map(str, aside))}."
            )
            return restored._replace(note=note)
        if damaged := dict.fromkeys(self._folder.damaged(), "set aside") | damaged:
            raise UserError(
                f"{self.directory}: every step with the metric {self._best[0]!r} is damaged ({_listed(damaged)}); "
                "restore the folder from a copy, or remove it to train the phase anew"
            )
        raise UserError(f"{self.directory}: no checkpoint has a finite metric {self._best[0]!r}; evaluate, then save")

    def _read(self, step: int, target: State) -> Restored:
        wanted = named_leaves(target)
        body, problem = None, ""
        try:
            body = self._folder.meta(step)
        except Damaged as error:
            problem = str(error)
        if not agree(body is not None) or body is None:
            raise Damaged(problem or "another process cannot read its meta file")
        self._compare(step, body["leaves"], wanted)
        state = None
        try:
            state = self._folder.arrays(step, wanted)
        except Damaged as error:
            problem = str(error)
        if not agree(state is not None) or state is None:
            raise Damaged(problem or "another process cannot read its arrays")
        tree = jax.tree.unflatten(jax.tree.structure(target), [state[name] for name in wanted])
        return Restored(
            step, tree, body["position"], body["metrics"], body["done"], body.get("window", {}), body.get("owed", False)
        )

    def _compare(self, step: int, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        expected = {name: kind_of(leaf) for name, leaf in wanted.items()}
        bad = [n for n in sorted({*found, *expected}) if found.get(n) != expected.get(n)]
        if bad:

            def say(kind: dict[str, Any] | None) -> str:
                return f"{kind['dtype']}{kind['shape']}" if kind else "nothing"

            name = bad[0]
            more = f" ({len(bad) - 1} more leaves differ)" if bad[1:] else ""
            raise UserError(
                f"{self.directory / str(step)}: {name}: expected {say(expected.get(name))}, "
                f"found {say(found.get(name))}{more}; this checkpoint was written by another configuration: "
                "use a new --workdir, or set the configuration back"
            )
