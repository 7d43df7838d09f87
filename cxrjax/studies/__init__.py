"""What a paper's table or figure needs after training, by name: `context -> results`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cxrjax.studies import treatment

STUDIES: dict[str, Callable[[Any], dict[str, Any]]] = {"progress": treatment.run}
