"""How torch runs what a case measures: eagerly and, where it can, compiled; on the card where jax is on one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import cores
import torch

from benches.timing import Timed

NAME = f"torch {torch.__version__.partition('+')[0]}"
Wrap = Callable[[Any], Any]


def device() -> torch.device:
    """The card where jax computes on one, else the processor, with as many threads as XLA takes."""
    import jax

    if jax.default_backend() == "gpu" and torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(cores.number())
    return torch.device("cpu")


def lower_precision(dtype: str) -> Any:
    """The context in which products are of `dtype`, parameters and sums being float32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=dtype == "bfloat16")


def timed(call: Callable[[], Any], items: float, dtype: str = "float32", flops: float | None = None) -> Timed:
    """A call that returns when the device is done, and the memory that it takes there; a processor's goes uncounted."""
    if device().type == "cpu":
        return Timed(call, items, flops=flops, dtype=dtype)

    def done() -> None:
        call()
        torch.cuda.synchronize()

    torch.cuda.reset_peak_memory_stats()
    done()
    return Timed(done, items, None, torch.cuda.max_memory_allocated(), flops, dtype)


def variants(
    words: str,
    build: Callable[[Wrap], Callable[[], Any]],
    items: float,
    dtype: str = "float32",
    flops: float | None = None,
    peer: str = "",
) -> dict[str, Timed]:
    """`build(wrap)`, a call whose networks are wrapped: as they are, and by `torch.compile` where `peer` is "torch".

    Where the compiler does not take them, the reason is printed and the variant missing.
    """
    out = {f"{NAME}{words}": timed(build(lambda net: net), items, dtype, flops)}
    if peer != "torch":
        return out
    start = time.perf_counter()
    try:
        call = build(torch.compile)
        call()
    except Exception as error:  # of whatever kind the compiler has
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        print(f"bench: {NAME}{words}, compiled: left out: {reason}", file=sys.stderr)
        return out
    took = time.perf_counter() - start
    out[f"{NAME}{words}, compiled"] = timed(call, items, dtype, flops)._replace(compile_seconds=took)
    return out


def check_count(theirs: int, ours: int) -> None:
    """Raises UserError where torch's network has not as many parameters as ours."""
    from cxrjax.errors import UserError

    if theirs != ours:
        raise UserError(f"torch's network has {theirs:,} parameters, ours {ours:,}: no comparison")


def count(*nets: torch.nn.Module) -> int:
    """Their parameters."""
    return sum(p.numel() for net in nets for p in net.parameters())
