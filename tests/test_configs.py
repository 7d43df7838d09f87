"""The configurations: published sizes, bounded work, two unlike judges, normal films for the diffusion."""

from __future__ import annotations

import collections
import importlib.util
import itertools
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import data, manifest, phases
from cxrjax.data import labels
from cxrjax.infer import arms
from cxrjax.ops import guidance
from cxrjax.phases import members
from cxrjax.phases import phase as phase_module
from cxrjax.studies import STUDIES
from cxrjax.tasks import TASKS, classify, ddpm
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import UserError

FILE = Path(__file__).resolve().parents[1] / "configs" / "ddpm_cam.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ddpm_cam", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load()
VARIANTS = ("default", *MODULE.VARIANTS)


def count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(net: Any, size: int, *more: Any) -> Any:
    film = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), film, *more)["params"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_names_only_what_there_is(variant):
    config = MODULE.get_config(variant)
    assert config.study.name in STUDIES
    assert {config.study[f"{role}_phase"] for role in ("cam", "judge", "diffusion")} <= set(config.phases)
    for name in config.phases:
        task = TASKS[config[name].task](config[name], tuple(config.data.classes))  # raises where an option is unknown
        assert callable(task.step)
    assert {arm.mode for arm in arms.of(config.study)} <= set(guidance.MODES)
    assert config.data.classes[0] == labels.NORMAL


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_changes_values_and_forgets_none(variant):
    """Every key that the default's phases and study have is there still, so that no reader meets a missing one."""
    config, default = MODULE.get_config(variant), MODULE.get_config()
    for section in ("classifier", "judge", "diffusion", "study", "data"):
        missing = set(default[section]) - set(config[section])
        assert not missing, section
    assert set(config.diffusion.optim) == set(default.diffusion.optim)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_choice_is_a_key_and_the_default_is_among_the_alternatives(variant):
    flat = manifest.flatten(MODULE.get_config(variant).to_dict())
    assert set(MODULE.CHOICES) <= set(flat)
    for key, (alternatives, source) in MODULE.CHOICES.items():
        assert len(source) > 3, key
        if ... not in alternatives and key != "study.modes":
            assert flat[key] in alternatives, key


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_film_is_diffused_further_than_the_network_was_trained(variant):
    config = MODULE.get_config(variant)
    assert max(config.study.lambdas) <= (config.diffusion.t_max or config.diffusion.num_timesteps)
    assert max(config.study.lambdas) <= config.diffusion.num_timesteps


@pytest.mark.parametrize("variant", VARIANTS)
def test_long_strides_use_the_small_variance(variant):
    sampler = MODULE.get_config(variant).study.sampler
    assert sampler.stride == 1 or sampler.variance == "small"


def test_the_default_walks_at_most_sixty_steps_a_series():
    study = MODULE.get_config().study
    assert 0 < sum(math.ceil(lam / study.sampler.stride) for lam in study.lambdas) <= 60


def test_the_paper_variant_has_the_published_networks():
    config = MODULE.get_config("paper")
    assert config.data.size == 256
    unet = shapes(ddpm.network(config.diffusion), 256, jax.ShapeDtypeStruct((1,), jnp.int32))
    assert count(unet) == 131_649_793
    classifier = shapes(classify.network(config.classifier, 2), 256)
    assert count(classifier) == 9_050_882
    assert count(classifier["backbone"]) == 6_947_584


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("phase", ["classifier", "judge"])
def test_the_last_map_is_fine_enough_to_guide_by(variant, phase):
    config = MODULE.get_config(variant)
    net = classify.network(config[phase], len(config.data.classes))
    film = jax.ShapeDtypeStruct((1, config.data.size, config.data.size, 1), jnp.float32)
    _, endpoints = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x)[0], film)
    assert min(endpoints["features"].shape[1:3]) >= 8


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_judge_is_another_network_than_the_one_that_makes_the_map(variant):
    config = MODULE.get_config(variant)
    assert config.study.cam_phase != config.study.judge_phase
    cam, judge = config[config.study.cam_phase], config[config.study.judge_phase]
    assert cam.net.name != judge.net.name
    nets = [classify.network(c, 2) for c in (cam, judge)]
    assert type(nets[0].backbone) is not type(nets[1].backbone)
    keys = [members.name_key(jax.random.key(config.seed), name) for name in (config.study.cam_phase, "judge")]
    assert not np.array_equal(jax.random.key_data(keys[0]), jax.random.key_data(keys[1]))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """The default configuration on 24 phantoms of 16 px."""
    config = MODULE.get_config()
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
