"""What every phase and study of a run shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from cxrjax import console, data
from cxrjax.phases.bind import Bound
from cxrjax.train import log as logs
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import Array, Batch, Key, Rows, State, Task


@dataclass(frozen=True)
class Context:
    """What every phase and study of a run shares.

    Attributes:
      config: the run's; phases are bound to what they read of it, studies read the rest.
      films: prepared.
      phases: every phase, bound to the films.
      workdir: of the run.
      mesh: every device.
      key: the run's root key.
      log: where scalars and words go.
      states: of finished members, by name.
      found: what grid phases found, by name.
      external: films from elsewhere, prepared, by the name of their set; see `data.external`.
    """

    config: Any
    films: data.Prepared
    phases: Mapping[str, Bound]
    workdir: Path
    mesh: Mesh
    key: Key
    log: logs.Log
    states: dict[str, State]
    found: dict[str, dict[str, Any]]
    external: dict[str, data.Prepared] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the run's films."""
        return tuple(self.config.data.classes)

    @property
    def shard(self) -> tuple[int, int]:
        """This process's number and that of all: which block of a batch is its own."""
        return jax.process_index(), jax.process_count()

    def batches(self, split: str = "train", **options: Any) -> loop.Stream:
        """Training batches, this process's share; see `data.batches`."""
        return data.batches(self.films, split, **{"classes": self.classes, "shard": self.shard, **options})

    def eval_batches(self, split: str, size: int, **options: Any) -> Iterator[Batch]:
        """A split once, about `size` films a batch, this process's share; see `data.eval_batches`."""
        whole = meshes.whole_batch(self.mesh, size)
        return data.eval_batches(
            self.films, split, **{"classes": self.classes, "batch_size": whole, "shard": self.shard, **options}
        )

    def evaluate(
        self, predict: Callable[[State, Batch, Key], dict[str, Array]], state: State, split: str, size: int,
        **options: Any,
    ) -> Rows:  # fmt: skip
        """The rows that a jitted `predict` gives of a split's films, each once, in the order of their index; `options`
        as in `data.eval_batches`."""
        keep = options.get("keep")
        films = self.films.count(split) if keep is None else len(keep)
        batches = console.watched(
            self.eval_batches(split, size, **options), -(-films // meshes.whole_batch(self.mesh, size)),
            f"{split} films, batches", brief=True,
        )  # fmt: skip
        return loop.evaluate(predict, meshes.replicate(self.mesh, state), batches, self.mesh, self.key)

    def fit(self, task: Task, phase: loop.Phase, **options: Any) -> State:
        """`train.loop.fit` in this run's workdir, on its devices."""
        return loop.fit(task, phase, workdir=self.workdir, mesh=self.mesh, log=self.log, **options)
