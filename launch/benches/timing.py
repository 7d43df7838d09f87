"""How long calls take: medians over rounds in which variants take turns, so that other load falls on all of them."""

from __future__ import annotations

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
      memory: bytes that its program holds at most, arguments and results among them; None where nobody counts them.
      work: floating-point operations a second; None where they were not counted.
      dtype: of its products.
    """

    variant: str
    figure: float
    unit: str
    compile_seconds: float | None = None
    memory: int | None = None
    work: float | None = None
    dtype: str = "float32"


class Timed(NamedTuple):
    """One variant to be timed: `call` does `items` items by `flops` operations, and returns when they are done."""

    call: Callable[[], Any]
    items: float
    compile_seconds: float | None = None
    memory: int | None = None
    flops: float | None = None
    dtype: str = "float32"


class Case(NamedTuple):
    """What can be measured under a name.

    Attributes:
      run: `(rounds, **options) -> rows`.
      says: one line.
      tiny: options of a dry run, of seconds.
      peer: "torch" where `run` takes `peer`, one of --peer's; "package" where a package is always beside, else "".
      options: which of `peer` and `dtype` `run` takes.
      card: too large for a processor; left out there unless it is named.
    """

    run: Callable[..., list[Row]]
    says: str
    tiny: dict[str, Any]
    peer: str = ""
    options: tuple[str, ...] = ()
    card: bool = False


def rates(variants: dict[str, Timed], repeats: int, unit: str) -> list[Row]:
    """Items a second of each variant: one call each to warm up, then `repeats` rounds of one call each."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for done in range(repeats + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant.call()
            if done:
                seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, v in variants.items():
        median = statistics.median(seconds[name])
        work = None if v.flops is None else v.flops / median
        rows.append(Row(name, v.items / median, unit, v.compile_seconds, v.memory, work, v.dtype))
    return rows


def compiled(
    function: Callable[..., Any], *inputs: Any, items: float, dtype: str = "float32", times: float = 1.0
) -> Timed:
    """A call of jitted `function` on `inputs` that waits for its result; a loop in it goes round `times` times."""
    program, timed = _program(function, inputs, (), items, dtype, times)

    def call() -> None:
        import jax

        jax.block_until_ready(program(*inputs))

    return timed._replace(call=call)


def stepped(
    function: Callable[..., Any], state: Any, *inputs: Any, items: float, dtype: str = "float32", calls: int = 1
) -> Timed:
    """`calls` calls of `function(state, *inputs) -> state`, each from the state that the last one left."""
    program, timed = _program(function, (state, *inputs), (0,), items, dtype, calls)
    held = [state]

    def call() -> None:
        import jax

        for _ in range(calls):
            held[0] = program(held[0], *inputs)
        jax.block_until_ready(held[0])

    return timed._replace(call=call)


def _program(
    function: Callable[..., Any], inputs: tuple[Any, ...], donated: tuple[int, ...], items: float, dtype: str,
    times: float,
) -> tuple[Callable[..., Any], Timed]:  # fmt: skip
    import jax

    traced = jax.jit(function, donate_argnums=donated).trace(*inputs)
    flops = _flops(traced)
    lowered = traced.lower()
    start = time.perf_counter()
    program = lowered.compile()
    took = time.perf_counter() - start
    found, memory = program.memory_analysis(), None
    if found is not None:
        held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        memory = held + found.temp_size_in_bytes
    return program, Timed(lambda: None, items, took, memory, None if flops is None else flops * times, dtype)


def _flops(traced: Any) -> float | None:
    """Of the program as a GPU gets it, before it is optimized: whatever forms a backend takes, the work is the same.

    A loop counts once.
    """
    found = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    found = found[0] if isinstance(found, list) else found
    return None if not found else found.get("flops")


def ceiling(dtype: str, side: int = 0) -> Timed:
    """A product of two square matrices, the fastest that a machine multiplies; of 1,024 rows, on a GPU of 8,192."""
    import jax
    import jax.numpy as jnp

    side = side or (1024 if jax.default_backend() == "cpu" else 8192)
    a, b = (jax.random.normal(key, (side, side), jnp.dtype(dtype)) for key in jax.random.split(jax.random.key(0)))
    return compiled(jnp.matmul, a, b, items=2 * side**3 / 1e9, dtype=dtype)
