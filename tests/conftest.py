"""A strict test environment: eight fake devices, no silent rank promotion, a compilation cache that is kept."""

import os
from pathlib import Path

# Before jax is imported. Without PJRT_NPROC several fake devices deadlock on a machine of few cores.
os.environ.setdefault("PJRT_NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is what the suite costs, cold: a quarter less of it with LLVM's lower level. What is run is small.
for flag in ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=1"):
    if flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxrjax" / "tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session")
def films_root() -> Path:
    """The folder of real films; its tests are skipped where there is none."""
    root = os.environ.get("CXRJAX_FILMS")
    if not root:
        pytest.skip("needs real films: set CXRJAX_FILMS to their folder")
    return Path(root)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory):
    """A finished run of tiny networks."""
    import tiny

    return tiny.make(tmp_path_factory.mktemp("tiny") / "run")
