"""What a `:paper` variant says of its paper: epochs, films, noises, augmentations and types are the printed ones."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cxrjax.infer import arms, finished
from cxrjax.phases import members
from cxrjax.tasks import classify

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = {path.stem: runpy.run_path(str(path)) for path in sorted(FOLDER.glob("*.py"))}


def paper(name: str, variant: str = "paper") -> Any:
    return FILES[name]["get_config"](variant)


@pytest.mark.parametrize(("variant", "films"), [("paper", 78_468), ("merged", 124_273)])
def test_the_frozen_epochs_are_among_the_hundred(variant, films):
    c = paper("fcn_densenet", variant)
    epoch = films // 64
    assert c.fcn_head.steps in range(5 * epoch, 10 * epoch + 1)
    assert c.fcn_head.steps + c.fcn.steps == 100 * epoch


def test_kaggles_validation_films_are_trained_on():
    c = paper("kaggle4")
    assert c.data.split in ("", "archive")
    assert c.data.carve.val == 0
    assert {c[name].steps * c[name].batch // 100 for name in c.phases} == {15 * 6364 // 100}


def test_anoddpm_stands_beside_ours_as_published():
    c = paper("ddpm_cam")
    found = {arm.name: arm for arm in arms.of(c.study)}
    for name, noise, longest in (("anoddpm_simplex", "simplex", 800), ("uniform", "gaussian", 0)):
        phase = c[found[name].diffusion]
        assert found[name].mode == "uniform"
        assert found[name].diffusion in c.phases
        assert (phase.noise, phase.t_max, phase.carry, phase.steps) == (noise, longest, "", 300_000)
    simplex = c[found["anoddpm_simplex"].diffusion]
    published = paper("anoddpm").simplex
    assert simplex.simplex == published.simplex
    assert simplex.net == published.net
    assert (simplex.simplex.octaves, simplex.simplex.wavelength, simplex.simplex.persistence) == (6, 64.0, 0.8)


def test_the_decks_one_network_is_augmented_alike_and_turned_once():
    limits = set()
    for name in ("ddpm_cam", "anoddpm", "latent_ddpm_cam", "pneumonia_study"):
        c = paper(name)
        for phase in (c[p] for p in c.phases if c[p].get("warp", 0)):
            limits.add(phase.optical_limit)
            assert "rotate" not in phase.augment
    assert limits == {2.0}
    assert paper("pneumonia_study").densenet.augment == ("rotate",)  # the deck's fixed one, where there is no other


@pytest.mark.parametrize("name", ["cgan", "cdcgan"])
def test_all_images_are_the_generators_alone(name):
    """JBE 2020: features learned on 78,468 films and chosen on 11,219, distances to films that they did not learn."""
    c = paper(name, "paper_all_images")
    assert (c.gan.part, c.data.split, c.study.reference, c.study.cap) == ("all", "arnoweng", "held_out", 1000)
    assert abs(c.gan.steps * c.gan.batch / 112_120 - 20) < 0.01
    assert members.part_of(c, "features") == "train"
    assert (c.features.only, c.features.select, c.features.folds) == ("", "best", 0)
    if name == "cgan":
        assert abs(c.gan.tau_every * c.gan.batch / 112_120 - 5) < 0.01
    (warning,) = c.warnings
    assert "The paper does not say which films its generator saw" in warning
    assert len(c.data.classes) == 8
    net = classify.network(c.features, len(finished.classes_of(c, "features")))
    film = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    logits, _ = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x)[0], film)
    assert logits.shape == (1, 14)
    assert set(finished.classes_of(c, "features")) == set(FILES["fcn_densenet"]["CLASSES"])
    assert finished.classes_of(paper(name), "features") == finished.classes_of(c, "features")


@pytest.mark.parametrize("name", FILES)
def test_bfloat16_is_told_among_the_choices(name):
    found = set()
    for variant in FILES[name]["VARIANTS"]:
        c = FILES[name]["get_config"](variant)
        own = [p for p in (*c.phases, "use") if "net" in c.get(p, {})]
        found |= {f"{p}.net.dtype" for p in own if "dtype" in c[p].net}
    flat = {key for key in FILES[name]["CHOICES"] if key.endswith(".dtype")}
    assert found == flat
    assert found or "paper" not in FILES[name]["VARIANTS"], "a paper's networks are for accelerators"
