"""Which films a phase is trained and evaluated on, and in which order."""

from __future__ import annotations

import collections
import itertools
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from cxrjax import data, phases
from cxrjax.errors import UserError
from cxrjax.phases import members
from cxrjax.phases import phase as phase_module
from cxrjax.tasks import TASKS
from cxrjax.train import loop
from cxrjax.train import mesh as meshes

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """The default configuration on 24 phantoms of 16 px."""
    config = runpy.run_path(str(CONFIGS / "ddpm_cam.py"))["get_config"]()
    config.data.update({"size": 16, "cache": str(tmp_path_factory.mktemp("films"))})
    config.data.num.update({"train": 24, "val": 10, "test": 6})
    config.diffusion.update({"batch": 7, "eval_batch": 8})
    return SimpleNamespace(config=config, films=data.prepare(config.data))


def normal_of(films: data.Prepared, split: str) -> np.ndarray:
    """Which films show nothing at all, read from the label columns and not by the code under test."""
    return np.flatnonzero((films.table(split)["labels"] == 0).all(axis=1))


def test_only_keeps_exactly_the_films_of_a_class(tiny):
    kept = members.only(tiny.films, "train", tiny.config.diffusion.only)
    assert kept is not None
    np.testing.assert_array_equal(kept, normal_of(tiny.films, "train"))
    assert 0 < len(kept) < 24
    assert members.only(tiny.films, "train", "") is None
    sick = members.only(tiny.films, "train", "Pneumonia")
    assert sick is not None
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, sick])), np.arange(24))
    with pytest.raises(UserError, match="Normals"):
        members.only(tiny.films, "train", "Normals")


def test_fewer_patients_are_drawn_from_what_a_member_may_see_or_told_to_be_missing(tiny):
    config = tiny.config.copy_and_resolve_references()

    def kept(count: int, **changes: Any) -> list[set[int]]:
        config.classifier.update({"patients": count, "folds": 0, "only": "", **changes})
        found = members.of(config, tiny.films, "classifier")
        return [set(range(24)) if member.keep is None else set(member.keep.tolist()) for member in found]

    (few,), (more,), (every,) = kept(5), kept(11), kept(24)
    assert (len(few), len(more), len(every)) == (5, 11, 24)  # a phantom is a patient
    assert few < more < every
    sick = set(range(24)) - set(normal_of(tiny.films, "train").tolist())
    assert few & sick
    assert few - sick
    (normal,) = kept(4, only="Normal")
    assert len(normal) == 4
    assert not normal & sick
    whole, part = kept(0, folds=3), kept(6, folds=3)
    assert all(len(some) == 6 and some < rest for some, rest in zip(part, whole, strict=True))
    config.classifier.patients = 25
    config.classifier.folds = 0
    with pytest.raises(UserError, match="classifier: patients is 25, and there are 24 to train on; expected 1 to 24"):
        phases.check_films(config, tiny.films, 1)


def caught(tiny: SimpleNamespace, workdir: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> dict[str, Any]:
    """What a phase hands to the train loop."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(loop, "fit", lambda task, phase, **rest: given.update(rest))
    log: Any = SimpleNamespace(say=lambda message: None)
    context = phases.Context(tiny.config, tiny.films, workdir, meshes.make(), jax.random.key(0), log, {}, {})
    bound = context.phases[phase]
    phase_module.train(context, bound, bound.members[0], TASKS[bound.config.task](bound.config, bound.classes))
    return given


def test_the_diffusion_phase_trains_on_every_normal_film_and_on_no_other(tiny, tmp_path, monkeypatch):
    given = caught(tiny, tmp_path, monkeypatch, "diffusion")
    normal = normal_of(tiny.films, "train")
    assert len(normal) % 7 == 0  # so that three epochs are whole batches
    batches = list(itertools.islice(given["stream"], 3 * len(normal) // 7))
    given["stream"].close()
    column = tiny.config.data.classes.index("Normal")
    assert all((batch.label[:, column] == 1).all() for batch in batches)
    seen = collections.Counter(np.concatenate([batch.index for batch in batches]).tolist())
    assert seen == dict.fromkeys(normal.tolist(), 3)
    stored = data.films(tiny.films, "train", batches[0].index)
    np.testing.assert_array_equal(batches[0].image, stored["image"])
    np.testing.assert_array_equal(stored["image"], stored["twin"])  # a normal phantom is its own twin


def test_the_diffusion_phase_is_evaluated_on_normal_films_too(tiny, tmp_path, monkeypatch):
    given = caught(tiny, tmp_path, monkeypatch, "diffusion")
    index = np.concatenate([batch.index[batch.valid > 0] for batch in given["evals"]()])
    np.testing.assert_array_equal(np.sort(index), normal_of(tiny.films, "val"))


def test_the_classifiers_see_both_kinds_and_orders_of_their_own(tiny, tmp_path, monkeypatch):
    orders = []
    for phase in ("classifier", "judge"):
        tiny.config[phase].batch = 24
        stream = caught(tiny, tmp_path, monkeypatch, phase)["stream"]
        orders.append(next(stream).index.tolist())
        stream.close()
        assert sorted(orders[-1]) == list(range(24))
    assert orders[0] != orders[1]
