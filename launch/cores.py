"""A device a core: a batch is split over the cores of a CPU, which then wait for one another once a step.

Imports neither jax nor cxrjax.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

PATIENCE = 1800  # seconds; jax ends a process after 40 in which one device waits for another


def number() -> int:
    """The cores that this process may use, as XLA counts them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(batches: Iterable[int], cores: int) -> int:
    """The most of so many cores that all batches can be split over, into two films or more each."""
    sizes = list(batches)
    return max(n for n in range(1, max(cores, 1) + 1) if n == 1 or all(b % n == 0 and b >= 2 * n for b in sizes))


def split(batches: Iterable[int]) -> None:
    """Has jax make as many devices of the CPU as `share` says, unless the environment says how many.

    As one device, the CPU splits operation after operation over its cores, and small ones not at all.
    Where jax finds an accelerator, nothing changes. To be called before jax is imported.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in flags:
        return
    os.environ["JAX_NUM_CPU_DEVICES"] = str(share(batches, number()))
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_collective_call_terminate_timeout_seconds={PATIENCE}".strip()
