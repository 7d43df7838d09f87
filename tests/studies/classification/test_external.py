"""Films from elsewhere in a whole run: tables, words and figure; and a set that is added to a run that has ended."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from cxrjax import defaults, run
from cxrjax.data import external as sets
from cxrjax.errors import UserError
from cxrjax.studies import arrays
from cxrjax.studies.classification import external, predictions

CLASSES = ("Normal", "Pneumonia")
NET = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
FAR = {"name": "phantom", "seed": 9, "num": {"train": 8, "val": 0, "test": 16}, "gamma": (0.4, 0.6)}
MORE = {"name": "phantom", "seed": 4, "num": {"train": 0, "val": 0, "test": 24}, "findings": ("Pneumonia", "Mass"),
        "normal_share": 0.3}  # fmt: skip


def small(cache, folds=0, loss="softmax"):
    c = defaults.run(compile_cache=os.environ["JAX_COMPILATION_CACHE_DIR"])
    c.mesh.devices = 1
    c.data = defaults.data("phantom", CLASSES, 16, cache=str(cache), num={"train": 32, "val": 16, "test": 24})
    shared = {"log_every": 1, "save_every": 2, "loss": loss, "folds": folds}
    c.phases = ("net", "other")
    for phase in c.phases:
        c[phase] = defaults.classify(NET, defaults.optim("adam", 1e-2), 2, 16, **shared)
    c.other.seeds = 1 if folds else 2
    c.study = defaults.comparison({"net": "Net", "other": "Other"}, pairs=(("other", "net"),), recalibrate=(5, 40))
    return c


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run without films from elsewhere, and with two sets of them, in one workdir."""
    folder = tmp_path_factory.mktemp("external")
    config, workdir, found = small(folder / "films"), folder / "run", []
    for added in ({}, {"far": FAR, "more": MORE}):
        for name, values in added.items():
            config.data.external[name] = values
        assert run.run(config, choices={}, workdir=workdir, command="test") == 0
        found.append(SimpleNamespace(
            results=json.loads((workdir / "results.json").read_text()),
            manifest=json.loads((workdir / "manifest.json").read_text()),
            log=(workdir / "metrics.jsonl").read_text(),
            page=(workdir / "report.html").read_text(),
            kept={path: path.stat().st_mtime_ns for folder in ("checkpoints", "predictions")
                  for path in (workdir / folder).rglob("*") if path.is_file() and ".lock" not in path.name},
        ))  # fmt: skip
    return SimpleNamespace(config=config, workdir=workdir, plain=found[0], two=found[1])


def table(found, start):
    return next(one for one in found.results["tables"] if one["title"].startswith(start))


@pytest.mark.slow
def test_a_set_that_is_added_to_a_run_that_has_ended_trains_nothing(grown, capsys):
    before, after = grown.plain, grown.two
    assert after.log == before.log
    assert len(before.kept) > 20
    assert before.kept.items() <= after.kept.items()
    assert after.manifest["data"]["fingerprint"] == before.manifest["data"]["fingerprint"]
    assert after.results["systems"] == before.results["systems"]
    said = before.results["headline"].removesuffix("Not tried on films from elsewhere.")
    assert after.results["headline"].startswith(f"{said}On films from elsewhere: far ")
    assert set(grown.two.manifest["data"]["external"]) == {"far", "more"}
    assert grown.two.manifest["data"]["external"]["far"]["films"] == 24
    # The same command again does nothing.
    assert run.run(grown.config, choices={}, workdir=grown.workdir, command="test") == 0
    assert "is finished: see" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_that_is_gone_is_told_and_not_trained_anew(grown):
    config = grown.config.copy_and_resolve_references()
    del config.data.external.more
    gone = grown.workdir / "checkpoints" / "other_1"
    gone.rename(gone.with_name("moved"))
    try:
        with pytest.raises(UserError, match="other_1 is missing"):
            run.run(config, choices={}, workdir=grown.workdir, command="test")
    finally:
        gone.with_name("moved").rename(gone)


@pytest.mark.slow
def test_a_run_without_such_films_says_so_and_one_with_them_shows_both_sides(grown):
    assert "scores flatter: this run has no films from elsewhere" in table(grown.plain, "Systems")["note"]
    assert "scores flatter: this run has no films from elsewhere" in grown.plain.page
    assert "no films from elsewhere" not in grown.two.page
    shown = table(grown.two, "Films from elsewhere: far")
    assert [row["name"] for row in shown["rows"]] == ["Net", "Other, mean of 2 seeds", "logreg32 (floor)"]
    assert shown["columns"][:3] == ["AUROC inside", "AUROC outside", "AUROC drop"]
    for row in shown["rows"]:
        inside, outside, drop = (cell["value"] for cell in row["cells"][:3])
        assert drop == pytest.approx(inside - outside)
    assert "24 films of 24 patients" in shown["note"]
    assert "AUROC drops beyond its interval for" in shown["note"]
    for name in ("far", "more"):
        assert f"Films from elsewhere: {name}" in grown.two.page
    assert "figure-external" in grown.two.page
    assert (grown.workdir / "figures" / "external.png").stat().st_size > 5000
    # Inside is what the other tables have of these films.
    auroc = grown.two.results["systems"]["net"]["auroc"]
    assert grown.two.results["external"]["far"]["systems"]["net"]["inside"]["auroc"] == pytest.approx(auroc)


@pytest.mark.slow
def test_what_is_left_out_is_said_and_what_a_few_films_give_back_is_of_the_rest(grown):
    assert any("data.external.more: left out: " in text and "(Mass)" in text for text in grown.two.manifest["warnings"])
    found = grown.two.results["external"]["far"]["systems"]["net"]["recalibrated"]
    assert set(found) == {"5"}  # 40 of 24 films cannot be chosen on
    assert found["5"]["films"]["value"] == 5
    assert found["5"]["after"]["balanced_accuracy"]["n"] == 19
    few = table(grown.two, "What a few outside films give back: far")
    assert few["columns"] == ["as chosen inside", "on 5 films (5 patients)"]


@pytest.mark.slow
def test_the_threshold_that_is_used_outside_is_the_one_of_the_validation_part(grown):
    said = predictions.validation(grown.workdir, "net")
    truth, score = said["label"][:, 1], said["probability"][:, 1]
    chosen = grown.two.results["external"]["far"]["systems"]["net"]["chosen"]["threshold"]["disease"]["value"]
    levels = np.unique(score)
    sums = [(score[truth == 1] >= t).mean() + (score[truth == 0] < t).mean() for t in levels]
    assert (score[truth == 1] >= chosen).mean() + (score[truth == 0] < chosen).mean() == pytest.approx(max(sums))
    (path,) = (grown.workdir / "predictions" / "external").glob("far-*/net.npz")
    there = arrays.read_arrays(path)
    label = np.array([row == 1 for row in _labels(grown, "far")])
    found = (there["probability"][0, :, 1] >= chosen)[label].mean()
    outside = grown.two.results["external"]["far"]["systems"]["net"]["outside"]
    assert outside["sensitivity"]["value"] == pytest.approx(found)


def _labels(grown, name):
    return sets.labels(grown.config, name, sets.prepare(grown.config)[name])[:, 1]


@pytest.mark.slow
def test_findings_in_folds_are_tried_network_by_network(tmp_path):
    c = small(tmp_path / "films", folds=2, loss="sigmoid")
    c.data.external.more = {**MORE, "class_map": (("Normal", ""), ("Pneumonia", "Pneumonia"))}
    assert run.run(c, choices={}, workdir=tmp_path / "run", command="test") == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    found = results["external"]["more"]["systems"]
    for name in ("net", "other", "logreg32"):
        (path,) = (tmp_path / "run" / "predictions" / "external").glob(f"more-*/{name}.npz")
        assert arrays.read_arrays(path)["probability"].shape == (2, 24, 2)
        assert set(found[name]["chosen"]) == {"threshold"}
        assert list(found[name]["chosen"]["threshold"]) == ["Pneumonia"]
        assert found[name]["outside"]["auroc"]["n"] == 24
    assert results["tables"][1]["columns"][0] == "mean AUROC of 1 inside"


def test_films_of_one_kind_and_studies_that_read_none_are_refused(tmp_path):
    c = small(tmp_path)
    c.data.external.far = {**FAR, "normal_share": 1.0, "findings": ("Pneumonia",)}
    with pytest.raises(UserError, match=r"data\.external\.far: its films are all of Normal"):
        run.run(c, choices={}, workdir=tmp_path / "run", command="test")
    c.study = defaults.synthesis()
    c.study.name = "synthesis"
    with pytest.raises(UserError):
        run.run(c, choices={}, workdir=tmp_path / "run", command="test")
    assert external.check(c, {}) == []
    assert not (tmp_path / "run").exists()
