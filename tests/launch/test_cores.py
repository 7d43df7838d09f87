"""On a CPU a run splits its batches over the cores: as many devices as every batch allows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
PROGRAM = f"""
import sys
sys.path.insert(0, {str(LAUNCH)!r})
import cores
cores.number = lambda: 6
cores.split([32, 16])
import jax
print(jax.device_count(), jax.jit(lambda x: x + 1)(1))
"""


@pytest.fixture(scope="module")
def cores():
    sys.path.insert(0, str(LAUNCH))
    try:
        import cores
    finally:
        sys.path.remove(str(LAUNCH))
    return cores


@pytest.mark.parametrize(
    ("batches", "number", "expected"),
    [([32, 16], 2, 2), ([32, 16], 6, 4), ([32, 15], 2, 1), ([24], 64, 12), ([1], 2, 1), ([2], 2, 1), ([], 2, 2)],
)
def test_every_batch_is_split_into_two_films_a_core_or_more(cores, batches, number, expected):
    assert cores.share(batches, number) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, 4), ({"JAX_NUM_CPU_DEVICES": "3"}, 3), ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5)],
)
def test_jax_makes_so_many_devices_and_what_the_user_says_goes_first(environment, expected):
    plain = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**plain, **environment}, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(expected), "2"]
