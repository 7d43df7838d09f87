"""The arm that begins on generated films: what it begins with, and how many steps it takes on films of patients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cxrjax.studies.synthesis import use
from cxrjax.types import State

CONFIG = ConfigDict({"seed": 0, "data": {"size": 8}, "use": {
    "steps": 7, "log_every": 1, "save_every": 5, "batch": 4, "carry_opt": False,
}})  # fmt: skip


def state(name: str) -> State:
    return State(step=0, params={"net": name}, stats={"net": name}, opt={"net": name}, ema={}, frozen={}, evals={})


def context(calls: list[Any]) -> Any:
    def fit(task: Any, phase: Any, *, stream: Any, carry: Any, **_: Any) -> State:
        calls.append((phase.name, phase.steps, stream, carry(state("fresh")) if carry else None))
        return state(phase.name)

    return SimpleNamespace(
        config=CONFIG, key=jax.random.key(0), mesh=SimpleNamespace(size=1), classes=("Mass",), fit=fit, shard=(0, 1),
        batches=lambda **options: ("patients", options),
    )  # fmt: skip


def test_the_pretrained_arm_goes_on_from_the_generated_ones_weights_for_as_many_steps(monkeypatch):
    monkeypatch.setattr(use, "_stream", lambda context, arm, *_: arm)
    calls: list[Any] = []
    films, condition = (np.zeros((1, 8, 8)), np.zeros((1, 1))), np.zeros(1)
    end = use._fitted(context(calls), None, "pretrained", 1, films, condition)
    (first, second), begun = [call[:3] for call in calls], calls[1][3]
    assert (first, second) == (("use/made_1", 7, "made"), ("use/pretrained_1", 7, "pretrained"))
    assert calls[0][3] is None
    assert (begun.params["net"], begun.stats["net"], begun.opt["net"]) == ("use/made_1", "use/made_1", "fresh")
    assert end.params["net"] == "use/pretrained_1"
    calls.clear()
    use._fitted(context(calls), None, "real", 1, films, condition)
    assert [call[:3] for call in calls] == [("use/real_1", 7, "real")]


def test_the_pretrained_arm_sees_films_of_patients_alone_after_the_generated_ones():
    films, condition = (np.zeros((1, 8, 8)), np.zeros((1, 1))), np.zeros(1, int)
    real, late = (use._stream(context([]), arm, films, condition, 5) for arm in ("real", "pretrained"))
    assert real == late == ("patients", {"seed": 5, "batch_size": 4, "augment": ()})
    assert set(use.ARMS) >= {"real", "real_and_made", "made", "pretrained"}
