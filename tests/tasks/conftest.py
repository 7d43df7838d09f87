"""What trials of whole runs share: a stream that can be killed, and a loop that compiles fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import pytest


class Stream:
    """Batches by position; at `stop_at` it raises, as a kill would."""

    def __init__(self, batch: Callable[..., Any], stop_at: int | None = None) -> None:
        self.batch, self.position, self.stop_at = batch, 0, stop_at

    def __next__(self) -> Any:
        if self.position == self.stop_at:
            raise KeyboardInterrupt
        self.position += 1
        return self.batch(seed=self.position)

    def get_state(self) -> dict[str, int]:
        return {"position": self.position}

    def set_state(self, state: dict[str, int]) -> None:
        self.position = state["position"]

    def close(self) -> None:
        pass


@pytest.fixture
def stream() -> type[Stream]:
    """The class: `stream(batch, stop_at)`, where `batch(seed=...)` makes one."""
    return Stream


@pytest.fixture
def quick():
    """The loop's own programs compiled without most optimizations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
