"""What a run asks of a study: the face that each folder of studies shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cxrjax.data import Prepared
from cxrjax.phases.context import Context
from cxrjax.phases.members import Member
from cxrjax.types import Results


def _nothing(context: Context, member: Member) -> None:
    """Keeps nothing of a member."""


class Study(NamedTuple):
    """What a run asks of a study.

    Attributes:
      check: `config`; refuses what cannot work, before films are prepared.
      check_films: `(config, films) -> notes`; refuses films that will not do, before any training.
      run: `context -> results`.
      after: `(context, member)`, when a member of a phase is trained: what is kept of it is written.
      external: `(config, outside) -> notes`, of the prepared sets of `data.external` by name; refuses those that will
        not do, before any training. None where the study reads no films from elsewhere.
      by_boxes: whether boxes decide what it keeps between two starts, so that other boxes are another run.
    """

    check: Callable[[Any], None]
    check_films: Callable[[Any, Prepared], list[str]]
    run: Callable[[Context], Results]
    after: Callable[[Context, Member], None] = _nothing
    external: Callable[[Any, dict[str, Prepared]], list[str]] | None = None
    by_boxes: bool = False
