"""Damaged films: predicted by the networks that a finished run hands out, nothing chosen on them; told in words."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

import cxrjax
from cxrjax import data, defaults, run
from cxrjax.data import corruptions
from cxrjax.errors import UserError
from cxrjax.metrics import calibration, thresholds
from cxrjax.report import faces
from cxrjax.studies import STUDIES, arrays, floor
from cxrjax.studies.classification import predictions, robustness

KINDS = {"noise": (0.1, 0.4), "rotation": (20.0, 60.0)}
CLASSES = ("Normal", "Pneumonia")


def small(folder):
    """A small network of two seeds on phantoms of 16 px."""
    c = defaults.run(compile_cache=os.environ["JAX_COMPILATION_CACHE_DIR"])
    c.mesh.devices = 1
    c.data = defaults.data(
        "phantom", CLASSES, 16, cache=str(folder / "films"), num={"train": 48, "val": 16, "test": 24}
    )
    net = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
    c.phases = ("net",)
    c.net = defaults.classify(net, defaults.optim("adam", 1e-2), 4, 16, seeds=2, save_every=4)
    c.study = defaults.comparison({"net": "Small"}, robustness={"kinds": KINDS, "films": 15})
    return c


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    config = small(folder)
    assert run.run(config, choices={}, workdir=folder / "run", command="test") == 0
    films = data.prepare(config.data)
    found = arrays.read_arrays(folder / "run" / "robustness.npz")
    results = json.loads((folder / "run" / "results.json").read_text())
    return SimpleNamespace(config=config, workdir=folder / "run", films=films, found=found, results=results)


def damaged(finished) -> np.ndarray:
    """(4, 15, 16, 16) uint8, made here of the films that the run chose."""
    key = finished.films.table("test")["key"]
    position = np.array([np.flatnonzero(key == name)[0] for name in finished.found["key"]])
    image = np.rint(data.films(finished.films, "test", position)["image"][..., 0] * 255).astype(np.uint8)
    pairs = [(kind, strength) for kind, strengths in KINDS.items() for strength in strengths]
    return np.stack([corruptions.damaged(image, position, *pair, finished.config.seed) for pair in pairs])


@pytest.mark.slow
def test_damaged_films_are_asked_of_the_networks_that_a_finished_run_hands_out(finished):
    seeds = [cxrjax.load(finished.workdir).classifier(f"net_{i}") for i in range(2)]
    for number, image in enumerate(damaged(finished)):
        each = [np.stack(list(one.predict(image).values()), axis=1) for one in seeds]
        np.testing.assert_allclose(finished.found["net"][number], np.mean(each, axis=0), atol=1e-5)


@pytest.mark.slow
def test_the_floor_is_trained_on_undamaged_films_alone(finished):
    films, classes = finished.films, CLASSES
    train = data.films(films, "train")
    label = data.labels.select(train["labels"], films.columns, classes)
    for number, image in enumerate(damaged(finished)):
        small = floor.small(image[..., None] / np.float32(255))
        expected = floor.logreg32(floor.small(train["image"]), label, small, 0, patients=train["patient"])
        np.testing.assert_allclose(finished.found["logreg32"][number], expected, atol=1e-6)


@pytest.mark.slow
def test_figures_are_entries_of_every_kind_and_strength_and_of_their_mean(finished):
    found = finished.results["robustness"]
    assert list(found) == ["net", "logreg32"]
    net = found["net"]
    assert list(net) == ["clean", "mean", "drop", "minus_logreg32", *KINDS]
    for kind in KINDS:
        assert list(net[kind]) == ["mean", "1", "2"]
    for measure in ("auroc", "accuracy_at_threshold", "ece"):
        each = [net[kind][strength][measure]["value"] for kind in KINDS for strength in "12"]
        assert net["mean"][measure]["value"] == pytest.approx(np.mean(each))
        assert net["mean"][measure]["n"] == 15
        drop = net["mean"][measure]["value"] - net["clean"][measure]["value"]
        assert net["drop"][measure]["value"] == pytest.approx(drop)
    gap = found["net"]["mean"]["auroc"]["value"] - found["logreg32"]["mean"]["auroc"]["value"]
    assert net["minus_logreg32"]["auroc"]["value"] == pytest.approx(gap)


@pytest.mark.slow
def test_undamaged_figures_are_of_the_same_films_at_the_temperature_of_the_validation_part(finished):
    whole = arrays.read_arrays(predictions.path_of(finished.workdir, "net_0"))
    other = arrays.read_arrays(predictions.path_of(finished.workdir, "net_1"))
    row = [list(whole["key"]).index(key) for key in finished.found["key"]]
    label, p = whole["label"][row], (whole["probability"] + other["probability"])[row] / 2
    seen = [arrays.read_arrays(predictions.path_of(finished.workdir, f"net_{i}", "val")) for i in range(2)]
    val = np.log(np.mean([one["probability"] for one in seen], axis=0))
    cut = thresholds.best_balanced_threshold(seen[0]["label"][:, 1], np.exp(val[:, 1]))
    right = ((p[:, 1] >= cut) == (label[:, 1] == 1)).mean()
    assert finished.results["robustness"]["net"]["clean"]["accuracy_at_threshold"]["value"] == pytest.approx(right)
    t = calibration.temperature(seen[0]["label"], val, "softmax")
    cooled = p ** (1 / t) / (p ** (1 / t)).sum(axis=1, keepdims=True)
    ece = calibration.ece(*calibration.confidence(label, cooled))
    assert finished.results["robustness"]["net"]["clean"]["ece"]["value"] == pytest.approx(ece, abs=1e-6)


@pytest.mark.slow
def test_the_page_says_in_words_what_the_figure_shows(finished):
    tables = {table["title"]: table for table in finished.results["tables"]}
    found, note = finished.results["robustness"], tables["Damaged films"]["note"]
    by_kind = {kind: found["net"][kind]["mean"]["auroc"]["value"] for kind in KINDS}
    assert f"{min(by_kind, key=by_kind.get)} costs it most" in note
    assert f"{found['net']['mean']['auroc']['value']:.3f} on average" in note
    assert "2 kinds of damage at 4 strengths in all, of 15 films" in note
    assert [row["name"] for row in tables["Damage by kind"]["rows"]] == ["noise: 0.1, 0.4", "rotation: 20, 60"]
    assert "Damaged films" in (finished.workdir / "report.html").read_text()
    face, read = faces.read(finished.workdir)
    axes = face.figures["robustness"].draw(read).axes
    noise = axes[0].lines[0].get_ydata()
    expected = [found["net"]["clean"], found["net"]["noise"]["1"], found["net"]["noise"]["2"]]
    np.testing.assert_allclose(noise, [one["auroc"]["value"] for one in expected])
    assert len(axes) == 3 * 3
    assert len(axes[0].lines) == 2


def test_a_kind_that_there_is_not_is_refused_before_films_are_prepared(tmp_path):
    config = small(tmp_path)
    config.study.robustness.kinds = {"haze": (1.0,)}
    with pytest.raises(UserError, match=r"study\.robustness\.kinds.*haze"):
        STUDIES["comparison"].check(config)


def test_words_name_who_holds_best_and_what_harms_most():
    def system(clean, mean, **kinds):
        named = {kind: {"mean": {"auroc": {"value": value}}} for kind, value in kinds.items()}
        return {"clean": {"auroc": {"value": clean}}, "mean": {"auroc": {"value": mean}}, **named}

    out = {"a": system(0.9, 0.7, blur=0.6, crop=0.8), "b": system(0.85, 0.8, blur=0.82, crop=0.78),
           "floor": system(0.99, 0.95, blur=0.9, crop=1.0)}  # fmt: skip
    words = robustness.in_words(out, {"a": "A", "b": "B", "floor": "F"}, ("blur", "crop"), ["a", "b"])
    assert words.startswith(
        "B has the highest AUROC on damaged films, 0.800 on average and 0.850 undamaged; crop costs"
    )
    assert words.endswith("A goes from 0.900 to 0.700, F goes from 0.990 to 0.950.")
    out["b"]["minus_logreg32"] = {"auroc": {"value": -0.15, "low": -0.3, "high": 0.01}}
    for high, told in ((0.01, False), (-0.01, True)):
        out["b"]["minus_logreg32"]["auroc"]["high"] = high
        words = robustness.in_words(out, {"a": "A", "b": "B", "floor": "F"}, ("blur", "crop"), ["a", "b"])
        assert ("It is not told apart from logreg32 there" in words) is not told
