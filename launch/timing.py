"""How long calls take: medians over rounds in which variants take turns, so that other load falls on all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """What a case found of one variant.

    Attributes:
      variant: what ran.
      figure: the median over rounds; more is better where `unit` is a rate.
      unit: of `figure`.
      compile_seconds: how long its program took to compile; None where there is none.
    """

    variant: str
    figure: float
    unit: str
    compile_seconds: float | None = None


class Timed(NamedTuple):
    """One variant to be timed: `call` does `items` items and returns when they are done."""

    call: Callable[[], Any]
    items: float
    compile_seconds: float | None = None


def threads() -> int:
    """The cores that this process may use, as XLA counts them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rates(variants: dict[str, Timed], repeats: int, unit: str) -> list[Row]:
    """Items a second of each variant: one call each to warm up, then `repeats` rounds of one call each."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for done in range(repeats + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant.call()
            if done:
                seconds[name].append(time.perf_counter() - start)
    return [Row(n, v.items / statistics.median(seconds[n]), unit, v.compile_seconds) for n, v in variants.items()]


def compiled(function: Callable[..., Any], *inputs: Any) -> tuple[Callable[[], Any], float]:
    """A call of jitted `function` on `inputs` that waits for its result, and the seconds its compilation took."""
    import jax

    lowered = jax.jit(function).lower(*inputs)
    start = time.perf_counter()
    program = lowered.compile()
    took = time.perf_counter() - start
    return lambda: jax.block_until_ready(program(*inputs)), took
