"""The newcomer's config: classes left open, starts on one footing, one key for the drawn start, which fits."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax import defaults
from cxrjax.data import corruptions, phantom
from cxrjax.phases.backbones import SHOWN_BY
from cxrjax.studies import footing

FILE = Path(__file__).resolve().parents[2] / "configs" / "transfer.py"
get_config = runpy.run_path(str(FILE))["get_config"]


@pytest.mark.parametrize("variant", ["default", "starts"])
def test_a_folders_names_are_the_classes_and_every_damage_is_tried(variant):
    c = get_config(variant)
    assert (c.data.name, c.data.classes) == ("folder", ())
    corruptions.check(c.study.robustness.kinds, "kinds")
    assert set(c.study.robustness.kinds) == set(corruptions.KINDS)


def test_the_drawn_start_is_one_key_and_its_run_fits():
    c = get_config("starts").lock()
    heads = [name for name in c.phases if name.startswith("drawn_") and name.endswith("_head")]
    assert len(heads) == len(c.study.curve.sizes)
    c.drawn.weights = "elsewhere"
    assert {c[name].weights for name in heads} == {"elsewhere"}
    drawn = get_config("drawn").drawn
    assert drawn.net.to_dict() == c.drawn_all.net.to_dict()
    assert {key: drawn[key] for key in SHOWN_BY} == {key: c.drawn_all_head[key] for key in SHOWN_BY}


def test_every_start_takes_as_many_steps_of_the_same_batches_on_each_size():
    c = get_config("starts")
    c.data.classes = ("a", "b")
    for size in c.study.curve.sizes:
        ends = [defaults.point(start, size) for start, _ in c.study.curve.starts]
        steps = {(c[f"{end}_head"].steps, c[f"{end}_head"].batch, c[end].steps, c[end].batch) for end in ends}
        assert len(steps) == 1
        assert {c[end].patients for end in ends} == {c[f"{end}_head"].patients for end in ends} == {size}
    sides = [footing.Side(name, c, name) for name in ("imagenet_0064", "random_0064")]
    assert footing.notes([tuple(sides)]) == []


@pytest.mark.slow
def test_a_folder_a_class_ends_in_a_page_with_curve_damage_and_films_from_elsewhere(tmp_path):
    for i in range(60):
        name = ("Normal", "Pneumonia")[i % 2]
        film = phantom.render(7000 + i, 40, {"Pneumonia": 0.8} if i % 2 else {}).image
        (tmp_path / "films" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(film).save(tmp_path / "films" / name / f"{i}.png")
    main = FILE.parents[1] / "launch" / "main.py"
    command = [
        sys.executable, str(main), f"--config={FILE}:smoke", f"--workdir={tmp_path / 'run'}",
        "--config.data.name=folder", f"--config.data.root={tmp_path / 'films'}", "--config.data.classes=()",
        f"--config.data.cache={tmp_path / 'cache'}",
        f"--config.compile_cache={os.environ['JAX_COMPILATION_CACHE_DIR']}",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ""}, capture_output=True)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["robustness"]) == ["imagenet_all_head", "imagenet_all", "logreg32"]
    assert list(results["curve"]["logreg32"]) == ["16", "32", "36"]
    assert list(results["external"]) == ["elsewhere"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(f'id="figure-{name}"' in page for name in ("curve", "robustness", "external", "roc"))
    assert "60 of 60 films have no patient id" in page
    ask = [sys.executable, str(main.with_name("predict.py")), f"--workdir={tmp_path / 'run'}"]
    ask += [f"--input={tmp_path / 'films'}", f"--out={tmp_path / 'said'}"]
    subprocess.run(ask, check=True, env={**os.environ, "XLA_FLAGS": ""}, capture_output=True)
    said = json.loads((tmp_path / "said" / "predictions.json").read_text())
    assert said["classifier"] == "imagenet_all"  # the fine-tuned one, not the head that it goes on from
    assert said["temperature"] > 0
    with np.load(tmp_path / "run" / "predictions" / "imagenet_all.npz") as kept:
        told = {Path(one["film"]).stem: one["probability"]["Pneumonia"] for one in said["films"]}
        keys = [Path(str(key)).stem for key in kept["key"]]
        np.testing.assert_allclose([told[key] for key in keys], kept["probability"][:, 1], atol=1e-4)
