"""What a `:paper` variant says of its paper: epochs, films, noises, augmentations and types are the printed ones."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from cxrjax.infer import arms

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


@pytest.mark.parametrize("name", FILES)
def test_bfloat16_is_told_among_the_choices(name):
    found = set()
    for variant in FILES[name]["VARIANTS"]:
        c = FILES[name]["get_config"](variant)
        own = [p for p in (*c.phases, "use") if "net" in c.get(p, {})]
        found |= {f"{p}.net.dtype" for p in own if "dtype" in c[p].net}
    flat = {key for key in FILES[name]["CHOICES"] if key.endswith(".dtype")}
    assert found == flat
    assert found, "a paper's networks are for accelerators"
