"""The types that every room shares: `Batch`, `State`, `Task`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

Array = jax.Array
Key = jax.Array
PyTree = Any
Scalars = dict[str, jax.Array]
Rows = dict[str, np.ndarray]
Arrays = dict[str, np.ndarray]
Results = dict[str, Any]


@flax.struct.dataclass
class Batch:
    """A batch of films.

    Attributes:
      image: (b, h, w, 1) float32 in [0, 1].
      label: (b, k) float32; 1 present, 0 absent, NaN unknown.
      valid: (b,) float32; 1 for a film, 0 for a row of padding.
      index: (b,) int32; the film's position in its split.
    """

    image: Any
    label: Any
    valid: Any
    index: Any

    @classmethod
    def blank(cls, films: int, size: int, classes: int, channels: int = 1) -> Batch:
        """Black films of a run's shape, on the host: what `Task.init` is shown."""
        return cls(
            np.zeros((films, size, size, channels), np.float32), np.zeros((films, classes), np.float32),
            np.ones(films, np.float32), np.zeros(films, np.int32),
        )  # fmt: skip


@flax.struct.dataclass
class State:
    """Everything that a phase changes, arrays only.

    `params`, `stats` and `opt` are dicts by network (`net`, or `unet`, or `g` and `d64`), so that one checkpoint layer
    serves every task.

    Attributes:
      step: () int32, optimizer steps done.
      params: trained parameters, by network.
      stats: what a forward pass changes and a gradient does not: BatchNorm statistics, spectral-norm vectors.
      opt: optimizer states, by network.
      ema: exponential moving averages of `params`, by network; empty where a task keeps none.
      frozen: weights that are read and never changed.
      evals: what an evaluation changes: the best metric so far, a plateau's counters.
    """

    step: Any
    params: dict[str, PyTree]
    stats: dict[str, PyTree]
    opt: dict[str, PyTree]
    ema: dict[str, PyTree]
    frozen: dict[str, PyTree]
    evals: dict[str, Any]


class Task(NamedTuple):
    """One algebra: how a state begins, steps, predicts, and what an evaluation makes of the rows.

    Attributes:
      init: `(key, batch) -> State`; `batch` gives shapes.
      step: `(state, batch, key) -> (State, scalars)`; pure, jitted and donated by the loop.
      predict: `(state, batch, key) -> rows`, arrays of leading size b; pure, jitted by the loop. All batches of a split
        get the same key: what is drawn for a film folds in its `index`.
      summarize: `rows -> {name: float}`, on the host, over all valid rows of a split.
      on_eval: `(state, summary) -> State`, on the host.
    """

    init: Callable[[Key, Batch], State]
    step: Callable[[State, Batch, Key], tuple[State, Scalars]]
    predict: Callable[[State, Batch, Key], dict[str, Array]]
    summarize: Callable[[Rows], dict[str, float]]
    on_eval: Callable[[State, Mapping[str, float]], State]
