"""A strict test environment: eight fake devices, no silent rank promotion, a compilation cache that is kept."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

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


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a file of launch/ by its name, anew; after the test its modules are as they were."""
    folder = Path(__file__).resolve().parents[1] / "launch"
    monkeypatch.syspath_prepend(str(folder))
    paths = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


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
