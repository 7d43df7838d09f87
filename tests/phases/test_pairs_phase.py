"""A phase that learns to tell patients apart, through the one train loop."""

from __future__ import annotations

import jax
import numpy as np

from cxrjax import data, defaults, phases
from cxrjax.phases import phase as phase_module
from cxrjax.phases.bind import bind
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes


def test_a_phase_of_pairs_trains_and_is_evaluated(tmp_path):
    c = defaults.run()
    c.data = defaults.data(
        "phantom", ("Normal", "Pneumonia"), 16, cache=str(tmp_path / "films"), num={"train": 8, "val": 4, "test": 2}
    )
    c.phases = ("identity",)
    net = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
    c.identity = defaults.identify(net, defaults.optim("adam", 1e-3), 2, 4)
    c.identity.update({"log_every": 1, "eval_every": 1, "eval_batch": 4})
    c.study = defaults.comparison({})
    films = data.prepare(c.data)
    with logs.Log(tmp_path) as log:
        context = phases.Context(
            c, films, bind(c, films, 1), tmp_path, meshes.make(1), jax.random.key(0), log, {}, {}
        )  # fmt: skip
        bound = context.phases["identity"]
        state = phase_module.train(context, bound, bound.members[0], phase_module.task_of(bound))
    assert state.step == 2
    assert np.isfinite(state.evals["best_loss"])
