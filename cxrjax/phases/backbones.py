"""A finished run's classifier as the start of a phase: its backbone, below a head of this phase's classes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from cxrjax.data import Prepared
from cxrjax.errors import UserError
from cxrjax.infer import finished
from cxrjax.infer.classifier import TASKS as CLASSIFIERS
from cxrjax.phases import members
from cxrjax.tasks import TASKS, classify
from cxrjax.types import PyTree, State

SHOWN_BY = ("input", "channels", "normalize")  # keys that decide what a network is shown of a film
SHOWN = 3


class Taken(NamedTuple):
    """A finished run's classifier, by the run and the name of its phase, fold or seed."""

    run: finished.Run
    name: str

    @property
    def config(self) -> Any:
        """The phase's."""
        return self.run.config[self.phase]

    @property
    def phase(self) -> str:
        """Whose fold or seed it is."""
        return next(p for p in self.run.config.phases if self.name in finished.member_names(self.run.config, p))


def is_run(given: str) -> bool:
    """Whether a phase's `weights` are a run's: a folder."""
    return bool(given) and Path(os.path.expanduser(given)).is_dir()


def of(given: str) -> Taken:
    """The classifier that a phase's `weights` name.

    Args:
      given: the workdir of a finished run that has one classifier, or of one of several WORKDIR/checkpoints/NAME.

    Raises:
      UserError: no finished run, no such classifier of films, or several and none named.
    """
    path = Path(os.path.expanduser(given))
    named = path.parent.name == "checkpoints"
    run = finished.load(path.parent.parent if named else path)
    phases = [name for name in run.config.phases if run.config[name].task == CLASSIFIERS[0]]
    names = [name for phase in phases for name in finished.member_names(run.config, phase)]
    if named and path.name in names:
        return Taken(run, path.name)
    if named or len(names) != 1:
        each = ", ".join(str(run.workdir / "checkpoints" / name) for name in names) or "none"
        raise UserError(f"weights = {given}: expected one classifier of films of a finished run; it has {each}")
    return Taken(run, names[0])


def account(given: str, phase: Any, shapes: State) -> dict[str, Any]:
    """What a manifest says of it, if it fits.

    Args:
      given: as in `of`.
      phase: the config of the phase that begins with it.
      shapes: of its fresh state.

    Raises:
      UserError: as `of`; another network, or one that is shown its films otherwise; a head that is asked for.
    """
    taken = of(given)
    if phase.weights_head:
        raise UserError(f"weights = {given}: of a run the backbone alone is taken; set weights_head to False")
    for key in SHOWN_BY:
        if taken.config[key] != phase[key]:
            raise UserError(f"weights = {given}: {key} is {taken.config[key]!r} there and {phase[key]!r} here")
    classes = finished.classes_of(taken.run.config, taken.phase)
    example = members.example_of(taken.run.config, taken.phase, 1)
    theirs = jax.eval_shape(TASKS[taken.config.task](taken.config, classes).init, jax.random.key(0), example)
    ours, found = (_shapes(state) for state in (shapes, theirs))
    if odd := sorted(key for key in ours.keys() | found.keys() if ours.get(key) != found.get(key)):
        raise UserError(
            f"weights = {given}: its backbone, of {taken.config.net.name}, is not that of {phase.net.name} with these "
            f"options: {len(odd)} arrays differ ({', '.join(odd[:SHOWN])}{', ...' if odd[SHOWN:] else ''})"
        )
    told = taken.run.manifest["data"]
    return {
        "run": str(taken.run.workdir), "classifier": taken.name, "classes": list(classes), "films": told["name"],
        "fingerprint": told["fingerprint"], "used": len(ours), "fresh": "the head",
    }  # fmt: skip


def check_films(given: str, config: Any, films: Prepared, folds: int) -> None:
    """Refuses weights that may have seen films which are held out here.

    Drawn films hold nobody out: parts of another drawing share no chest.

    Raises:
      UserError: the run is of other parts of the same set, or its training films are dealt into folds here.
    """
    told = of(given).run.manifest["data"]
    if films.has_truth or told["name"] != config.data.name:
        return
    if told["fingerprint"] != films.fingerprint or folds > 1:
        why = "folds hold out films of its training part" if folds > 1 else "its films or their parts are others"
        raise UserError(f"weights = {given}: it is of {told['name']} too, and {why}: it may have seen held-out films")


def bring(given: str, mesh: Mesh) -> Callable[[State], State]:
    """A `carry` of the train loop: a fresh state with this backbone's weights and statistics."""
    taken = of(given)._replace(run=of(given).run._replace(devices=mesh))
    theirs = classify.variables_of(classify.options_of(taken.config), taken.run.state(taken.name))

    def carry(state: State) -> State:
        params = _with(state.params["net"], theirs["params"])
        stats = {name: _with(own, theirs.get(name, {})) for name, own in state.stats["net"].items()}
        ema = {**state.ema, "net": params} if "net" in state.ema else state.ema
        return dataclasses.replace(state, params={**state.params, "net": params}, stats={"net": stats}, ema=ema)

    return carry


def _with(own: PyTree, theirs: PyTree) -> PyTree:
    return {**own, "backbone": theirs["backbone"]} if "backbone" in theirs else own


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    """The shapes of a backbone's weights and statistics, by path."""
    whole = {"params": state.params["net"], **state.stats["net"]}
    below = {name: tree.get("backbone", {}) for name, tree in whole.items()}
    return {path: leaf.shape for path, leaf in flatten_dict(below, sep="/").items()}
