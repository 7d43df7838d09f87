"""The words that a mistake is told by before jax is imported are those of the code."""

import importlib
import runpy
from pathlib import Path

import pytest

from cxrjax.data import sources, transforms
from cxrjax.defaults import names
from cxrjax.ops import adversarial, conditions, diffusion, inputs, losses
from cxrjax.phases import grid
from cxrjax.studies import STUDIES
from cxrjax.tasks import TASKS, cells, ddpm, gan

build = importlib.import_module("cxrjax.models.build")  # the package shows its function of that name
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (names.CLASSIFIERS, {*build.BACKBONES, *build.PRESETS}),
        (names.RUN["study.name"], STUDIES),
        (names.RUN["data.name"], sources.SOURCES),
        (names.PHASE["task"], {*TASKS, "grid"}),
        (names.TASK, {*TASKS, "grid"}),
        (names.PHASE["augment"], transforms.TRANSFORMS),
        (names.TASK["classify"]["loss"], losses.LOSSES),
        (names.TASK["classify"]["normalize"], inputs.NORMALIZATIONS),
        (names.TASK["ddpm"]["net.name"], build.DENOISERS),
        (names.TASK["ddpm"]["schedule"], diffusion.SCHEDULES),
        (names.TASK["ddpm"]["time"], ddpm.TIMES),
        (names.TASK["autoencoder"]["net.name"], build.AUTOENCODERS),
        (names.TASK["gan"]["loss"], adversarial.ADVERSARIAL),
        (names.TASK["gan"]["ratio_mode"], gan.RATIO_MODES),
        (names.TASK["gan"]["normal"], conditions.NORMALS),
        (names.TASK["grid"]["optimizers"], grid.OPTIMIZERS),
        (names.TASK["grid"]["strategy"], grid.STRATEGIES),
        (names.TASK["grid"]["metric"], cells.FIGURES),
    ],
)
def test_words_are_those_of_the_code(words, code):
    assert set(words) == set(code)


def test_optimizers_are_those_of_the_code():
    from cxrjax.defaults import optim
    from cxrjax.train import optim as made

    for name in names.PHASE["optim.name"]:
        made.make(optim(name, 1e-3), 10)
    for schedule in names.PHASE["optim.schedule"]:
        made.make(optim("adam", 1e-3, schedule=schedule), 10)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_variant_has_known_words(path):
    module = runpy.run_path(str(path))
    for variant in ("default", *module["VARIANTS"]):
        assert not list(names.wrong(module["get_config"](variant)))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("judge.optim.name", "adm", ("adm", names.PHASE["optim.name"])),
        ("diffusion.schedule", "cosin", ("cosin", names.TASK["ddpm"]["schedule"])),
        ("judge.net.name", "resnet_tyni", ("resnet_tyni", names.CLASSIFIERS)),
        ("study.name", "progres", ("progres", names.RUN["study.name"])),
        ("classifier.augment", ("flip", "rotat"), ("rotat", names.PHASE["augment"])),
    ],
)
def test_a_wrong_word_is_found_with_those_it_could_be(key, value, words):
    config = runpy.run_path(str(CONFIGS / "ddpm_cam.py"))["get_config"]("smoke")
    *sections, last = key.split(".")
    section = config
    for part in sections:
        section = section[part]
    with section.unlocked(), section.ignore_type():
        section[last] = value
    assert list(names.wrong(config)) == [(key, *words)]
