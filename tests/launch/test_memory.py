"""Large buffers that were freed are used again, without new pages."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
PROGRAM = f"""
import resource, sys
sys.path.insert(0, {str(LAUNCH)!r})
import memory
import numpy as np

def faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(1 << 23)  # 64 MB, each page written
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

first = faults()
assert memory.keep()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_large_buffer_takes_the_pages_of_one_that_was_freed() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after = map(int, said.stdout.split())
    assert before > 64  # with large pages; thousands without
    assert after < 16
