"""Freed memory stays with the process: a train step on a CPU then waits for no new pages of the kernel.

Imports neither jax nor cxrjax.
"""

from __future__ import annotations

import ctypes

ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1  # parameters of glibc's mallopt(3)


def keep() -> bool:
    """Has glibc serve large buffers from one heap that never shrinks; returns whether the C library is glibc.

    By default each large buffer is mapped anew, zeroed page by page as it is first written, and given back when it is
    freed, which took a quarter of a train step of EfficientNet-Lite0. The process then stays as large as it once was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # macOS, musl
        return False
    return all(mallopt(parameter, value) for parameter, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1)))
