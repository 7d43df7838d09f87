"""The tasks by name: `(phase config, number of classes) -> Task`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cxrjax.tasks import classify, ddpm
from cxrjax.types import Task

TASKS: dict[str, Callable[[Any, int], Task]] = {
    "classify": classify.make,
    "ddpm": lambda config, num_classes: ddpm.make(config),
}
