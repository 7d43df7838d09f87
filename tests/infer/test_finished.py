"""A finished run from Python: its networks by name, films at the door, and what they give; no study is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny import SIZE

from cxrjax.errors import UserError
from cxrjax.infer import classifier as classifiers
from cxrjax.infer.finished import Run
from cxrjax.tasks import TASKS, classify
from cxrjax.types import Batch


@pytest.fixture
def run(tiny_run: Run) -> Run:
    return tiny_run


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE), np.uint8)


def test_importing_the_package_imports_no_jax() -> None:
    code = "import sys, cxrjax; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_says_what_it_holds(run: Run) -> None:
    assert run.classifiers == ("classifier", "judge", "independent", "cam_network")
    assert run.classes == ("Normal", "Pneumonia")
    assert run.results == {"classifier": {}}


def test_probabilities_are_the_networks_own_by_class(run: Run, films: np.ndarray) -> None:
    found = run.classifier("independent").predict(films)
    config, state = run.config.judge, run.state("judge")
    batch = Batch.blank(3, SIZE, 2).replace(image=(films[..., None] / 255).astype(np.float32))
    rows = TASKS["classify"](config, run.classes).predict(state, jax.tree.map(jnp.asarray, batch), jax.random.key(0))
    expected = classify.scores(classify.options_of(config), np.asarray(rows["logits"]))
    assert list(found) == ["Normal", "Pneumonia"]
    np.testing.assert_allclose(found["Pneumonia"], expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(found["Normal"] + found["Pneumonia"], 1)
    assert not np.allclose(found["Normal"], run.classifier("cam_network").predict(films)["Normal"])


def test_paths_bytes_and_floats_are_one_film(run: Run, films: np.ndarray, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, film in zip(paths, films, strict=True):
        Image.fromarray(film).save(path)
    judge = run.classifier("judge")
    expected = judge.predict(films)["Normal"]
    for same in (paths, [str(path) for path in paths], films.astype(np.float32) / 255, films[..., None]):
        np.testing.assert_allclose(judge.predict(same)["Normal"], expected, atol=1e-6)
    np.testing.assert_allclose(judge.predict(paths[0])["Normal"], expected[:1], atol=1e-6)
    large = np.repeat(np.repeat(films, 2, axis=1), 3, axis=2)  # (3, 32, 48)
    assert judge.predict(large)["Normal"].shape == (3,)
    np.testing.assert_allclose(judge.predict(large)["Normal"], judge.predict(large / 255)["Normal"], atol=1e-2)


def test_16_bit_files_are_read_at_the_depth_that_the_runs_were(run: Run, tmp_path: Path) -> None:
    """Films of up to 10 bits, of a run that took its own to hold 12: four times darker than at their own depth."""
    values = np.random.default_rng(3).integers(0, 1024, (2, SIZE, SIZE)).astype(np.uint16)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, film in zip(paths, values, strict=True):
        Image.fromarray(film).save(path)
    films = (np.rint(values * (255 / 4095)) / 255).astype(np.float32)
    judge, codec = run.classifier("judge"), run.autoencoder()
    np.testing.assert_allclose(judge.predict(paths)["Normal"], judge.predict(films)["Normal"], atol=1e-6)
    np.testing.assert_allclose(codec.encode(paths), codec.encode(films), atol=1e-6)
    treated, expected = (run.treat(these, mode="uniform", lam=100, own_size=True) for these in (paths, films))
    np.testing.assert_allclose(treated.films, expected.films, atol=1e-4)
    np.testing.assert_allclose(treated.own, expected.own, atol=1e-4)
    Image.fromarray(values[0] * 8).save(paths[0])
    with pytest.raises(UserError, match=r"0\.png: values up to 7,992 need more than data\.bit_depth, 12 bits"):
        judge.predict(paths)


def test_features_are_the_pooled_last_map(run: Run, films: np.ndarray) -> None:
    judge = run.classifier("judge")
    image = jnp.asarray(films[..., None] / np.float32(255))
    _, endpoints = judge.net.apply(judge.variables["net"], classifiers.seen(judge, image))
    found = judge.features(films)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, endpoints["features"].mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\); expected paths"),
        (np.zeros((1, 4, 4), int), "array of int64"),
        (np.full((1, 20, 20), 255.0), r"floats from 255 to 255.*divide"),
        (np.full((1, 20, 20), np.nan), "floats from nan"),
        ([], "there are no films"),
        (["/no/such/film.png"], r"/no/such/film\.png"),
    ],
)
def test_films_are_checked_at_the_door(run: Run, bad: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run.classifier("judge").predict(bad)


def test_a_map_is_of_the_class_asked_for_at_the_runs_size(run: Run, films: np.ndarray) -> None:
    seeing = run.classifier("cam_network")
    maps = {name: seeing.map(films, name) for name in run.classes}
    image = jnp.asarray(films[..., None] / np.float32(255))
    for c, name in enumerate(run.classes):
        expected, _ = classifiers.class_map(seeing, image, jnp.int32(c))
        np.testing.assert_allclose(maps[name], expected, atol=1e-5)
    assert not np.allclose(maps["Normal"], maps["Pneumonia"])
    with pytest.raises(UserError, match="did you mean 'Pneumonia'"):
        seeing.map(films, "Pnuemonia")


def test_a_treatment_returns_what_lies_outside_its_mask_and_enlarges_no_more_than_the_change(run: Run) -> None:
    films = np.random.default_rng(2).random((2, 40, 32)).astype(np.float32)
    one = run.treat(films, mode="time_gated_hard", lam=200, seed=3, own_size=True)
    assert one.films.shape == one.mask.shape == (2, SIZE, SIZE)
    small = np.stack([np.asarray(Image.fromarray(f).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for f in films])
    outside = one.mask == 0
    assert 0 < outside.mean() < 1
    np.testing.assert_allclose(one.films[outside], small[outside], atol=1e-6)
    assert np.abs(one.films - small)[~outside].mean() > 1e-3
    assert one.own is not None
    assert [film.shape for film in one.own] == [(40, 32)] * 2
    where = np.stack([np.asarray(Image.fromarray(m).resize((32, 40), Image.Resampling.BILINEAR)) for m in one.mask])
    np.testing.assert_allclose(np.stack(one.own)[where == 0], films[where == 0], atol=1e-6)
    again = run.treat(films[:1], mode="time_gated_hard", lam=200, seed=3)
    np.testing.assert_allclose(again.films, one.films[:1], atol=1e-4)  # a film's noise is its own among more films
    assert not np.allclose(run.treat(films[:1], mode="time_gated_hard", lam=200, seed=4).films, again.films)


def test_an_arm_of_the_study_is_a_mode_too(run: Run, films: np.ndarray) -> None:
    plain, wide = (run.treat(films, mode=mode, lam=100) for mode in ("time_gated", "wide"))
    np.testing.assert_allclose(wide.mask, np.sqrt(plain.mask), atol=1e-5)


def test_latents_come_back_as_films(run: Run, films: np.ndarray) -> None:
    codec = run.autoencoder()
    z = codec.encode(films)
    assert z.shape[0] == 3
    assert codec.decode(z).shape == films.shape
    with pytest.raises(UserError, match=r"shape \(3, 2\)"):
        codec.decode(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda run: run.classifier("judg"), "did you mean 'judge'"),
        (lambda run: run.classifier(), r"2 classifiers \(classifier, judge\): name one"),
        (lambda run: run.generator(), "0 phases of task 'gan'"),
        (lambda run: run.treat(np.zeros((1, 16, 16)), mode="time_gatd"), "did you mean 'time_gated'"),
        (lambda run: run.treat(np.zeros((1, 16, 16)), lam=601), r"lam is 601: expected 1 \.\.\. 600"),
        (lambda run: run.treat(np.zeros((1, 16, 16)), mode="per_pixel_time"), "time = 'scalar'"),
    ],
)
def test_what_cannot_be_had_is_told_by_name(run: Run, ask: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ask(run)
