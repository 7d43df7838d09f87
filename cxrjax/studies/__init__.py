"""What a paper's table or figure needs after training, by name: `context -> results`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cxrjax.studies import treatment


class Study(NamedTuple):
    """What a run asks of a study.

    Attributes:
      check: `config`; refuses what cannot work, before films are prepared.
      check_films: `(config, films) -> notes`; refuses films that will not do, before any training.
      run: `context -> results`.
    """

    check: Callable[[Any], None]
    check_films: Callable[[Any, Any], list[str]]
    run: Callable[[Any], dict[str, Any]]


STUDIES: dict[str, Study] = {"progress": Study(treatment.check, treatment.check_films, treatment.run)}
