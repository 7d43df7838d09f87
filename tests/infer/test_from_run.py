"""Phases taken from a finished run: the same network fed and read the same, its seeds too, on the same films."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrjax import defaults, run
from cxrjax.errors import UserError
from cxrjax.infer import finished

NET = {"name": "resnet_tiny", "blocks": (1,), "widths": (4,)}


def config(cache: Path, **phase: Any) -> Any:
    """A comparison of one classifier of two seeds, on 12 phantoms."""
    c = defaults.run(compile_cache=os.environ["JAX_COMPILATION_CACHE_DIR"])
    c.mesh.devices = 1
    c.data = defaults.data(
        "phantom", ("Normal", "Pneumonia"), 16, cache=str(cache), num={"train": 16, "val": 8, "test": 12},
        normal_share=0.5,
    )  # fmt: skip
    shared = {"log_every": 1, "save_every": 1, "seeds": 2, "eval_batch": 16}
    c.phases = ("net",)
    c.net = defaults.classify(NET, defaults.optim("adam", 1e-2), 1, 8, **shared)
    c.net.update(phase)
    c.study = defaults.comparison({"net": "a network"})
    return c


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("from_run")
    assert run.run(config(folder / "films"), choices={}, workdir=folder / "first", command="") == 0
    return folder


def test_seeds_of_a_compared_classifier_are_taken_with_their_predictions(ended: Path) -> None:
    again = config(ended / "films", from_run=str(ended / "first"), steps=99)
    assert run.run(again, choices={}, workdir=ended / "second", command="") == 0
    for name in ("net_0.npz", "net_1.npz"):
        one, other = (np.load(ended / part / "predictions" / name) for part in ("first", "second"))
        np.testing.assert_array_equal(one["logits"], other["logits"])
    assert not (ended / "second" / "checkpoints").exists()  # nothing was trained
    manifest = json.loads((ended / "second" / "manifest.json").read_text())
    assert manifest["weights"]["net"] == f"run {ended / 'first'}"


def test_other_films_are_refused(ended: Path) -> None:
    other = config(ended / "films", from_run=str(ended / "first"))
    other.data.seed = 1
    with pytest.raises(UserError, match=r"net: .*its films or their parts are others"):
        run.run(other, choices={}, workdir=ended / "third", command="")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ema", 0.5), ("normalize", "unit"), ("channels", 3), ("crop", 8), ("border", 0.1), ("loss", "sigmoid"),
        ("tta", ("flip",)), ("seeds", 1), ("input", "enh"),
    ],
)  # fmt: skip
def test_a_network_fed_or_read_otherwise_is_refused_by_key(ended: Path, key: str, value: Any) -> None:
    other = config(ended / "films")
    with other.ignore_type():
        other.net[key] = value
    with pytest.raises(UserError, match=rf"{key} is .* there and {value!r} here"):
        finished.check_same(str(ended / "first"), "net", other)
    other = config(ended / "films", steps=99, batch=4, warp=4, label_smoothing=0.1)  # how it was trained may differ
    finished.check_same(str(ended / "first"), "net", other)


@pytest.mark.parametrize("key", ["num_timesteps", "noise", "simplex.wavelength", "ema", "t_max", "prediction"])
def test_a_diffusion_that_samples_otherwise_is_refused(tmp_path: Path, key: str) -> None:
    def record(**changes: Any) -> Any:
        c = defaults.run()
        c.data = defaults.data("phantom", ("Normal", "Pneumonia"), 16)
        c.phases = ("diffusion",)
        c.diffusion = defaults.diffusion({"name": "unet_tiny"}, defaults.optim("adamw", 1e-3), 10, 2)
        c.update_from_flattened_dict({f"diffusion.{name}": value for name, value in changes.items()})
        return c

    written = json.loads(json.dumps(record().to_dict()))
    (tmp_path / "manifest.json").write_text(json.dumps({"finished": True, "config": written}))
    finished.check_same(str(tmp_path), "diffusion", record(steps=99))
    values = {"num_timesteps": 500, "noise": "simplex", "simplex.wavelength": 8.0, "ema": 0.5, "t_max": 400}
    with pytest.raises(UserError, match=key.partition(".")[0]):
        finished.check_same(str(tmp_path), "diffusion", record(**{key: values.get(key, "v")}))
