"""One phase's folder of checkpoints on disk: its lock, its repair, its steps. Orbax is known only here.

`<step>/state` holds the arrays and their digests (Orbax), `<step>/meta` a JSON body and the body's hash. `<step>.old`
is a step while it is being replaced, `<step>.damaged` a newer step that a restore had to pass over.
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
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from cxrjax import files
from cxrjax.errors import UserError
from cxrjax.train.digest import digest_of, is_key
from cxrjax.train.processes import agree, first, primary

log = logging.getLogger(__name__)

_DIGEST = "digest"  # beside the leaves, whose names begin with "state/"
_META_VERSION = 1


class Damaged(Exception):
    """One step cannot be used; the message says why."""


def _sealed(body: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(body, sort_keys=True)
    return {"body": json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


@dataclasses.dataclass
class NewestAndBest:
    """Orbax preservation policy. Its own `BestN` counts steps without a metric and sorts NaN anywhere.

    Attributes:
      keep: how many of the newest steps stay.
      metric: `(metric, "max" or "min")` whose best step stays too, or None.
      scores: by step, higher is better; only steps with a finite metric.
    """

    keep: int
    metric: tuple[str, str] | None
    scores: dict[int, float] = dataclasses.field(default_factory=dict)

    def learn(self, step: int, metrics: Mapping[str, float]) -> None:
        """Scores a step by its metrics; what was known of it is forgotten."""
        self.scores.pop(step, None)
        if self.metric is not None and math.isfinite(metrics.get(self.metric[0], math.nan)):
            self.scores[step] = metrics[self.metric[0]] * (1 if self.metric[1] == "max" else -1)

    def best(self, steps: Iterable[int]) -> int | None:
        """The step of the highest score; of equal ones the earliest."""
        scored = [s for s in steps if s in self.scores]
        return max(scored, key=lambda s: (self.scores[s], -s), default=None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [info.step for info in checkpoints]
        kept = {*sorted(steps)[-self.keep :], self.best(steps)}
        return [s in kept for s in steps]


class Folder:
    """A locked folder of steps. All processes call its methods together.

    Args:
      directory: made if absent; on storage shared by all processes.
      policy: which steps stay; told the metrics of every step found or written.
      read_only: several may read at once, from any storage; nothing is locked, mended or written.

    Raises:
      UserError: the folder cannot be written, or another run holds it.
    """

    def __init__(self, directory: Path, policy: NewestAndBest, read_only: bool = False) -> None:
        self.directory = directory
        self.read_only = read_only
        self._policy = policy
        self._lock = filelock.FileLock(directory / ".lock", timeout=0)
        self._closed = False
        if not read_only:
            self._acquire()
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Finishes the save in progress and gives the folder back. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self.wait()
        finally:
            self._manager.close()
            self._lock.release()

    def abandon(self) -> None:
        """Gives the folder back without a word to the other processes, which may be elsewhere."""
        self._closed = True
        self._lock.release()

    def steps(self) -> list[int]:
        """Steps in the folder, ascending, as the first process sees it; being there does not mean being whole."""
        return first(lambda: sorted(self._manager.all_steps()))

    def write(self, step: int, stored: Mapping[str, Any], body: dict[str, Any]) -> None:
        """Starts to write a step, in place of one that is there; returns once the arrays are copied.

        Args:
          step: not while another write is in progress.
          stored: arrays by name, none empty and no typed keys.
          body: what JSON holds; `metrics` in it is what the policy learns.

        Raises:
          UserError: it could not be written.
        """
        digest = digest_of(stored)  # saved as an array beside the leaves, so that nothing waits for it here
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave({**{f"state/{k}": x for k, x in stored.items()}, _DIGEST: digest}),
            meta=ocp.args.JsonSave(_sealed({"version": _META_VERSION, "step": step, **body})),
        )
        if step in self.steps():
            self._move(step, "old")
        self._policy.learn(step, body["metrics"])
        try:
            self._manager.save(step, args=args, force=True)
        except Exception as error:
            self._fail(error)

    def wait(self) -> None:
        """Returns when the write in progress is whole on disk.

        Raises:
          UserError: it could not be written (a full disk, a lost mount); older steps are as they were.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._fail(error)
        if not self.read_only:
            self._mend()

    def meta(self, step: int) -> dict[str, Any]:
        """The body written with a step.

        Raises:
          Damaged: it cannot be read, or is not what was written.
          UserError: another release wrote it.
        """
        try:
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            body = meta["body"]
            whole = _sealed(body)["sha256"] == meta["sha256"]
        except Exception as error:
            raise Damaged(f"meta cannot be read ({_brief(error)})") from error
        if not whole or body["step"] != step:
            raise Damaged("meta does not match its own hash or its step")
        if body["version"] != _META_VERSION:
            raise UserError(
                f"{self.directory / str(step)}: checkpoint format {body['version']}, this release reads "
                f"{_META_VERSION}; use the release that wrote it"
            )
        return body

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics written with a step; none when its meta is damaged."""
        try:
            return self.meta(step)["metrics"]
        except Damaged:
            return {}

    def arrays(self, step: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Leaves by name, verified against the digest, on the shardings of `wanted` (none: the first local device).

        Raises:
          Damaged: they cannot be read, or have changed on disk.
        """
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
            raise Damaged(f"arrays cannot be read ({_brief(error)})") from error
        for name, a, b in zip(names, saved, actual, strict=True):
            if a != b:
                raise Damaged(f"{name} has changed on disk: digest {b:08x}, saved as {a:08x}")
        for name, leaf in raw.items():
            if name not in arrays:
                arrays[name] = jnp.zeros(leaf.shape, leaf.dtype, device=sharding[name])
            if is_key(wanted[name]):
                impl = jax.random.key_impl(jnp.empty(0, wanted[name].dtype))
                arrays[name] = jax.random.wrap_key_data(arrays[name], impl=impl)
        return arrays

    def damaged(self) -> list[int]:
        """The steps that were set aside, ascending."""
        return first(lambda: sorted(int(p.name.partition(".")[0]) for p in self.directory.glob("[0-9]*.damaged")))

    def set_aside(self, step: int) -> None:
        """Renames a damaged step to `<step>.damaged`, so that training may pass it again."""
        self._policy.learn(step, {})
        if not self.read_only:
            self._move(step, "damaged")

    def _acquire(self) -> None:
        problem = ""
        if primary():
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
        if not agree(not problem):
            self._lock.release()
            raise UserError(problem or f"{self.directory}: process 0 could not lock it; its log says why")

    def _open(self) -> None:
        if self.read_only:  # Orbax's own option for it warns
            options = ocp.CheckpointManagerOptions(create=False, save_root_metadata=False)
        else:
            self._mend()
            options = ocp.CheckpointManagerOptions(preservation_policy=self._policy, save_root_metadata=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))
        found = {step: self.metrics(step) for step in self.steps()}
        self._policy.scores.clear()
        for step, metrics in found.items():
            self._policy.learn(step, metrics)

    def _mend(self) -> None:
        """Drop torn saves; finish replacements: `<step>.old` goes when `<step>` is there, and comes back when not."""
        if primary():
            for torn in self.directory.glob("[0-9]*.orbax-checkpoint-tmp*"):  # Orbax's own cleaning returns too early
                shutil.rmtree(torn, ignore_errors=True)
            for old in self.directory.glob("[0-9]*.old"):
                if old.with_suffix("").exists():
                    shutil.rmtree(old)
                else:
                    old.rename(old.with_suffix(""))
        agree(True)  # a barrier

    def _move(self, step: int, suffix: str) -> None:
        if primary():
            place = self.directory / f"{step}.{suffix}"
            shutil.rmtree(place, ignore_errors=True)
            (self.directory / str(step)).rename(place)
        agree(True)  # a barrier
        self._manager.reload()

    def _fail(self, error: Exception) -> None:
        """Give the room of the torn save back, then say what happened: a full disk, a lost mount, a fault of ours."""
        if not (told := files.told(error, self.directory)):
            raise error
        if jax.process_count() > 1:  # the others do not know of it yet: all end, and the next start mends
            raise told from error
        try:
            self._manager.close()
        except Exception as again:  # the same error, told a second time
            log.debug("closing after a failed save: %s", again)
        self._open()
        newest = f"step {self.steps()[-1]}" if self.steps() else "the start"
        raise UserError(f"{told}: the run resumes from {newest}") from error
