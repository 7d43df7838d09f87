"""Every config file: it names only what there is, its study accepts it, and each open choice is a key with a reason."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxrjax import manifest, phases
from cxrjax.errors import UserError
from cxrjax.studies import STUDIES
from cxrjax.tasks import TASKS
from cxrjax.train import mesh as meshes

FOLDER = Path(__file__).resolve().parents[2] / "configs"


CONFIGS = {path.stem: SimpleNamespace(**runpy.run_path(str(path))) for path in sorted(FOLDER.glob("*.py"))}
VARIANTS = [(name, variant) for name, module in CONFIGS.items() for variant in ("default", *module.VARIANTS)]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_variant_is_one_that_its_study_and_tasks_accept(name, variant):
    config = CONFIGS[name].get_config(variant).lock()
    STUDIES[config.study.name].check(config)
    for phase in config.phases:
        if config[phase].task != "grid":
            assert callable(TASKS[config[phase].task](config[phase], tuple(config.data.classes) or ("a", "b")).step)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_choice_is_a_key_of_a_variant_and_says_why(name):
    flat = {}
    for variant in (*CONFIGS[name].VARIANTS, "default"):
        flat |= manifest.flatten(CONFIGS[name].get_config(variant).to_dict())
    for key, (alternatives, source) in CONFIGS[name].CHOICES.items():
        assert len(source) > 3, key
        if key.endswith(".net.dtype"):
            continue  # of `:paper` alone, see test_papers
        assert key in flat
        if (
            ... not in alternatives
            and all(isinstance(a, str) for a in alternatives)
            and not isinstance(flat[key], tuple)
        ):
            assert flat[key] in alternatives, key


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name, variant in VARIANTS if "smoke" in variant and name != "ddpm_cam"]
)
def test_a_smoke_variant_could_begin(name, variant):
    config = CONFIGS[name].get_config(variant).lock()
    phases.check(config, meshes.make())


def test_what_could_not_begin_is_told_by_phase_and_key():
    def broken(**changes):
        config = CONFIGS["fcn_densenet"].get_config("smoke")
        for key, value in changes.items():
            config.update_from_flattened_dict({key.replace("__", "."): value})
        return config

    for changes, message in (
        ({"fcn__carry": "fcn_heat"}, "fcn: .*did you mean 'fcn_head'"),
        ({"fcn__batch": 3}, "fcn: batch is 3"),
        ({"fcn__net__activation": "relu"}, "fcn: net is not that of fcn_head"),
        ({"fcn__folds": 3}, "fcn: folds is 3, that of fcn_head 0"),
        ({"fcn__optim__name": "sgd"}, "fcn: carry_opt"),
        ({"fcn__patients": 64}, "fcn: patients is 64, that of fcn_head 0: its weights would have seen more"),
        ({"fcn__weights": "x.safetensors"}, "fcn: .*give fcn_head.weights"),
        ({"fcn__crop": 64}, "fcn: crop is 64"),
        ({"fcn__optim_from": "fcn_head"}, "fcn: .*optim_from"),
        ({"chexnet__weights": "/no/such.safetensors"}, r"chexnet: .*no/such\.safetensors"),
    ):
        with pytest.raises(UserError, match=message):
            phases.check(broken(**changes), meshes.make())
    config = broken(study__maps="fnc")
    with pytest.raises(UserError, match=r"study\.maps.*did you mean"):
        STUDIES["comparison"].check(config)
    config = broken(fcn__loss="softmax")
    with pytest.raises(UserError, match="exclusive"):
        STUDIES["comparison"].check(config)
