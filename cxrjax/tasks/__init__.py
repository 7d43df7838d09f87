"""The tasks by name: `(phase config, classes) -> Task`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cxrjax.tasks import classify, ddpm, gan
from cxrjax.types import Task

TASKS: dict[str, Callable[[Any, Sequence[str]], Task]] = {
    "classify": lambda config, classes: classify.make(config, len(classes)),
    "ddpm": lambda config, classes: ddpm.make(config),
    "gan": gan.make,
}
