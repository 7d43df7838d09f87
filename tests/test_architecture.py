"""The rules of `architecture` hold for the whole tree, each told with all its complaints; and each is able to fail."""

from __future__ import annotations

from functools import partial

import pytest
from architecture import (
    CODE,
    LONGEST,
    circles,
    complaints,
    early_imports,
    forbidden_imports,
    graph,
    impure_ops,
    long_files,
    mixed_studies,
    private_apis,
    python_files,
    read,
    slow_imports,
    star_imports,
    wrong_rooms,
)

parametrize = pytest.mark.parametrize


def told(found: list[str]) -> None:
    assert not found, "\n".join(found)


def test_rooms_import_only_from_rooms_before_them() -> None:
    told(complaints(wrong_rooms, "cxrjax"))


def test_studies_do_not_import_each_other() -> None:
    told(complaints(mixed_studies, "cxrjax/studies"))


def test_no_circle_of_imports() -> None:
    told(circles(graph(dict(map(read, python_files("cxrjax"))))))
    launch = {name.removeprefix("launch."): source for name, source in map(read, python_files("launch"))}
    told(circles(graph(launch)))


def test_the_report_is_made_without_jax() -> None:
    told(slow_imports("cxrjax.report", dict(map(read, python_files("cxrjax")))))


def test_configs_import_only_defaults() -> None:
    """So that a mistake on the command line is told before jax is imported."""
    allowed = ("ml_collections", "__future__", "cxrjax.defaults")
    told(complaints(partial(forbidden_imports, allowed=allowed), "configs"))
    own = (*allowed, "typing", "collections.abc")
    told(complaints(partial(forbidden_imports, allowed=own), "cxrjax/defaults"))


def test_ops_are_array_maths() -> None:
    told(complaints(impure_ops, "cxrjax/ops"))


def test_launcher_checks_before_it_imports() -> None:
    told(complaints(early_imports, "launch"))


def test_no_private_api_and_no_star_import() -> None:
    told(complaints(private_apis, *CODE, "tests"))
    told(complaints(star_imports, *CODE, "tests"))


def test_files_are_short_and_no_drawers() -> None:
    told(complaints(long_files, *CODE, "tests"))


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
        ("cxrjax.__init__", "if True:\n  from cxrjax import infer"),
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
        ("cxrjax.__init__", "def load(path):\n  from cxrjax import infer\n  return infer"),
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


def test_circles_are_seen_and_told_once() -> None:
    a, b = "from cxrjax.x import b", "from cxrjax.x.a import f"
    pair = {"cxrjax.x.a": a, "cxrjax.x.b": b, "cxrjax.x.c": "from cxrjax.x import a"}
    assert circles(graph(pair)) == ["cxrjax.x.a -> cxrjax.x.b -> cxrjax.x.a"]
    for lazy in ("def g():\n  from cxrjax.x.a import f", "if TYPE_CHECKING:\n  from cxrjax.x.a import f"):
        assert circles(graph({**pair, "cxrjax.x.b": lazy})) == []
    face = {"cxrjax.x.__init__": "from cxrjax.x.a import f", "cxrjax.x.a": "from cxrjax.x import g"}
    assert len(circles(graph(face))) == 1
    assert circles(graph({**face, "cxrjax.x.a": "from cxrjax.x import b", "cxrjax.x.b": ""})) == []


def test_jax_is_seen_however_far_away() -> None:
    far = {
        "cxrjax.report.page": "from cxrjax.data import labels",
        "cxrjax.data.labels": "from cxrjax.types import State",
        "cxrjax.types": "import jax.numpy as jnp",
    }
    way = "cxrjax.report.page -> cxrjax.data.labels -> cxrjax.types imports jax.numpy"
    assert slow_imports("cxrjax.report", far) == [way]
    assert slow_imports("cxrjax.report", {**far, "cxrjax.types": "def f():\n  import jax"}) == []


def test_other_rules_are_able_to_fail() -> None:
    assert mixed_studies("cxrjax.studies.synthesis.use", "from cxrjax.studies.treatment import arms")
    assert mixed_studies("cxrjax.studies.treatment.arms", "from cxrjax.studies import synthesis")
    assert mixed_studies("cxrjax.studies.classification.ntk", "import cxrjax.studies.synthesis.fdd")
    assert not mixed_studies("cxrjax.studies.synthesis.use", "from cxrjax.studies.classification import localization")
    assert len(long_files("cxrjax.ops.utils", "x = 1\n" * (LONGEST + 1))) == 2
    assert not long_files("cxrjax.ops.cam", "x = 1\n" * LONGEST)
    allowed = ("ml_collections", "__future__")
    assert star_imports("cxrjax.ops.cam", "from jax.numpy import *")
    assert forbidden_imports("configs.a", "import numpy", allowed)
    assert forbidden_imports("configs.a", "from configs import b", allowed)
    assert not forbidden_imports("configs.a", "from ml_collections import config_dict", allowed)
    assert early_imports("launch.main", "from cxrjax import run")
    assert not early_imports("launch.main", "def main():\n  from cxrjax import run")
