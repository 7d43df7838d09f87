"""Checkpoints that can be trusted: locked, whole, digested, restored onto any mesh. The one file that knows Orbax.

A folder holds one phase: `<step>/state` (arrays, Orbax), `<step>/meta` (JSON: position, metrics, leaves, its own hash),
`<step>.old` while that step is being replaced, `<step>.damaged` for a newer step that a restore had to pass over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from cxrjax.train.digest import digest_of, is_key, kind_of, named_leaves, stored_form
from cxrjax.types import State, UserError

log = logging.getLogger(__name__)

_DIGEST = "digest"  # beside the leaves, whose names begin with "state/"
_META_VERSION = 1


class Restored(NamedTuple):
    """What `Checkpoints.restore` found: the state on the target's shardings, and what was saved beside it."""

    step: int
    state: State
    position: dict[str, Any]
    metrics: dict[str, float]
    done: bool


class _Damaged(Exception):
    """One step cannot be used; the message says why."""


def _sealed(body: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(body, sort_keys=True)
    return {"body": json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _agree(ok: bool) -> bool:
    """True when `ok` is true on every process, so that all of them take the same branch."""
    if jax.process_count() == 1:
        return ok
    return bool(np.min(multihost_utils.process_allgather(np.asarray(ok))))


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


@dataclasses.dataclass
class _NewestAndBest:
    """Orbax preservation policy. Its own `BestN` counts steps without a metric and sorts NaN anywhere."""

    keep: int
    scores: dict[int, float]

    def best(self, steps: Iterable[int]) -> int | None:
        """The step of the highest score; of equal ones the earliest."""
        scored = [s for s in steps if s in self.scores]
        return max(scored, key=lambda s: (self.scores[s], -s), default=None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [info.step for info in checkpoints]
        kept = {*sorted(steps)[-self.keep :], self.best(steps)}
        return [s in kept for s in steps]


class Checkpoints:
    """The checkpoints of one phase, as a context manager; while it is open no other run may use the folder.

    Args:
      directory: the phase's folder, made if absent; on storage shared by all processes.
      keep: how many of the newest steps stay.
      best: `(metric, "max" or "min")`; the best step by this metric stays too. NaN and absent metrics never win.

    Raises:
      UserError: the folder cannot be written, or another run holds it.
    """

    def __init__(self, directory: Path, *, keep: int = 2, best: tuple[str, str] | None = None) -> None:
        if keep < 1 or (best is not None and best[1] not in ("max", "min")):
            raise ValueError(f"keep={keep} must be at least 1, and best={best} must be (metric, 'max' or 'min')")
        self.directory = Path(directory).absolute()
        self._best = best
        self._policy = _NewestAndBest(keep, {})
        self._lock = filelock.FileLock(self.directory / ".lock", timeout=0)
        self._closed = False
        self._acquire()
        try:
            self._manager = self._open()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except UserError as late:
            if error is None:
                raise
            log.error("%s", late)  # the error on its way out says more

    # ------------------------------------------------------------------ save

    def save(
        self,
        step: int,
        state: State,
        position: dict[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        done: bool = False,
    ) -> None:
        """Start to save a step; returns once the state is copied, so it may be donated at once.

        The newest step may be saved again: the old copy goes only after the new one is whole.

        Args:
          step: optimizer steps done; not below the newest step saved.
          state: arrays only.
          position: the data iterator's state; anything JSON holds.
          metrics: floats by name; None keeps those of the step that this save replaces.
          done: whether the phase ends here.

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
            metrics = self._metrics(step)
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        score = self._score(metrics)
        if self._best is not None and metrics and score is None and self._best[0] not in metrics:
            raise UserError(
                f"{self.directory}: the best checkpoint is chosen by {self._best[0]!r}, but the metrics given are "
                f"{sorted(metrics)}; name one of these"
            )
        leaves = {name: x if isinstance(x, jax.Array) else np.asarray(jnp.asarray(x))
                  for name, x in named_leaves(state).items()}  # fmt: skip
        stored = stored_form(leaves)
        digest = digest_of(stored)  # saved as an array beside the leaves, so that nothing waits for it here
        body = {
            "version": _META_VERSION,
            "step": step,
            "done": done,
            "position": position,
            "metrics": metrics,
            "leaves": {name: kind_of(x) for name, x in leaves.items()},
        }
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave({**{f"state/{k}": x for k, x in stored.items()}, _DIGEST: digest}),
            meta=ocp.args.JsonSave(_sealed(body)),
        )
        if step in steps:
            self._move(step, "old")
        self._policy.scores.pop(step, None)
        if score is not None:
            self._policy.scores[step] = score
        try:
            self._manager.save(step, args=args, force=True)
        except Exception as error:
            self._fail(error)

    def wait(self) -> None:
        """Return when the save in progress is whole on disk.

        Raises:
          UserError: it could not be written (a full disk, a lost mount); older steps are as they were.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._fail(error)
        self._mend()

    def close(self) -> None:
        """Finish the save in progress and give the folder back. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self.wait()
        finally:
            self._manager.close()
            self._lock.release()

    # --------------------------------------------------------------- restore

    def steps(self) -> list[int]:
        """Steps in the folder, ascending; being there does not mean being whole."""
        return sorted(self._manager.all_steps())

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
            except _Damaged as error:
                log.warning("checkpoint %s is damaged: %s", self.directory / str(step), error)
                damaged[step] = str(error)
                continue
            for bad in damaged:
                self._policy.scores.pop(bad, None)
                self._move(bad, "damaged")
            if damaged:
                log.warning("resuming from %s instead", self.directory / str(step))
            return restored
        if damaged:
            reasons = "; ".join(f"step {step}: {why}" for step, why in damaged.items())
            raise UserError(
                f"{self.directory}: no checkpoint can be read ({reasons}); "
                "restore the folder from a copy, or remove it to start anew"
            )
        return None

    def restore_best(self, target: State) -> Restored:
        """The best step by the metric named at construction.

        Raises:
          UserError: no step has that metric, the best one is damaged, or another configuration wrote it.
        """
        if self._best is None:
            raise ValueError("restore_best needs Checkpoints(..., best=(metric, 'max' or 'min'))")
        self.wait()
        step = self._policy.best(self.steps())
        if step is None:
            raise UserError(
                f"{self.directory}: no checkpoint has a finite metric {self._best[0]!r}; evaluate, then save"
            )
        try:
            return self._read(step, target)
        except _Damaged as error:
            raise UserError(
                f"{self.directory / str(step)}: the best checkpoint by {self._best[0]!r} is damaged ({error}); "
                "restore that folder from a copy, or remove it to use the next best"
            ) from error

    def _read(self, step: int, target: State) -> Restored:
        wanted = named_leaves(target)
        body, problem = None, ""
        try:
            body = self._meta(step)
        except _Damaged as error:
            problem = str(error)
        if not _agree(body is not None) or body is None:
            raise _Damaged(problem or "another process cannot read its meta file")
        self._compare(step, body["leaves"], wanted)
        state = None
        try:
            state = self._arrays(step, wanted)
        except _Damaged as error:
            problem = str(error)
        if not _agree(state is not None) or state is None:
            raise _Damaged(problem or "another process cannot read its arrays")
        tree = jax.tree.unflatten(jax.tree.structure(target), [state[name] for name in wanted])
        return Restored(step, tree, body["position"], body["metrics"], body["done"])

    def _meta(self, step: int) -> dict[str, Any]:
        try:
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            body = meta["body"]
            whole = _sealed(body)["sha256"] == meta["sha256"]
        except Exception as error:
            raise _Damaged(f"meta cannot be read ({_brief(error)})") from error
        if not whole or body["step"] != step:
            raise _Damaged("meta does not match its own hash or its step")
        if body["version"] != _META_VERSION:
            raise UserError(
                f"{self.directory / str(step)}: checkpoint format {body['version']}, this release reads "
                f"{_META_VERSION}; use the release that wrote it"
            )
        return body

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

    def _arrays(self, step: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Leaves by name on the target's shardings, verified against the digest."""
        default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        sharding = {name: getattr(leaf, "sharding", None) or default for name, leaf in wanted.items()}
        raw = {
            name: jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
            if is_key(leaf)
            else leaf
            for name, leaf in wanted.items()
        }
        names = sorted(name for name, leaf in wanted.items() if math.prod(leaf.shape))
        item: dict[str, Any] = {f"state/{n}": jax.ShapeDtypeStruct(raw[n].shape, raw[n].dtype) for n in names}
        how: dict[str, Any] = {
            f"state/{n}": ocp.ArrayRestoreArgs(
                sharding=sharding[n], global_shape=tuple(raw[n].shape), dtype=raw[n].dtype, strict=True
            )
            for n in names
        }
        item[_DIGEST] = np.zeros(len(names), np.uint32)
        how[_DIGEST] = ocp.RestoreArgs(restore_type=np.ndarray)
        try:
            args = ocp.args.Composite(state=ocp.args.PyTreeRestore(item=item, restore_args=how))
            read = self._manager.restore(step, args=args)["state"]
            saved = np.asarray(read.pop(_DIGEST))
            arrays = {n: read[f"state/{n}"] for n in names}
            actual = np.asarray(digest_of(arrays))
        except Exception as error:
            raise _Damaged(f"arrays cannot be read ({_brief(error)})") from error
        for name, a, b in zip(names, saved, actual, strict=True):
            if a != b:
                raise _Damaged(f"{name} has changed on disk: digest {b:08x}, saved as {a:08x}")
        for name, leaf in raw.items():
            if name not in arrays:
                arrays[name] = jnp.zeros(leaf.shape, leaf.dtype, device=sharding[name])
            if is_key(wanted[name]):
                impl = jax.random.key_impl(jnp.empty(0, wanted[name].dtype))
                arrays[name] = jax.random.wrap_key_data(arrays[name], impl=impl)
        return arrays

    # ---------------------------------------------------------------- folder

    def _acquire(self) -> None:
        problem = ""
        if jax.process_index() == 0:
            owner = self.directory / ".lock.owner"  # a file of its own: asking for a lock empties the lock file
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            except filelock.Timeout:
                who = owner.read_text() if owner.exists() else "another process"
                problem = f"{self.directory}: in use by {who}; stop that run, or use a new --workdir"
            except OSError as error:
                self._lock.release()
                problem = f"{self.directory}: cannot be written ({_brief(error)}); use a --workdir that can"
        if not _agree(not problem):
            self._lock.release()
            raise UserError(problem or f"{self.directory}: process 0 could not lock it; its log says why")

    def _open(self) -> ocp.CheckpointManager:
        self._mend()
        options = ocp.CheckpointManagerOptions(preservation_policy=self._policy, save_root_metadata=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))
        scores = {step: self._score(self._metrics(step)) for step in self._manager.all_steps()}
        self._policy.scores.clear()
        self._policy.scores.update({step: score for step, score in scores.items() if score is not None})
        return self._manager

    def _mend(self) -> None:
        """Drop torn saves; finish replacements: `<step>.old` goes when `<step>` is there, and comes back when not."""
        if jax.process_index() == 0:
            for torn in self.directory.glob("[0-9]*.orbax-checkpoint-tmp*"):  # Orbax's own cleaning returns too early
                shutil.rmtree(torn, ignore_errors=True)
            for old in self.directory.glob("[0-9]*.old"):
                if old.with_suffix("").exists():
                    shutil.rmtree(old)
                else:
                    old.rename(old.with_suffix(""))

    def _move(self, step: int, suffix: str) -> None:
        if jax.process_index() == 0:
            place = self.directory / f"{step}.{suffix}"
            shutil.rmtree(place, ignore_errors=True)
            (self.directory / str(step)).rename(place)
        _agree(True)  # a barrier
        self._manager.reload()

    def _fail(self, error: Exception) -> None:
        """Give the room of the torn save back, then say what happened."""
        free = shutil.disk_usage(self.directory).free
        try:
            self._manager.close()
        except Exception as again:  # the same error, told a second time
            log.debug("closing after a failed save: %s", again)
        self._manager = self._open()
        newest = f"step {self.steps()[-1]}" if self.steps() else "the start"
        raise UserError(
            f"{self.directory}: the checkpoint could not be written, {free:,} bytes are free there ({_brief(error)}); "
            f"make room or keep fewer checkpoints, then run the same command again: it resumes from {newest}"
        ) from error

    def _metrics(self, step: int) -> dict[str, float]:
        try:
            return self._meta(step)["metrics"]
        except _Damaged:
            return {}

    def _score(self, metrics: Mapping[str, float]) -> float | None:
        if self._best is None or not math.isfinite(metrics.get(self._best[0], math.nan)):
            return None
        return metrics[self._best[0]] * (1 if self._best[1] == "max" else -1)
