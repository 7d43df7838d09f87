"""Grid search: optimizer x learning rate x momentum x depth, one JSON row a cell (ETRI study).

The number of epochs is no axis of its own: it is read off the evaluations of the one run that each cell is.
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from cxrjax import files
from cxrjax.data import Prepared
from cxrjax.errors import UserError, lookup
from cxrjax.phases.bind import Bound
from cxrjax.phases.context import Context
from cxrjax.tasks import cells as cells_lib
from cxrjax.tasks import classify
from cxrjax.tasks.cells import Cell
from cxrjax.train import loop, processes
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import State, Task

Row = dict[str, Any]
STRATEGIES = ("auto", "together", "in_turn")
OPTIMIZERS = ("sgd", "nag", "adam", "adamw")


def best(rows: Sequence[Row], metric: tuple[str, str] = ("accuracy", "max")) -> Row:
    """The row whose last evaluation is the best; of equal ones the first.

    Among rows of several rungs of successive halving only those of the last are compared: the others trained less.

    Raises:
      UserError: every cell diverged.
    """
    alive = [row for row in rows if not row["diverged"] and row[metric[0]] is not None]
    if not alive:
        raise UserError("grid: every cell diverged; give smaller learning rates (lrs) and a new --workdir")
    last = max(row["rung"] for row in alive)
    return max((row for row in alive if row["rung"] == last), key=lambda row: _value(row, metric))


def _value(row: Row, metric: tuple[str, str]) -> float:
    name, direction = metric
    return row[name] if direction == "max" else -row[name]


def networks(config: Any) -> dict[str, Any]:
    """The phase's config with each of `depths` as its `net`, by the network's name and blocks.

    A depth is the name of a network, with the phase's other `net` options, or a whole `net` of its own.

    Raises:
      UserError: two depths of one name.
    """
    out: dict[str, Any] = {}
    for depth in config.depths:
        net = {**config.net, "name": depth} if isinstance(depth, str) else dict(depth)
        name = "-".join(map(str, (net["name"], *net.get("blocks", ()))))
        if name in out:
            raise UserError(f"depths: {name!r} is there twice; rows are told apart by the network's name and blocks")
        out[name] = config.copy_and_resolve_references()
        with out[name].unlocked():
            del out[name].net
            out[name].net = net
    return out


def cells(config: Any) -> list[Cell]:
    """Every cell; those that share a network and an optimizer follow one another."""
    axes = networks(config), config.optimizers, config.lrs, config.momenta
    return [Cell(d, o, lr, m) for d in axes[0] for o in axes[1] for lr in axes[2] for m in axes[3]]


def stops(config: Any) -> tuple[int, ...]:
    """The steps at which cells are compared; the last is where training ends."""
    if not config.halving.eta:
        return (config.steps,)
    return tuple(sorted({*config.halving.rungs, config.steps}))


def strategy(config: Any) -> str:
    """`config.strategy`; for `auto`, in turn on CPU, where training stacked networks is several times slower."""
    if config.strategy != "auto":
        return config.strategy
    return "in_turn" if jax.default_backend() == "cpu" else "together"


def check(config: Any, name: str) -> None:
    """Refuses a grid that could not begin, before films are prepared.

    Args:
      config: the run's.
      name: of the grid's phase.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    phase = config[name]
    for key in ("depths", "optimizers", "lrs", "momenta"):
        if not phase[key] or len(set(map(str, phase[key]))) < len(phase[key]):
            raise UserError(f"{key} = {tuple(phase[key])!r}: expected one value or more, each once")
    for optimizer in phase.optimizers:
        lookup(dict.fromkeys(OPTIMIZERS), optimizer, "optimizers")
    for key, low in (("lrs", 0.0), ("momenta", -1e-9)):
        if bad := [x for x in phase[key] if not low < x < (1 if key == "momenta" else math.inf)]:
            raise UserError(f"{key}: {bad[0]} is not in {'[0, 1)' if key == 'momenta' else '(0, inf)'}")
    lookup(dict.fromkeys(STRATEGIES), phase.strategy, "strategy")
    eta, rungs = phase.halving.eta, tuple(phase.halving.rungs)
    if eta and (eta < 2 or not rungs or min(rungs) < 1 or max(rungs) > phase.steps):
        raise UserError(f"halving = {{eta: {eta}, rungs: {rungs}}}: expected eta 0 or >= 2, rungs in 1..{phase.steps}")
    lookup(dict.fromkeys(cells_lib.FIGURES), phase.metric[0], "metric")
    if phase.optim.schedule == "plateau":
        raise UserError("optim.schedule = 'plateau': the grid's axis is the learning rate; expected constant or cosine")
    for net in networks(phase).values():
        classify.network(net, len(config.data.classes))
    if phase.metric[0] == "accuracy" and not classify.options_of(phase).exclusive:
        raise UserError(f"metric = 'accuracy' is of exclusive classes; under loss {phase.loss!r} use auroc or loss")
    names = [cell.name for cell in cells(phase)]
    if len(set(names)) < len(names):
        raise UserError("lrs or momenta: two values agree in six digits, which are all that a cell's name shows")


def check_films(films: Prepared) -> None:
    """Raises UserError where there is no validation part to compare cells on; the test part is never read."""
    if not films.splits.get("val"):
        raise UserError("a grid compares cells on the validation part, and there is none; give data.carve one")


def read_rows(path: Path) -> list[Row]:
    """The rows of a `rows.jsonl`; none where there is no such file. A line that a kill cut off is dropped from it.

    Raises:
      Damaged: another line cannot be read.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        files.write_text(path, whole.decode(errors="replace"))
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append({**json.loads(line)})
        except (ValueError, TypeError) as error:
            raise files.Damaged(
                f"{path}: line {number} is damaged ({error}); remove it, and the same command trains its cell again"
            ) from error
    return rows


class Grid:
    """A grid's training in one run; `train` is the way in.

    Rows are kept as they come, in `WORKDIR/<name>/rows.jsonl`. A cell with a row is done, one without goes on from its
    checkpoint.
    """

    def __init__(self, context: Context, phase: Bound):
        check_films(context.films)
        self.context, self.phase, self.name, self.config = context, phase, phase.name, phase.config
        self.cells, self.stops, self.metric = cells(self.config), stops(self.config), tuple(self.config.metric)
        self.together = strategy(self.config) == "together"
        self._networks = networks(self.config)
        self._tasks: dict[str, Task] = {}
        self._stacked: dict[str, tuple[Task, list[Cell]]] = {}
        self._path = context.workdir / self.name / "rows.jsonl"
        rows = processes.first(lambda: read_rows(self._path))
        self.rows = {Cell(*(row[axis] for axis in Cell._fields)).name: row for row in rows}

    def run(self) -> list[Row]:
        alive = self.cells
        for rung, steps in enumerate(self.stops):
            last, found = steps == self.stops[-1], dict(self.rows)
            for pair, group in groupby(alive, key=lambda cell: cell.pair):
                members = list(group)
                if all(cell.name in self.rows for cell in members):
                    continue
                teach = self._stack if self.together else self._each
                for cell, row in teach(pair, members, rung, steps):
                    found[cell.name] = self.rows.get(cell.name, row)
                    if last or row["diverged"]:
                        self._record(cell, row)
            alive, compared = ([] if last else self._ahead(alive, found, rung)), alive
            for cell in compared:
                if cell not in alive:
                    self._record(cell, found[cell.name])
        return [self.rows[cell.name] for cell in self.cells]

    def _ahead(self, alive: list[Cell], found: dict[str, Row], rung: int) -> list[Cell]:
        """The best 1 / eta, in the order of the grid."""

        def score(cell: Cell) -> float:  # a row of a later rung was written by one that was ahead at this one
            row = found[cell.name]
            return math.inf if row["rung"] > rung else _value(row, self.metric)

        fit = [cell for cell in alive if found[cell.name]["rung"] > rung or not found[cell.name]["diverged"]]
        chosen = sorted(fit, key=score, reverse=True)[: math.ceil(len(alive) / self.config.halving.eta)]
        return [cell for cell in alive if cell in chosen]

    def _record(self, cell: Cell, row: Row) -> None:
        """Writes the cell's row, unless it has one, and lets go of what is needed no more."""
        if cell.name not in self.rows:
            self.rows[cell.name] = row
            if processes.primary():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        checkpoints = self.context.workdir / "checkpoints" / self.name
        done = [cell.name]
        if self.together and all(other.name in self.rows for other in self.cells if other.pair == cell.pair):
            done = [f"{cell.pair}-rung{i}" for i in range(len(self.stops))]
        if processes.primary():
            for folder in done:
                shutil.rmtree(checkpoints / folder, ignore_errors=True)

    def _row(self, cell: Cell, rung: int, steps: int, evaluations: list[Row], diverged: bool) -> Row:
        final = evaluations[-1] if evaluations else {}
        diverged = diverged or final.get("loss") is None or final.get(self.metric[0]) is None
        figure = "accuracy" if "accuracy" in final else "auroc"
        return {
            **cell._asdict(),
            "steps": steps,
            "rung": rung,
            **{key: None if diverged else final.get(key) for key in ("accuracy", "auroc", "loss")},
            "diverged": diverged,
            "curve": [[e["step"], e[figure]] for e in evaluations],
        }

    def _fit(self, cell: Cell, task: Task, phase: str, steps: int, **more: Any) -> State:
        config, context = self.config, self.context
        key = jax.random.fold_in(context.key, zlib.crc32(f"{self.name}/{cell.depth}".encode()) & 0x7FFFFFFF)
        # One seed for all cells: they differ in nothing but their axes.
        stream = context.batches(
            batch_size=config.batch, seed=self.phase.seed_of(self.name), augment=tuple(config.augment),
            field=self.phase.field, balance=bool(config.get("balance", False)),
        )  # fmt: skip
        evals = partial(context.eval_batches, "val", config.eval_batch, field=self.phase.field)
        times = loop.Phase(phase, steps, config.log_every, config.eval_every, config.save_every)
        return context.fit(task, times, stream=stream, evals=evals, example=self.phase.example, key=key, **more)

    def _each(self, pair: str, members: list[Cell], rung: int, steps: int) -> Iterator[tuple[Cell, Row]]:
        """One cell after the other, with one compiled step."""
        if pair not in self._tasks:
            self._tasks[pair] = cells_lib.alone(
                self._networks[members[0].depth], len(self.phase.classes), members[0].optimizer
            )
        for cell in members:
            if cell.name in self.rows:
                continue
            phase, diverged = f"{self.name}/{cell.name}", False
            carry = partial(cells_lib.with_hyper, lr=cell.lr, momentum=cell.momentum)
            try:
                self._fit(cell, self._tasks[pair], phase, steps, carry=carry)
            except loop.Diverged:
                self.context.log.say(f"{phase}: diverged")
                diverged = True
            yield cell, self._row(cell, rung, steps, self.context.log.evaluations(phase), diverged)

    def _stack(self, pair: str, members: list[Cell], rung: int, steps: int) -> Iterator[tuple[Cell, Row]]:
        """All cells of a pair at once."""
        names = [f"{self.name}/{pair}-rung{i}" for i in range(rung + 1)]
        if rung:
            self._cut(*self._stacked[pair], members, names[-2], names[-1])
        net, classes = self._networks[members[0].depth], len(self.phase.classes)
        task = cells_lib.together(net, classes, members, self.context.mesh)
        self._stacked[pair] = task, members
        self._fit(members[0], task, names[-1], steps, shardings=self._shardings(members))
        logged = [entry for name in names for entry in self.context.log.evaluations(name)]
        for cell in members:
            own = [{key.removeprefix(f"{cell.name}/"): value for key, value in entry.items()} for entry in logged]
            yield cell, self._row(cell, rung, steps, own, bool(own[-1]["diverged"]))

    def _shardings(self, members: list[Cell]) -> Callable[[Mesh, Any], Any]:
        """Cells over devices where their number divides, else each cell's state like any other."""
        whole = len(members) % self.context.mesh.size == 0
        return meshes.stacked_shardings if whole else meshes.state_shardings

    def _cut(self, task: Task, before: list[Cell], after: list[Cell], earlier: str, later: str) -> None:
        """Begins a rung's checkpoints with the state of those that go on, at the step that they have reached."""
        mesh, folder = self.context.mesh, self.context.workdir / "checkpoints"
        with Checkpoints(folder / later) as new:
            if new.steps():
                return
            abstract = jax.eval_shape(task.init, jax.random.key(0), self.phase.example)
            shardings = self._shardings(before)(mesh, abstract)
            target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
            with Checkpoints(folder / earlier) as old:
                restored = old.restore(target)
            assert restored is not None  # the loop has just ended there
            state = cells_lib.take(restored.state, [before.index(cell) for cell in after])
            new.save(restored.step, state, restored.position)


def train(context: Context, phase: Bound) -> dict[str, Any]:
    """Trains every cell of a grid phase, from wherever it was left.

    Args:
      context: of the run.
      phase: bound to its films; its config is a classifier's with `depths`, `optimizers`, `lrs`, `momenta`, `strategy`
        (`together`, `in_turn`, or `auto`: in turn on CPU) and `halving`: with `eta` 2 or more, the best 1 / eta of the
        cells go on after each of `rungs` steps.

    Returns:
      `rows`, `best` (see `best`), `strategy` and `metric`. A row is {depth, optimizer, lr, momentum, steps, rung,
      accuracy, auroc, loss, diverged, curve}: figures of the validation part at its last step, None where it diverged;
      `curve` holds [step, accuracy], or AUROC where classes are not exclusive.

    Raises:
      UserError: no validation part, or every cell diverged.
    """
    grid = Grid(context, phase)
    total, way = len(grid.cells), "together" if grid.together else "in turn"
    context.log.say(
        f"{phase.name}: {total} cells {way}, {len(grid.rows)} of them done before; {grid.stops[-1]:,} steps"
    )
    rows = grid.run()
    return {"rows": rows, "best": best(rows, grid.metric), "strategy": way, "metric": list(grid.metric)}
