"""What a config compares is trained alike, whichever variant, but for those that are a paper's own."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from cxrjax.studies import footing
from cxrjax.studies.classification import comparison, phase_loss

FOLDER = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = {path.stem: runpy.run_path(str(path)) for path in sorted(FOLDER.glob("*.py"))}
OWN = ("paper", "merged")  # recipes that papers print
VARIANTS = [
    (name, variant)
    for name, module in CONFIGS.items()
    for variant in ("default", *module["VARIANTS"])
    if not any(word in variant for word in OWN)
]
PAIRED = [(name, variant) for name, variant in VARIANTS if CONFIGS[name]["get_config"](variant).study.get("pairs")]


def sides(name, variant, **changes):
    config = CONFIGS[name]["get_config"](variant)
    config.data.classes = config.data.classes or ("a", "b")
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return comparison.sides(config, config.study.pairs)


@pytest.mark.parametrize(("name", "variant"), PAIRED)
def test_pairs_are_trained_alike(name, variant):
    assert footing.notes(sides(name, variant)) == []


@pytest.mark.parametrize("variant", [v for n, v in VARIANTS if n == "phase_loss"])
def test_the_arms_of_an_effect_are_trained_alike(variant):
    config = CONFIGS["phase_loss"]["get_config"](variant)
    every = [pair for a, b in phase_loss.EFFECTS.values() for pair in zip(a, b, strict=True)]
    pairs = [pair for pair in every if set(pair) <= set(config.phases)]
    assert len(pairs) >= 4
    assert footing.notes(comparison.sides(config, pairs), by_seed=True) == []


def generators(variant, **changes):
    ours, base = (CONFIGS[name]["get_config"](variant) for name in ("cgan", "cdcgan"))
    base.gan.update(changes)
    return [(footing.Side("proposed", ours, "gan"), footing.Side("baseline", base, "gan"))]


@pytest.mark.parametrize("variant", ["default", *(v for n, v in VARIANTS if n == "cdcgan")])
def test_a_generator_and_its_baseline_are_trained_alike(variant):
    assert footing.notes(generators(variant)) == []


def test_a_generator_that_updates_more_often_or_is_larger_is_told():
    (said,) = footing.notes(generators("default", ratio=1))
    assert said.endswith("proposed and baseline in updates of the generator (1,000 against 2,000).")
    (said,) = footing.notes(generators("default", ratio_mode="all_d_per_batch"))
    assert "generator (1,000 against 2,000), updates of the discriminator (2,000 against 4,000)" in said
    (said,) = footing.notes(generators("default", net={"features": 24, "d_features": 32}))
    assert "generator (289,248 against 486,481), parameters of the discriminators (367,350 against 695,713)" in said


def test_a_pair_that_was_trained_otherwise_is_told_with_both_values():
    (said,) = footing.notes(sides("fcn_densenet", "default", fcn__steps=400, chexnet__optim__patience=1))
    assert "fcn and chexnet in films seen (13,440 against 8,320), films of patience (8,000 against 1,600)" in said
    (said,) = footing.notes(sides("kaggle4", "default", resnet18_augmented__steps=200))
    assert "resnet18_augmented and resnet18 in films seen (12,800 against 9,600)" in said
    assert "augmentation (crop + flip + rotate against none)" in said
    (said,) = footing.notes(sides("pneumonia_study", "default", tuned__seeds=3, tuned__warp=4))
    assert "tuned and base in augmentation (rotate + warp 4 against rotate), seeds (3 against 1)" in said


def test_the_one_thing_that_a_pair_compares_is_not_told():
    assert footing.notes(sides("kaggle4", "default")) == []  # augmentation
    assert footing.notes(sides("pneumonia_study", "default")[:2]) == []  # the head's width
    config = CONFIGS["kaggle4"]["get_config"]("default")
    config.other = config.resnet18.copy_and_resolve_references()
    config.other.update({"steps": 300, "eval_every": 100})
    assert footing.notes(comparison.sides(config, [("other", "resnet18")])) == []
    config.other.batch = 32  # as many films by smaller steps
    both = comparison.sides(config, [("other", "resnet18"), ("other", "cnn5")])
    assert footing.notes(both) == []
    config.other.batch = 16
    (said,) = footing.notes(both)
    assert said.count("in films seen (4,800 against 9,600)") == 2
