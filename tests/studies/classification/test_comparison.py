"""A whole classification run: frozen then unfrozen, in patient folds, to its page; and what a comparison must be."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

import cxrjax
from cxrjax import data, defaults, phases, run
from cxrjax.data import corruptions
from cxrjax.data.lungs import outside
from cxrjax.errors import UserError
from cxrjax.phases import members
from cxrjax.studies import STUDIES, arrays
from cxrjax.studies.classification import comparison, predictions
from cxrjax.train import mesh as meshes

CLASSES = ("Cardiomegaly", "Effusion", "Hernia")


def small(cache, **phase):
    """An FCN frozen and unfrozen, in two folds of 32 phantoms of 16 px."""
    c = defaults.run(compile_cache=os.environ["JAX_COMPILATION_CACHE_DIR"])
    c.mesh.devices = 1
    c.data = defaults.data(
        "phantom", CLASSES, 16, cache=str(cache), num={"train": 32, "val": 8, "test": 8},
        findings=CLASSES, normal_share=0.3,
    )  # fmt: skip
    net = {"name": "fcn_densenet_tiny", "blocks": (1, 1), "growth": 4, "stem_features": 8, "width": 8}
    shared = {"loss": "sigmoid", "folds": 2, "log_every": 1, "save_every": 1, "eval_batch": 16, **phase}
    frozen = defaults.optim("adam", 1e-2, frozen=("^backbone/",), schedule="plateau")
    apart = defaults.optim("adam", 1e-2, apart=("^backbone/",), schedule="plateau")
    c.phases = ("head", "whole")
    c.head = defaults.classify(net, frozen, 2, 16, **shared)
    c.whole = defaults.classify(net, apart, 3, 16, carry="head", carry_opt=True, **shared)
    c.study = defaults.comparison(
        {"whole": "FCN"}, paper="fcn_densenet", maps="whole", num_maps=4,
        robustness={"kinds": {"noise": (0.1, 0.3), "jpeg": (20,)}, "films": 20},
    )  # fmt: skip
    return c


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    config = small(folder / "films")
    assert run.run(config, choices={}, workdir=folder / "run", command="test") == 0
    results = json.loads((folder / "run" / "results.json").read_text())
    return SimpleNamespace(config=config, workdir=folder / "run", results=results)


def test_every_film_is_predicted_once_by_a_network_that_did_not_see_its_patient(finished):
    films = data.prepare(finished.config.data)
    keys = films.table("train")["key"]
    parts = [arrays.read_arrays(predictions.path_of(finished.workdir, f"whole_{i}")) for i in range(2)]
    assert sorted(np.concatenate([part["key"] for part in parts])) == sorted(keys)
    for member in members.of(finished.config, films, "whole"):
        assert not set(member.keep) & set(member.held_out)
        assert set(keys[member.held_out]) == set(parts[member.number]["key"])


def test_the_table_has_the_floor_the_pair_and_the_papers_figures(finished):
    tables = {table["title"]: table for table in finished.results["tables"]}
    assert [row["name"] for row in tables["Systems"]["rows"]] == ["FCN", "logreg32 (floor)"]
    gap = tables["Systems"]["rows"][0]["cells"][-1]
    assert set(gap) == {"value", "low", "high", "n", "unit"}
    beats = gap["low"] is not None and gap["low"] > 0
    assert ("Not better than logreg32" in tables["Systems"]["note"]) is not beats
    by_class = {row["name"]: row["cells"] for row in tables["AUROC by class"]["rows"]}
    assert 0 <= by_class["Hernia"][0]["value"] <= 1
    assert "0.9248" in by_class["Cardiomegaly"]  # of CheXNet, as printed
    assert (finished.workdir / "report.html").exists()


def test_maps_are_held_against_the_masks(finished):
    found = finished.results["localization"]
    assert 0 <= found["all"]["pointing"]["value"] <= 1
    with np.load(finished.workdir / "maps.npz") as file:
        assert file["map"].shape == file["truth"].shape
        assert file["truth"].any(axis=(1, 2)).all()


def test_a_damaged_film_is_asked_of_the_network_that_did_not_see_its_patient(finished):
    films = data.prepare(finished.config.data)
    found = arrays.read_arrays(finished.workdir / "robustness.npz")
    assert found["whole"].shape == found["logreg32"].shape == (3, 20, 3)
    loaded = cxrjax.load(finished.workdir)
    keys = films.table("train")["key"]
    place = np.array([list(keys).index(key) for key in found["key"]])
    image = np.rint(data.films(films, "train", place)["image"][..., 0] * 255).astype(np.uint8)
    noisy = corruptions.damaged(image, place, "noise", 0.3, finished.config.seed)
    for member in members.of(finished.config, films, "whole"):
        mine = np.isin(place, member.held_out)
        expected = np.stack(list(loaded.classifier(member.name).predict(noisy[mine]).values()), axis=1)
        np.testing.assert_allclose(found["whole"][1][mine], expected, atol=1e-5)
    assert 0 < mine.sum() < 20
    assert set(finished.results["robustness"]["whole"]["clean"]) == {"auroc", "f1", "ece"}


def test_systems_that_predict_other_films_are_not_compared(tmp_path):
    config = small(tmp_path)
    config.study = defaults.comparison({"head": "head", "whole": "whole"})
    config.head.folds = 3
    with pytest.raises(UserError, match="folds"):
        STUDIES["comparison"].check(config)
    a = {"key": np.array(["a", "b"])}
    b = {"key": np.array(["a", "c"])}
    first, second = (comparison.System(n, n, found, None) for n, found in (("x", a), ("y", b)))
    with pytest.raises(UserError, match="same films"):
        comparison.difference(first, second, False)


def test_a_film_of_two_exclusive_classes_is_refused_by_name(tmp_path):
    config = small(tmp_path, loss="softmax", folds=0)
    label = np.zeros((4, 3), np.float32)
    label[:, 0] = label[2, 1] = 1
    label[3] = 0, 1, 0
    table = {"labels": label, "key": np.array(["a", "b", "c", "d"]), "patient": np.array(["a", "b", "c", "d"])}
    films = SimpleNamespace(columns=CLASSES, table=lambda split: table, splits={"test": 4}, held_out="test")
    with pytest.raises(UserError, match=r"1 films of the test part.*such as c \(Cardiomegaly, Effusion\)"):
        comparison.check_films(config, films)
    label[2, 1] = 0
    assert comparison.check_films(config, films) == []


def _labeled(**parts: np.ndarray) -> SimpleNamespace:
    tables = {
        name: {"labels": np.asarray(label, np.float32), "key": np.arange(len(label)).astype(str),
               "patient": np.arange(len(label)).astype(str)}
        for name, label in parts.items()
    }  # fmt: skip
    splits = {name: len(label) for name, label in parts.items()}
    return SimpleNamespace(columns=CLASSES, table=tables.__getitem__, splits=splits, held_out="test")


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_labels_that_give_nothing_to_report_or_to_learn_are_refused_before_training(tmp_path, loss):
    config = small(tmp_path, loss=loss, folds=0)
    good, unknown = np.eye(3)[[0, 1, 2, 0]], np.full((4, 3), np.nan)
    assert comparison.check_films(config, _labeled(train=good, test=good)) == []
    with pytest.raises(UserError, match="no film of the test part has a known label of Cardiomegaly"):
        comparison.check_films(config, _labeled(train=good, test=unknown))
    with pytest.raises(UserError, match="logreg32: no training film has a known label"):
        comparison.check_films(config, _labeled(train=unknown, test=good))
    with pytest.raises(UserError, match="logreg32: the training films hold one class only"):
        comparison.check_films(config, _labeled(train=good[[0, 0, 0, 0]], test=good))
    config.study.penalties = (0.1, 1.0)
    with pytest.raises(UserError, match="too few to choose among penalties"):
        comparison.check_films(config, _labeled(train=good[:2], test=good))


def test_the_border_control_is_asked_alike_in_the_run_and_after_it_and_says_what_it_bounds(tmp_path):
    """Also without a validation part, as `configs/kaggle4.py:paper`."""
    c = small(tmp_path / "films")
    del c.head, c.whole
    c.phases = ("border",)
    c.data.update({"size": 32, "num": {"train": 16, "val": 0, "test": 8}})
    net = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
    c.border = defaults.classify(net, defaults.optim("adam", 1e-2), 2, 8, loss="sigmoid", border=0.25, save_every=2)
    c.study = defaults.comparison({"border": "control"})
    assert run.run(c, choices={}, workdir=tmp_path / "run", command="test") == 0
    again = cxrjax.load(tmp_path / "run").classifier("border")
    image = data.films(data.prepare(c.data), "test")["image"][..., 0]
    found = arrays.read_arrays(predictions.path_of(tmp_path / "run", "border"))
    probability = np.stack(list(again.predict(image).values()), axis=1)
    np.testing.assert_allclose(probability, found["probability"], atol=1e-5)
    assert not outside(image).all()
    (note,) = [text for text in cxrjax.load(tmp_path / "run").manifest["warnings"] if "upper bound" in text]
    assert "of 8 films" in note
    c.data.size = 16
    with pytest.raises(UserError, match="border: border blanks lungs, found at 32 px or more"):
        phases.check(c, meshes.make(1))


def test_a_pair_that_is_not_trained_alike_is_told_before_training(tmp_path):
    config = small(tmp_path, folds=0)
    config.study = defaults.comparison({"head": "head", "whole": "whole"}, pairs=(("whole", "head"),))
    films = _labeled(train=np.eye(3)[[0, 1, 2, 0]], test=np.eye(3))
    (said,) = comparison.check_films(config, films)
    assert said.endswith(": whole and head in films seen (80 against 32).")  # 3 steps after the 2 of the head
    config.study.pairs = ()
    assert comparison.check_films(config, films) == []


def test_the_headline_sets_the_best_system_beside_films_from_elsewhere_or_says_that_there_are_none():
    def entry(value, low, high):
        return {"value": value, "low": low, "high": high, "n": 9, "unit": "1"}

    one = {"auroc": entry(0.99, 0.98, 1.0), "minus_logreg32": {"auroc": entry(0.02, 0.01, 0.03)}}
    out = {"systems": {"a": one, "b": {**one, "auroc": entry(0.9, 0.8, 0.95)}}, "external": {}}
    systems = [SimpleNamespace(name=name, title=name.upper()) for name in "ab"]
    inside = (
        "A ranks highest: AUROC 0.990 [0.980, 1.000]; minus a logistic regression on 32x32 films +0.020 [+0.010, "
        "+0.030], above it. Measured on some films."
    )
    said = comparison.headline(out, systems, "some films")
    assert said == f"{inside} Not tried on films from elsewhere."
    sides = {"a": {"outside": {"auroc": entry(0.7, 0.6, 0.8)}}, "b": {"outside": {"auroc": entry(0.95, 0.9, 1.0)}}}
    out["external"] = {"there": {"systems": sides}}
    said = comparison.headline(out, systems, "some films")
    assert said == f"{inside} On films from elsewhere: there 0.700 [0.600, 0.800]."
