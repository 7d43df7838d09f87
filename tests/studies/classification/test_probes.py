"""A transfer with its floors: a probe and neighbors by fold, an ensemble, several views against one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from cxrjax import data, defaults, run, weights
from cxrjax.errors import UserError
from cxrjax.phases import members
from cxrjax.studies import STUDIES, arrays, floor
from cxrjax.studies.classification import predictions, probes

FIXTURE = Path(__file__).parents[2] / "weights" / "fixtures" / "densenet_xrv.safetensors"
NET = {"name": "densenet121", "blocks": (1, 2), "growth": 8, "bn_size": 2, "stem_features": 12}
CLASSES = ("Cardiomegaly", "Effusion")


def small(folder: Path, **study):
    """Two folds of 32 phantoms of 16 px, a head on cached features of a file's backbone, then all of it."""
    c = defaults.run(compile_cache=os.environ["JAX_COMPILATION_CACHE_DIR"])
    c.mesh.devices = 1
    c.data = defaults.data(
        "phantom", CLASSES, 16, cache=str(folder / "films"), num={"train": 32, "val": 8, "test": 8}, findings=CLASSES,
        normal_share=0.3,
    )  # fmt: skip
    phases = defaults.transfer(
        "net", NET, 3, 2, weights=str(folder / "xrv.safetensors"), channels=1, normalize="film", loss="sigmoid",
        folds=2, tta=("flip",),
    )  # fmt: skip
    c.update(phases)
    c.phases = tuple(phases)
    for name in c.phases:
        c[name].update({"log_every": 1, "eval_batch": 16, "batch": 16})
    c.study = defaults.comparison(
        {"net": "all of it", "net_head": "head alone"}, ensembles=(("both", ("net", "net_head")),),
        probe={"phase": "net_head", "strengths": (0.01, 0.1), "neighbors": (1, 5)}, **study,
    )  # fmt: skip
    return c


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    state = {name: value for name, value in weights.load(FIXTURE).items() if not name.startswith("fixture.")}
    save_file(state, folder / "xrv.safetensors")
    config = small(folder)
    assert run.run(config, choices={}, workdir=folder / "run", command="test") == 0
    results = json.loads((folder / "run" / "results.json").read_text())
    return SimpleNamespace(config=config, workdir=folder / "run", results=results)


def found(finished, name: str, folder: str = predictions.FOLDER):
    return arrays.read_arrays(predictions.path_of(finished.workdir, name, "", folder))


@pytest.mark.slow
def test_every_row_stands_in_the_table_beside_both_floors(finished):
    table = next(t for t in finished.results["tables"] if t["title"] == "Systems")
    assert [row["name"] for row in table["rows"]] == [
        "all of it", "head alone", "both: mean of all of it, head alone", "all of it, one view", "logreg32 (floor)",
        "linear probe of densenet121 (xrv.safetensors)", "nearest neighbors by densenet121 (xrv.safetensors)",
    ]  # fmt: skip
    assert table["columns"][-2:] == ["AUROC minus logreg32, paired", "AUROC minus linear probe, paired"]
    told = [[cell is not None for cell in row["cells"][-2:]] for row in table["rows"]]
    assert told == [[True, True]] * 4 + [[False, False]] + [[True, False]] * 2
    assert set(finished.results["pairs"]) == {"both minus net", "both minus net_head", "net minus net_one_view"}


@pytest.mark.slow
def test_members_of_one_start_share_their_features(finished):
    (path,) = (finished.workdir / "features").glob("*.npy")  # of two folds and the probe
    assert np.load(path).shape[0] == 32


@pytest.mark.slow
def test_the_probe_and_the_neighbors_of_a_film_saw_no_film_of_its_patient(finished):
    films = data.prepare(finished.config.data)
    (path,) = (finished.workdir / "features").glob("*.npy")
    rows, table = np.load(path).mean(axis=(1, 2)), films.table("train")
    label = data.labels.select(table["labels"], films.columns, CLASSES)
    fold = members.folds_of(finished.config, films, 2)
    place = {key: i for i, key in enumerate(table["key"])}
    for name, method, settings in (("probe", floor.LINEAR, (0.01, 0.1)), ("knn", floor.NEAREST, (1, 5))):
        kept = found(finished, name)
        assert sorted(kept["key"]) == sorted(table["key"])
        order = [place[key] for key in kept["key"]]
        for i in range(2):
            rest = fold != i
            expected = floor.learned(method, rows[rest], label[rest], rows, 0, settings, table["patient"][rest])
            mine = fold[order] == i
            np.testing.assert_allclose(kept["probability"][mine], expected[order][mine], atol=1e-6)


@pytest.mark.slow
def test_an_ensemble_is_the_mean_and_views_are_averaged(finished):
    parts = [predictions.gather(finished.workdir, [f"{n}_0", f"{n}_1"], True)[0] for n in ("net", "net_head")]
    mean = predictions.mean_of(parts)["probability"]
    gap = finished.results["pairs"]["both minus net"]["auroc"]["value"]
    whole = {name: finished.results["systems"][name]["auroc"]["value"] for name in ("both", "net")}
    assert gap == pytest.approx(whole["both"] - whole["net"], abs=1e-9)
    assert not np.allclose(mean, parts[0]["probability"])
    one, both = found(finished, "net_0", predictions.ONE), found(finished, "net_0")
    assert np.array_equal(one["key"], both["key"])
    assert not np.allclose(one["probability"], both["probability"])
    assert not predictions.path_of(finished.workdir, "net_head_0", "", predictions.ONE).exists()


def test_a_setting_is_chosen_on_the_validation_part_and_said_there_too(tmp_path):
    rng = np.random.default_rng(0)
    counts = {"train": 40, "val": 30, "test": 20}
    truth = {part: np.arange(n) % 2 for part, n in counts.items()}
    rows = {part: rng.normal(size=(n, 8)) + truth[part][:, None] for part, n in counts.items()}
    tables = {
        part: {"labels": np.eye(2, dtype=np.float32)[truth[part]], "key": np.arange(n).astype(str),
               "patient": np.arange(n).astype(str)}
        for part, n in counts.items()
    }  # fmt: skip
    films = SimpleNamespace(
        columns=CLASSES, splits=counts, held_out="test", table=tables.__getitem__, count=counts.__getitem__
    )
    config = SimpleNamespace(
        seed=0, data=SimpleNamespace(classes=CLASSES), net=SimpleNamespace(folds=0),
        study=SimpleNamespace(systems=(("net", "net"),)),
    )  # fmt: skip
    config = type("C", (SimpleNamespace,), {"__getitem__": lambda self, key: getattr(self, key)})(**vars(config))
    context = SimpleNamespace(
        config=config, films=films, classes=CLASSES, workdir=tmp_path, log=SimpleNamespace(say=lambda text: None)
    )
    seen = []

    def learn(*given, **more):
        seen.append(more["validation"])
        return floor.learned(floor.LINEAR, *given, (0.01, 1.0), **more)

    method = probes.Floor("probe", "probe", lambda context, films, part: rows[part], lambda context: None, learn)
    system = probes.system(context, method)
    np.testing.assert_array_equal(seen[0][0], rows["val"])
    assert (len(system.found["label"]), len(system.validation["label"])) == (20, 30)
    assert probes.system(context, method).found["key"].tolist() == system.found["key"].tolist()
    assert len(seen) == 1  # the second time from its file
    (outside,) = probes.outside(method)(context, films)
    np.testing.assert_allclose(outside["probability"], system.found["probability"])  # "test" is every film there
    films.held_out, films.splits = "val", {"train": 40, "val": 30}
    predictions.path_of(tmp_path, "probe").unlink()
    probes.system(context, method)
    assert seen[-1] is None  # what is reported on chooses nothing


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"probe": {"phase": "nothead"}}, "study.probe.phase"),
        ({"probe": {"phase": "net"}}, "name a phase with weights"),
        ({"ensembles": (("net", ("net", "net_head")),)}, "a name that no phase has"),
        ({"ensembles": (("mean", ("net",)),)}, "two or more"),
        ({"ensembles": (("mean", ("net", "nut")),)}, "did you mean 'net'"),
    ],
)  # fmt: skip
def test_floors_and_ensembles_that_cannot_be_are_told(tmp_path, study, words):
    config = small(tmp_path)
    with config.ignore_type():
        config.study.update(study)
    with pytest.raises(UserError, match=words):
        STUDIES["comparison"].check(config)
