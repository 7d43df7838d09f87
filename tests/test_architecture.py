"""The shape of the code, read with `ast`: which room imports which, what a room may not touch, how long a file may be.

The rules are functions from source text to a list of complaints, so that each is also tried on text that breaks it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS: tuple[str, ...] = ("types", "console", "defaults", "ops", "metrics", "data", "nn", "models", "weights")
ROOMS += ("train", "tasks", "infer", "phases", "studies", "report", "manifest", "run")
FROM_ANYWHERE = {"types", "errors"}
LONGEST = 350
DRAWERS = {"utils", "util", "helpers", "misc", "common"}
GONE_OR_PRIVATE = (
    "jax._src",
    "optax._src",
    "flax.training.checkpoints",
    "flax.jax_utils",
    "jax.experimental.maps",
    "tensorflow",
)
DISK_MODULES = ("pathlib", "os", "io", "shutil", "tempfile", "glob", "subprocess", "cv2", "PIL")
DISK_CALLS = {"open", "numpy.load", "numpy.save", "numpy.savez", "jax.numpy.load", "jax.numpy.save"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """`cxrjax.ops.cam`; a package keeps its `__init__`, so that relative imports count from the right place."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Each imported dotted name with its line, relative ones resolved; `from a import b` yields `a.b`.

    Sees imports inside functions and under TYPE_CHECKING, and `import_module("a.b")`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def uses(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Each import and each dotted use of an imported name, written out in full: `np.load` as `numpy.load`."""
    tree = ast.parse(source)
    full: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from imports(module, source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            head, dot, tail = ast.unparse(node).partition(".")
            if head.isidentifier() and (head in full or not dot):
                yield node.lineno, full.get(head, head) + dot + tail


def wrong_rooms(module: str, source: str) -> list[str]:
    """A module of cxrjax imports from its own room and from those before it."""
    own = module.split(".")[1]
    if own not in {*ROOMS, *FROM_ANYWHERE, "__init__"}:
        return [f"{module}: {own} is no room; the rooms are {', '.join(ROOMS)}"]
    # The package's own __init__ and the types and errors are read by everyone, so they may read no room.
    reach = ROOMS.index(own) if own in ROOMS else 0
    complaints = []
    for line, name in imports(module, source):
        if not below(name, "cxrjax"):
            continue
        room = name.split(".")[1] if "." in name else ""
        if room in FROM_ANYWHERE or room == own or (room in ROOMS and ROOMS.index(room) <= reach):
            continue
        if room not in ROOMS and room.startswith("__"):  # cxrjax.__version__
            continue
        complaints.append(f"{module}:{line} imports {name}, but {own} may only reach {', '.join(ROOMS[: reach + 1])}")
    return complaints


def forbidden_imports(module: str, source: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{module}:{line} imports {name}; allowed: {', '.join(allowed)}"
        for line, name in imports(module, source)
        if not any(below(name, package) for package in allowed)
    ]


def impure_ops(module: str, source: str) -> list[str]:
    """`ops` is array maths: no flax, no disk."""
    bad = [
        (line, name)
        for line, name in uses(module, source)
        if any(below(name, package) for package in ("flax", *DISK_MODULES)) or name in DISK_CALLS
    ]
    return [f"{module}:{line} uses {name}; ops has no flax and no I/O" for line, name in sorted(set(bad))]


def private_apis(module: str, source: str) -> list[str]:
    bad = {
        (line, name) for line, name in uses(module, source) if any(below(name, package) for package in GONE_OR_PRIVATE)
    }
    return [f"{module}:{line} uses {name}, which is private, gone or unwanted" for line, name in sorted(bad)]


def star_imports(module: str, source: str) -> list[str]:
    return [f"{module}:{line} imports {name}" for line, name in imports(module, source) if name.endswith(".*")]


def early_imports(module: str, source: str) -> list[str]:
    """The launcher's files import jax and cxrjax inside a function, after the checks, or not at all."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    inside = {line for node in functions for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    slow = ("cxrjax", "jax", "flax", "optax", "numpy")
    return [
        f"{module}:{line} imports {name} before the command line is checked"
        for line, name in imports(module, source)
        if line not in inside and any(below(name, package) for package in slow)
    ]


CODE = python_files("cxrjax", "configs", "launch")
parametrize = pytest.mark.parametrize


def read(path: Path) -> tuple[str, str]:
    return module_name(path), path.read_text(encoding="utf-8")


def test_there_is_code_to_read() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in CODE} >= {"cxrjax", "launch"}
    assert ROOT / "cxrjax" / "types.py" in CODE


@parametrize("path", python_files("cxrjax"), ids=module_name)
def test_rooms_import_only_from_rooms_before_them(path: Path) -> None:
    assert wrong_rooms(*read(path)) == []


@parametrize("path", python_files("configs"), ids=module_name)
def test_configs_import_only_defaults(path: Path) -> None:
    """So that a mistake on the command line is told before jax is imported."""
    allowed = ("ml_collections", "__future__", "cxrjax.defaults")
    assert forbidden_imports(*read(path), allowed) == []


def test_defaults_import_no_jax() -> None:
    allowed = ("ml_collections", "__future__", "typing")
    assert forbidden_imports(*read(ROOT / "cxrjax" / "defaults.py"), allowed) == []


@parametrize("path", python_files("cxrjax/ops"), ids=module_name)
def test_ops_are_array_maths(path: Path) -> None:
    assert impure_ops(*read(path)) == []


@parametrize("path", python_files("launch"), ids=module_name)
def test_launcher_checks_before_it_imports(path: Path) -> None:
    assert early_imports(*read(path)) == []


@parametrize("path", [*CODE, *python_files("tests")], ids=module_name)
def test_no_private_api_and_no_star_import(path: Path) -> None:
    assert private_apis(*read(path)) == []
    assert star_imports(*read(path)) == []


@parametrize("path", [*CODE, *python_files("tests")], ids=module_name)
def test_files_are_short_and_no_drawers(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert path.stem not in DRAWERS


@parametrize(
    ("module", "source"),
    [
        ("cxrjax.ops.cam", "from cxrjax.train import loop"),
        ("cxrjax.ops.cam", "import cxrjax.nn.conv"),
        ("cxrjax.ops.cam", "from cxrjax import models"),
        ("cxrjax.ops.cam", "from .. import models"),
        ("cxrjax.ops.cam", "from ..models import densenet"),
        ("cxrjax.ops.__init__", "from ..models import densenet"),
        ("cxrjax.train.loop", "def f():\n  from cxrjax.tasks import ddpm"),
        ("cxrjax.train.loop", "import importlib\nimportlib.import_module('cxrjax.run')"),
        ("cxrjax.types", "from cxrjax import ops"),
        ("cxrjax.__init__", "from cxrjax import run"),
        ("cxrjax.ops.cam", "import cxrjax"),
        ("cxrjax.drawer.thing", ""),
    ],
)
def test_wrong_rooms_are_seen(module: str, source: str) -> None:
    assert len(wrong_rooms(module, source)) == 1


@parametrize(
    ("module", "source"),
    [
        (
            "cxrjax.train.loop",
            "from cxrjax.ops import losses\nfrom cxrjax import types\nfrom cxrjax.types import State",
        ),
        ("cxrjax.train.loop", "from . import optim\nfrom .optim import make\nfrom ..ops import cam"),
        ("cxrjax.ops.cam", "from cxrjax.errors import Torn\nimport jax"),
        ("cxrjax.run", "from cxrjax import report, train"),
    ],
)
def test_right_rooms_are_let_pass(module: str, source: str) -> None:
    assert wrong_rooms(module, source) == []


@parametrize(
    "source",
    [
        "import flax",
        "from flax import linen",
        "open('a')",
        "from pathlib import Path",
        "import os",
        "import numpy as np\nx = np.load('a')",
        "import jax.numpy as jnp\nx = jnp.load('a')",
    ],
)
def test_impure_ops_are_seen(source: str) -> None:
    assert impure_ops("cxrjax.ops.cam", source)
    assert not impure_ops("cxrjax.ops.cam", "import jax.numpy as jnp\nimport numpy as np\ny = np.exp(jnp.ones(3))")


@parametrize(
    "source",
    [
        "from jax._src import core",
        "import jax\nx = jax._src.core",
        "import optax._src.base as base",
        "from flax.training import checkpoints",
        "from flax import jax_utils",
        "import flax\nflax.jax_utils.replicate",
        "from jax.experimental import maps",
        "import tensorflow as tf",
    ],
)
def test_private_apis_are_seen(source: str) -> None:
    assert private_apis("cxrjax.train.loop", source)
    assert not private_apis("cxrjax.train.loop", "import tensorflow_datasets as tfds\nfrom flax.training import common")


def test_other_rules_are_able_to_fail() -> None:
    allowed = ("ml_collections", "__future__")
    assert star_imports("cxrjax.ops.cam", "from jax.numpy import *")
    assert forbidden_imports("configs.a", "import numpy", allowed)
    assert forbidden_imports("configs.a", "from configs import b", allowed)
    assert not forbidden_imports("configs.a", "from ml_collections import config_dict", allowed)
    assert early_imports("launch.main", "from cxrjax import run")
    assert not early_imports("launch.main", "def main():\n  from cxrjax import run")
