"""The grid: one compilation a pair, the same rows in turn and together, kill and go on, failed cells, halving."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import math
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from cxrjax import defaults
from cxrjax.data import pipeline
from cxrjax.data.preparation import materialize
from cxrjax.data.sources.base import Record, Source
from cxrjax.errors import UserError
from cxrjax.phases import Context, grid
from cxrjax.phases.bind import bind
from cxrjax.tasks import cells as cells_lib
from cxrjax.tasks import classify
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

CLASSES = ("Normal", "Sick")
SLOW = pytest.mark.slow  # of each pair of ways one is tried always


def config(**changes):
    """Three learning rates that work and one that cannot."""
    net = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
    phase = defaults.classify(
        net, defaults.optim("adam", 1e-3), steps=6, batch=8, eval_batch=8, log_every=2, eval_every=2, save_every=2,
        metric=("loss", "min"),
    )  # fmt: skip
    phase.task = "grid"
    axes = {
        "depths": ("resnet_tiny",),
        "optimizers": ("nag",),
        "lrs": (0.05, 0.01, 1e-3, 1e30),
        "momenta": (0.9,),
    }
    phase.update({"halving": {"eta": 0, "rungs": ()}, "strategy": "in_turn", **axes})
    with phase.ignore_type():
        phase.update(changes)
    out = defaults.run(mesh={"devices": 1})
    out.data, out.grid, out.phases = defaults.data("fake", CLASSES, 16), phase, ("grid",)
    return out.lock()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Bright squares against none."""

    def record(split, i):
        image = np.random.default_rng([i, len(split)]).integers(40, 90, (16, 16), np.uint8)
        image[4:9, 4:9] += np.uint8(100 * (i % 2))
        return Record(f"{split}{i}", split, f"{split}-p{i}", np.eye(2, dtype=np.float32)[i % 2], image, math.nan)

    splits = {"train": 32, "val": 12}
    rows = [record(split, i) for split, count in splits.items() for i in range(count)]
    source = Source("fake", CLASSES, "fake-1", "0" * 64, lambda: iter(rows), False, splits)
    return materialize(source, tmp_path_factory.mktemp("films"), size=16, limit=0.0)


class Small(nn.Module):
    """A network that compiles at once, with statistics: the grid asks nothing of what is inside."""

    @nn.compact
    def __call__(self, x, train=False, **_):
        # No bias: its gradient under BatchNorm is rounding alone, which Adam would scale up to whole steps.
        x = nn.Dense(8, use_bias=False)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(2)(nn.relu(x)), {}


@pytest.fixture(scope="module")
def train(films):
    def train(folder, devices=1, **changes):
        folder.mkdir(exist_ok=True)
        with logs.Log(folder) as log, pytest.MonkeyPatch.context() as patch:
            patch.setattr(classify, "network", lambda config, num_classes: Small())
            whole = config(**changes)
            bound = bind(whole, films, devices)
            context = Context(whole, films, bound, folder, meshes.make(devices), jax.random.key(0), log, {}, {})
            return grid.train(context, context.phases["grid"])

    return train


@pytest.fixture(scope="module")
def in_turn(train, tmp_path_factory):
    """Every cell by itself, and what was compiled meanwhile."""
    folder, messages = tmp_path_factory.mktemp("in_turn"), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("jax").addHandler(handler)
    try:
        with jax.log_compiles():
            out = train(folder)
    finally:
        logging.getLogger("jax").removeHandler(handler)
    return SimpleNamespace(**out, folder=folder, compiled=messages)


@pytest.fixture(scope="module")
def together(train, tmp_path_factory):
    """All cells of an optimizer at once, shared by two devices."""
    return SimpleNamespace(**train(tmp_path_factory.mktemp("together"), devices=2, strategy="together"))


def test_there_is_a_row_a_cell_and_only_what_cannot_work_diverges(in_turn):
    lines = (in_turn.folder / "grid" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == in_turn.rows
    assert len(in_turn.rows) == 4
    for row in in_turn.rows:
        assert row["diverged"] == (row["lr"] == 1e30)
        assert (row["loss"] is None) == row["diverged"]
        if not row["diverged"]:
            assert [step for step, _ in row["curve"]] == [2, 4, 6]
            assert row["curve"][-1][1] == row["accuracy"]


def test_cells_share_one_compiled_step(in_turn):
    for name in ("advance", "init", "predict"):
        assert sum(f"Compiling jit({name})" in message for message in in_turn.compiled) == 1


def test_checkpoints_of_cells_with_a_row_are_gone(in_turn):
    assert not [path for path in (in_turn.folder / "checkpoints").rglob("*") if path.is_file()]


def test_learning_rate_and_optimizer_matter(in_turn):
    losses = [row["loss"] for row in in_turn.rows if not row["diverged"]]
    assert len(set(losses)) == len(losses)
    assert in_turn.best["loss"] == min(losses)


def test_together_and_in_turn_give_the_same_rows(together, in_turn):
    assert (together.strategy, in_turn.strategy) == ("together", "in turn")
    for a, b in zip(together.rows, in_turn.rows, strict=True):
        for key in ("depth", "optimizer", "lr", "momentum", "rung", "diverged"):
            assert a[key] == b[key]
        if not a["diverged"]:
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
            assert [step for step, _ in a["curve"]] == [step for step, _ in b["curve"]]


def test_cells_of_an_optimizer_are_split_over_devices():
    mesh, cells = meshes.make(2), grid.cells(config().grid)[:4]
    task = cells_lib.together(config().grid, 2, cells, mesh)
    example = Batch(np.zeros((2, 16, 16, 1), np.float32), np.zeros((2, 2), np.float32), np.ones(2), np.arange(2))
    abstract = jax.eval_shape(task.init, jax.random.key(0), example)
    shardings = meshes.stacked_shardings(mesh, abstract)
    for leaf, sharding in zip(jax.tree.leaves(abstract), jax.tree.leaves(shardings), strict=True):
        assert sharding.spec == (meshes.BATCH if leaf.ndim else jax.sharding.PartitionSpec())
        assert not leaf.ndim or leaf.shape[0] == len(cells)


def dying(monkeypatch, after):
    """Reading dies once `after` training batches were given in all."""
    given, real = [0], pipeline.TrainIterator.__next__

    def next_(self):
        given[0] += 1
        if given[0] > after:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(pipeline.TrainIterator, "__next__", next_)


@pytest.mark.parametrize(("strategy", "after"), [("in_turn", 15), pytest.param("together", 3, marks=SLOW)])
def test_a_killed_grid_goes_on_to_the_same_rows(request, train, tmp_path, monkeypatch, strategy, after):
    whole, devices = request.getfixturevalue(strategy).rows, 1 if strategy == "in_turn" else 2
    with monkeypatch.context() as patch:
        dying(patch, after)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, devices, strategy=strategy)
    path = tmp_path / "grid" / "rows.jsonl"
    begun = path.read_text() if path.exists() else ""
    assert len(begun.splitlines()) == (2 if strategy == "in_turn" else 0)
    path.parent.mkdir(exist_ok=True)
    path.write_text(begun + '{"depth": "resn')  # and the kill cut a line off
    assert train(tmp_path, devices, strategy=strategy)["rows"] == whole
    assert path.read_text().startswith(begun)


@pytest.mark.parametrize("strategy", [pytest.param("in_turn", marks=SLOW), "together"])
def test_halving_trains_the_better_cells_to_the_same_end_and_stops_the_others(train, in_turn, tmp_path, strategy):
    changes = {"strategy": strategy, "halving": {"eta": 3, "rungs": (2,)}, "save_every": 6}
    rows = train(tmp_path, **changes)["rows"]
    ahead = [(row, whole) for row, whole in zip(rows, in_turn.rows, strict=True) if row["rung"] == 1]
    assert len(ahead) == math.ceil(len(rows) / 3)
    assert all(row["steps"] == (6 if row["rung"] else 2) for row in rows)
    worst = max(row["loss"] for row in rows if row["rung"] == 0 and not row["diverged"])
    assert all(row["loss"] < worst for row, _ in ahead)
    for row, whole in ahead:  # a pause changes nothing
        assert row["loss"] == (whole["loss"] if strategy == "in_turn" else pytest.approx(whole["loss"], rel=1e-3))
        assert [step for step, _ in row["curve"]] == [2, 4, 6]
    assert train(tmp_path, **changes)["rows"] == rows
    assert not [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]


def test_a_grid_without_validation_films_is_refused(films, tmp_path):
    bare = dataclasses.replace(films, splits={"train": 32})
    phase = bind(config(), films, 1)["grid"]
    context: Any = SimpleNamespace(films=bare)
    with pytest.raises(UserError, match="validation part"):
        grid.train(context, phase)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"optimizers": ("adm",)}, "did you mean 'adam'"),
        ({"lrs": ()}, "lrs"),
        ({"lrs": (0.1, 0.1)}, "once"),
        ({"lrs": (0.0,)}, "not in"),
        ({"momenta": (1.0,)}, "not in"),
        ({"strategy": "both"}, "strategy"),
        ({"halving": {"eta": 1, "rungs": (2,)}}, "halving"),
        ({"halving": {"eta": 2, "rungs": (20,)}}, "halving"),
        ({"metric": ("mcc", "max")}, "metric"),
        ({"metric": ("accuracy", "max"), "loss": "sigmoid"}, "exclusive"),
        ({"depths": ("resnet_tny",)}, "resnet_tiny"),
        ({"depths": ("resnet_tiny", {"name": "resnet_tiny", "blocks": (1, 1)})}, "twice"),
        ({"lrs": (0.1, 0.10000001)}, "six digits"),
    ],
)
def test_a_grid_that_cannot_begin_is_refused(change, word):
    with pytest.raises(UserError, match=word):
        grid.check(config(**change), "grid")


def test_a_good_grid_is_not_refused():
    grid.check(config(), "grid")
    grid.check(config(metric=("auroc", "max"), halving={"eta": 2, "rungs": (2, 4)}), "grid")


def test_rows_that_a_kill_cut_off_are_dropped_and_others_are_named(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    assert grid.read_rows(path) == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": 3')

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UserError, match="the disk is full"):
            grid.read_rows(path)
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n{"a": 3'
    assert grid.read_rows(path) == [{"a": 1}, {"a": 2}]
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'
    path.write_bytes(b'{"a": 1}\n{"a\xff: 2}\n')
    with pytest.raises(UserError, match=rf"{path}: line 2 is damaged .*; remove it"):
        grid.read_rows(path)


def test_the_best_row_is_of_the_last_rung_and_none_that_diverged():
    rows = [
        {"rung": 0, "diverged": False, "accuracy": 0.9},
        {"rung": 1, "diverged": False, "accuracy": 0.7},
        {"rung": 1, "diverged": False, "accuracy": 0.8},
        {"rung": 2, "diverged": True, "accuracy": None},
    ]
    assert grid.best(rows) is rows[2]
    assert grid.best(rows, ("accuracy", "min")) is rows[1]
    with pytest.raises(UserError, match="diverged"):
        grid.best(rows[3:])
