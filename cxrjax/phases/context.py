"""What every phase and study of a run shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from cxrjax import data
from cxrjax.train import log as logs
from cxrjax.types import Key, State


class Context(NamedTuple):
    """What every phase and study of a run shares.

    Attributes:
      config: the run's.
      films: prepared.
      workdir: of the run.
      mesh: every device.
      key: the run's root key.
      log: where scalars and words go.
      states: of finished members, by name.
      found: what grid phases found, by name.
    """

    config: Any
    films: data.Prepared
    workdir: Path
    mesh: Mesh
    key: Key
    log: logs.Log
    states: dict[str, State]
    found: dict[str, dict[str, Any]]
