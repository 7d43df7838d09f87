"""What a paper's table or figure needs after training, by name: `context -> results`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cxrjax.studies import treatment


class Study(NamedTuple):
    """`check(config)` refuses before any training; `run(context)` gives the results."""

    check: Callable[[Any], None]
    run: Callable[[Any], dict[str, Any]]


STUDIES: dict[str, Study] = {"progress": Study(treatment.check, treatment.run)}
