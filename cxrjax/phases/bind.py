"""A phase bound to a run's films: all that its training reads of the run's config, read once."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.infer.finished import classes_of
from cxrjax.phases import members
from cxrjax.phases.members import Member
from cxrjax.types import Batch


class Bound(NamedTuple):
    """A phase bound to films.

    Attributes:
      name: of the phase.
      config: its own section.
      classes: of the films, or those that it alone learns.
      part: of the films, that it trains on.
      field: what of the films it reads: see `members.field_of`.
      example: blank films as it reads them, one a device.
      members: its trainings.
      val: positions in the validation part that it sees; None for all.
      carried: whether a later phase goes on with its weights.
      seed: the run's.
    """

    name: str
    config: Any
    classes: tuple[str, ...]
    part: str
    field: str
    example: Batch
    members: tuple[Member, ...]
    val: np.ndarray | None
    carried: bool
    seed: int

    def seed_of(self, name: str) -> int:
        """A seed of its own for a name, stable over runs and Python's hash seed."""
        return zlib.crc32(f"{self.seed}/{name}".encode()) & 0x7FFFFFFF


def bind(config: Any, films: data.Prepared, devices: int) -> dict[str, Bound]:
    """Every phase of a run that trains, or whose states are taken from a finished run.

    Raises:
      UserError: a phase that would see no film.
    """
    out = {}
    for i, name in enumerate(config.phases):
        phase, later = config[name], config.phases[i + 1 :]
        if phase.get("run", ""):
            continue
        try:
            out[name] = Bound(
                name, phase, classes_of(config, name), members.part_of(config, name), members.field_of(config, name),
                members.example_of(config, name, devices), tuple(members.of(config, films, name)),
                None if phase.get("from_run", "") or not films.splits.get("val")
                else members.kept(config, films, "val", name),
                any(config[other].get("carry", "") == name for other in later), config.seed,
            )  # fmt: skip
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return out
