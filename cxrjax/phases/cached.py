"""What a backbone says of every film before it is trained: computed once, kept in files, trained on in seconds."""

from __future__ import annotations

import hashlib
import json
from functools import partial

import jax
import numpy as np

from cxrjax import files
from cxrjax.phases import members, start
from cxrjax.phases.bind import Bound
from cxrjax.phases.context import Context
from cxrjax.phases.members import Member
from cxrjax.tasks import classify
from cxrjax.train import loop, processes
from cxrjax.types import State, Task

# Keys of a phase that decide what its backbone says of a film, beside where its weights begin.
_FED_BY = ("net", "weights", "input", "channels", "normalize", "border", "input_size")


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
    if not processes.first(path.exists):
        net, options = classify.network(phase.config, len(phase.classes)), classify.options_of(phase.config)
        count = context.films.count(split)
        context.log.say(f"{phase.name}: features of {count:,} films of the {split} part, once")
        rows = context.evaluate(
            partial(_asked, net, options), state, split, phase.config.eval_batch, field=phase.field, classes=()
        )
        processes.together(lambda: files.write_array(path, rows["features"]) if processes.primary() else None)
    return files.map_array(path)


def _name(context: Context, phase: Bound, member: Member) -> str:
    config = phase.config.to_dict()
    fed = {key: config[key] for key in _FED_BY}
    begins = "" if config["weights"] and not config["carry"] else member.name
    facts = json.dumps([fed, begins, context.films.fingerprint], sort_keys=True, default=str)
    return f"{phase.config.net.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
