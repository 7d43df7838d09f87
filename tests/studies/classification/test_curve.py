"""A learning curve: nested patients, the same for every start and the floor; its words say what its figures do."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxrjax import data, defaults, run
from cxrjax.errors import UserError
from cxrjax.report import faces
from cxrjax.studies import STUDIES, arrays, floor
from cxrjax.studies.classification import curve, predictions

STARTS = {"slow": 1e-3, "fast": 2e-2}
SIZES = (12, 0)


def small(folder):
    """Two rates as two starts, on 12 and on all 40 phantoms of 16 px."""
    c = defaults.run(compile_cache=os.environ["JAX_COMPILATION_CACHE_DIR"])
    c.mesh.devices = 1
    num = {"train": 40, "val": 16, "test": 24}
    c.data = defaults.data("phantom", ("Normal", "Pneumonia"), 16, cache=str(folder / "films"), num=num)
    net = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
    recipes = {
        start: {"whole": defaults.classify(net, defaults.optim("adam", lr), 3, 8, save_every=3)}
        for start, lr in STARTS.items()
    }
    phases = defaults.curve(recipes, SIZES)
    for name, phase in phases.items():
        c[name] = phase
    c.phases = tuple(phases)
    titles = {start: start.capitalize() for start in STARTS}
    c.study = defaults.comparison(
        {"fast_all": "Fast"},
        curve={"starts": tuple(titles.items()), "sizes": SIZES, "floors": (20, 64)},
        penalties=(0.001, 0.01),
    )
    return c


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    config = small(folder)
    assert run.run(config, choices={}, workdir=folder / "run", command="test") == 0
    results = json.loads((folder / "run" / "results.json").read_text())
    return SimpleNamespace(config=config, workdir=folder / "run", results=results, films=data.prepare(config.data))


@pytest.mark.slow
def test_every_start_and_the_floor_have_a_figure_on_as_many_patients(finished):
    found = finished.results["curve"]
    assert list(found) == ["slow", "fast", "logreg32"]
    for name, points in found.items():
        sizes = [12, 20, 40] if name == "logreg32" else [12, 40]  # of 64 there are not enough
        assert list(points) == list(map(str, sizes))
        assert [point["films"]["value"] for point in points.values()] == sizes
    whole = finished.results["systems"]
    assert found["fast"]["40"]["auroc"] == whole["fast_all"]["auroc"]
    assert found["logreg32"]["40"]["auroc"] == whole["logreg32"]["auroc"]
    few = arrays.read_arrays(predictions.path_of(finished.workdir, "fast_0012", folder="curve"))
    area = roc_auc_score(few["label"][:, 1], few["probability"][:, 1])
    assert found["fast"]["12"]["auroc"]["value"] == pytest.approx(area)
    gap = area - found["slow"]["12"]["auroc"]["value"]
    assert found["fast"]["12"]["minus_slow"]["auroc"]["value"] == pytest.approx(gap)
    assert found["fast"]["40"]["minus_all"]["auroc"] == {"value": 0, "low": 0, "high": 0, "n": 24, "unit": "1"}


@pytest.mark.slow
def test_the_floor_learns_from_the_same_few_patients(finished):
    films, classes = finished.films, ("Normal", "Pneumonia")
    train, test = data.films(films, "train"), data.films(films, "test")
    label = data.labels.select(train["labels"], films.columns, classes)
    keep = data.splits.nested(train["patient"].tolist(), train["labels"], seed=finished.config.data.seed) < 12
    said = floor.logreg32(
        floor.small(train["image"][keep]), label[keep], floor.small(test["image"]), 0, (0.001, 0.01),
        patients=train["patient"][keep],
    )  # fmt: skip
    truth = data.labels.select(test["labels"], films.columns, classes)
    found = finished.results["curve"]["logreg32"]["12"]["auroc"]["value"]
    assert found == pytest.approx(roc_auc_score(truth[:, 1], said[:, 1]))


@pytest.mark.slow
def test_points_stand_in_no_other_table_or_figure_and_the_page_says_what_they_mean(finished):
    tables = {table["title"]: table for table in finished.results["tables"]}
    assert [row["name"] for row in tables["Systems"]["rows"]] == ["Fast", "logreg32 (floor)"]
    assert [row["name"] for row in tables["Learning curve"]["rows"]] == ["12 patients", "20 patients", "40 patients"]
    assert [cell and cell["value"] for cell in tables["Learning curve"]["rows"][1]["cells"][1:3]] == [None, None]
    assert " goes from " in tables["Learning curve"]["note"]
    assert not any("compared systems differ" in said for said in json.loads(
        (finished.workdir / "manifest.json").read_text())["warnings"])  # fmt: skip
    face, read = faces.read(finished.workdir)
    assert [system.name for system in read.systems] == ["Fast", "logreg32"]
    axes = face.figures["curve"].draw(read).axes
    assert [one.get_ylabel() for one in axes] == ["AUROC", "accuracy at a threshold"]
    drawn = [line.get_ydata()[0] for line in axes[0].lines]
    np.testing.assert_allclose(drawn, [p["12"]["auroc"]["value"] for p in finished.results["curve"].values()])


def test_a_curve_without_all_its_phases_or_of_other_patients_is_refused(tmp_path):
    config = small(tmp_path)
    config.fast_0012.patients = 13
    with pytest.raises(UserError, match=r"fast_0012\.patients is 13: study\.curve's name of it says 12"):
        STUDIES["comparison"].check(config)
    config = small(tmp_path)
    config.study.curve.sizes = (16, 0)
    with pytest.raises(UserError, match=r"study\.curve names a phase that.*slow_0016"):
        STUDIES["comparison"].check(config)


def test_starts_that_see_more_films_than_the_first_are_told(tmp_path):
    config = small(tmp_path)
    config.fast_0012.steps = 30
    films = data.prepare(config.data)
    (said,) = curve.check_films(config, films)
    assert said.endswith(": fast_0012 and slow_0012 in films seen (240 against 24).")
    config.study.curve.floors = (1,)
    with pytest.raises(
        UserError, match=r"study\.curve: on 1 patients, logreg32: the training films hold one class only"
    ):
        curve.check_films(config, films)


def test_words_say_where_more_patients_are_not_told_apart_and_who_gets_there_early():
    def points(*pairs):
        return {
            size: {"auroc": {"value": value}, "minus_all": {"auroc": {"high": high}}}
            for size, (value, high) in zip(("64", "128", "500"), pairs, strict=True)
        }

    out = {
        "random": points((0.6, -0.1), (0.7, -0.05), (0.8, 0)),
        "known": points((0.82, -0.02), (0.9, 0.01), (0.91, 0)),
        "floor": points((0.5, 0), (0.5, 0), (0.99, 0)),
    }
    titles = {"random": "Random", "known": "Known", "floor": "F"}
    words = curve.in_words(out, titles, "floor")
    assert words == (
        "Known goes from 0.820 on 64 patients to 0.910 on all 500. With 128 patients or more it is not told apart "
        "from all (paired intervals). Known reaches on 64 what Random reaches on all (0.800). F goes from 0.500 to "
        "0.990."
    )
    out["known"]["64"]["minus_all"]["auroc"]["high"] = 0.01  # by chance: 128 below is what counts
    out["known"]["128"]["minus_all"]["auroc"]["high"] = -0.001
    assert "more films would probably help" in curve.in_words(out, titles, "floor")
    out["tuned"] = {"500": {"auroc": {"value": 0.9}, "minus_all": {"auroc": {"high": 0}}}}  # on all alone
    assert "Known reaches on 128 what Tuned reaches on all (0.900)" in curve.in_words(
        out, titles | {"tuned": "Tuned"}, "floor"
    )
