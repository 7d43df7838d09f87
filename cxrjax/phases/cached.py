"""What a backbone says of every film before it is trained: computed once, kept in files, trained on in seconds."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from cxrjax.phases import members, start
from cxrjax.phases.bind import Bound
from cxrjax.phases.context import Context
from cxrjax.phases.members import Member
from cxrjax.tasks import classify
from cxrjax.train import loop
from cxrjax.types import State, Task

# Keys of a phase that decide what its backbone says of a film, beside where its weights begin.
_FED_BY = ("net", "weights", "input", "channels", "normalize", "border")


_asked = jax.jit(classify.features, static_argnums=(0, 1))


def begun(context: Context, phase: Bound, member: Member, task: Task) -> State:
    """The state that a member of a phase begins with; `task` is the phase's, `classify.make`'s or `on_features`'."""
    key = loop.keys(members.name_key(context.key, members.root_of(phase.config, member)))[0]
    fresh = jax.jit(task.init)(key, phase.example)
    carry = start.begin(context, phase, member)
    return carry(fresh) if carry else fresh


def features(context: Context, phase: Bound, member: Member, state: State, split: str) -> np.ndarray:
    """What the backbone of a member says of each film of a part, (n, h', w', c) float32; see `classify.features`.

    Members and phases whose backbones begin with the same file share it.

    Args:
      context: of the run; the films may be others than the run's.
      phase, member: whose backbone it is.
      state: that the member begins with.
      split: of the context's films.
    """
    path = context.workdir / "features" / f"{_name(context, phase, member)}.{split}.npy"
    here = path.exists()
    if jax.process_count() > 1:
        here = bool(multihost_utils.broadcast_one_to_all(np.asarray(here)))
    if not here:
        net, options = classify.network(phase.config, len(phase.classes)), classify.options_of(phase.config)
        count = context.films.count(split)
        context.log.say(f"{phase.name}: features of {count:,} films of the {split} part, once")
        rows = context.evaluate(
            partial(_asked, net, options), state, split, phase.config.eval_batch, field=phase.field, classes=()
        )
        _save(path, rows["features"])
    return np.load(path, mmap_mode="r")


def _name(context: Context, phase: Bound, member: Member) -> str:
    config = phase.config.to_dict()
    fed = {key: config[key] for key in _FED_BY}
    begins = "" if config["weights"] and not config["carry"] else member.name
    facts = json.dumps([fed, begins, context.films.fingerprint], sort_keys=True, default=str)
    return f"{phase.config.net.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


def _save(path: Path, rows: np.ndarray) -> None:
    """Writes an .npy whole or not at all, by the first process; the others wait for it."""
    if jax.process_index() == 0:
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.partial")
        with part.open("wb") as file:
            np.save(file, rows)
        part.replace(path)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(str(path))
