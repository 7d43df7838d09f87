"""The study of a generator on a few small phantoms: every file and figure of it, from networks that chance began."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from cxrjax import data, manifest, phases
from cxrjax.errors import UserError
from cxrjax.infer import finished, generator
from cxrjax.phases import members, start
from cxrjax.report.synthesis import contact
from cxrjax.studies import STUDIES
from cxrjax.studies.synthesis import fdd, features, study, tables
from cxrjax.studies.synthesis import use as use_of_films
from cxrjax.tasks import TASKS
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def smallest(name: str, cache: Path) -> Any:
    """The smoke variant with networks of seconds."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]("smoke")
    config.data.update({"cache": str(cache), "size": 16, "num": {"train": 40, "val": 10, "test": 50}})
    config.gan.net.update({"sizes": (8, 16), "features": 4} if name == "cgan" else {"size": 16, "features": 4})
    config.features.net = {"name": "resnet_tiny", "blocks": (1,), "widths": (8,)}
    config.use.update({"steps": 2, "save_every": 2, "log_every": 1})
    config.study.update({"batch": 16, "num_made": 4, "arms": ("real", "made") if name == "cgan" else ()})
    config.fdd.update({"draws": 8, "layers": ("prob",)})
    return config


def begin(config: Any, workdir: Path) -> phases.Context:
    """A context whose phases ended where they began, with their checkpoints and a manifest."""
    workdir.mkdir(parents=True, exist_ok=True)
    mesh = meshes.make(1)
    films = data.prepare(config.data)
    states = {}
    for name in config.phases:
        task = TASKS[config[name].task](config[name], finished.classes_of(config, name))
        example = members.example_of(config, name, 1)
        states[name] = jax.jit(task.init)(members.name_key(jax.random.key(0), name), example)
        with Checkpoints(workdir / "checkpoints" / name) as checkpoints:
            checkpoints.save(1, states[name], {}, {}, done=True)
    record = {"finished": True, "command": "", "config": manifest.plain(config)}
    manifest.write_json(workdir / "manifest.json", record)
    log = logs.Log(workdir)
    bound = phases.bind(config, films, mesh.size)
    return phases.Context(config, films, bound, workdir, mesh, jax.random.key(0), log, states, {})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A baseline's run, and the proposed one's beside it."""
    folder = tmp_path_factory.mktemp("synthesis")
    begin(smallest("cdcgan", folder / "films"), folder / "cdcgan")
    config = smallest("cgan", folder / "films")
    config.study.baseline_run = str(folder / "cdcgan")
    STUDIES["synthesis"].check(config)
    context = begin(config, folder / "cgan")
    notes = STUDIES["synthesis"].check_films(config, context.films)
    return SimpleNamespace(context=context, notes=notes, results=study.run(context), folder=folder)


def test_every_model_is_measured_with_the_same_films_and_the_floor(ran):
    names = {"proposed", "cdcgan", "untrained"}
    entry = ran.results["fdd"]["prob"]
    assert set(entry["mean"]) == names
    for found in entry["by_class"].values():
        assert names < set(found)
        assert found["floor"]["n"] == found["proposed"]["fdd"]["n"]
        fdd_leaf = found["proposed"]["fdd"]
        assert fdd_leaf["low"] <= fdd_leaf["value"] <= fdd_leaf["high"]
        assert found["proposed"]["ratio"]["value"] == pytest.approx(fdd_leaf["value"] / found["floor"]["value"])
    assert {"value", "low", "high"} <= set(entry["minus_baseline"])
    gap = entry["mean"]["proposed"]["value"] - entry["mean"]["cdcgan"]["value"]
    assert entry["minus_baseline"]["value"] == pytest.approx(gap)
    # Trained for no step, the proposed generator is the untrained one but for its seed.
    assert entry["mean"]["proposed"]["value"] == pytest.approx(entry["mean"]["untrained"]["value"], rel=0.5)


def test_a_baseline_that_was_not_trained_alike_is_told_before_training(ran):
    (said,) = [note for note in ran.notes if note.startswith("These compared systems differ")]
    assert "the proposed generator and the baseline in parameters of the generator" in said


def test_the_results_are_json_with_tables_and_a_headline(ran):
    json.dumps(ran.results, default=str, allow_nan=False)
    titles = [table["title"] for table in ran.results["tables"]]
    assert titles == [
        "FDD on probabilities", "Is the finding there?", "Copies of training films?",
        "What generated films are good for",
    ]  # fmt: skip
    for table in ran.results["tables"]:
        assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"]), table["title"]
    assert "cDCGAN" in ran.results["headline"]
    assert "The feature network stands beside no floor" in ran.results["tables"][1]["note"]


def test_the_page_finds_its_files(ran):
    folder = ran.context.workdir / "synthesis"
    for name in ("shown", "scales", "interpolation", "attention", "neighbors", "blinded"):
        assert (folder / f"{name}.npz").is_file(), name
    shown = np.load(folder / "shown.npz")
    assert shown["finding"][0] == "Normal"
    assert np.isnan(shown["real_map"][0]).all()
    assert np.isfinite(shown["made_map"][1:]).all()
    assert shown["baseline"].shape == shown["real"].shape == shown["made"].shape
    maps = np.load(folder / "attention.npz")["map"]
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1.0, atol=1e-5)
    path = np.load(folder / "interpolation.npz")
    assert (path["films"][0, -1] == path["films"][1, 0]).all()  # one walk, class to class


def test_a_second_pass_trains_nothing_and_finds_the_same(ran):
    log = ran.context.workdir / "metrics.jsonl"
    before = log.read_text()
    again = study.run(ran.context)
    assert log.read_text() == before
    assert again["use"] == ran.results["use"]
    assert again["fdd"] == ran.results["fdd"]


def test_use_compares_every_arm_with_films_of_patients(ran):
    use = ran.results["use"]
    assert list(use) == ["real", "made"]
    assert "minus_real" in use["made"]
    assert "minus_real" not in use["real"]
    assert use["made"]["pointing"]["n"] > 0


def test_oversampling_gives_every_class_as_many_as_the_largest():
    condition = np.array([0, 0, 0, 2, 1, 0])
    found = use_of_films.oversampled(condition)
    assert np.bincount(condition[found]).tolist() == [4, 4, 4]
    assert set(found) == set(range(6))


def test_a_stream_of_made_films_goes_on_where_it_was():
    image, label = np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.eye(4, dtype=np.float32)
    stream = use_of_films.Generated(image, label, 6, 3, (0, 1))
    next(stream)
    at = stream.get_state()
    later = next(stream)
    other = use_of_films.Generated(image, label, 6, 3, (0, 1))
    other.set_state(json.loads(json.dumps(at)))
    again = next(other)
    np.testing.assert_array_equal(later.image, again.image)
    np.testing.assert_array_equal(later.label[np.arange(6), later.index], 1.0)

    def both(shard):
        parts = [use_of_films.Generated(image, label, 6, seed, shard) for seed in (3, 4)]
        return next(use_of_films.Mixed(*parts))

    whole = both((0, 1))
    assert whole.image.shape == (12, 4, 4, 1)
    halves = [both((i, 2)) for i in (0, 1)]  # of two processes
    np.testing.assert_array_equal(whole.index, np.concatenate([half.index for half in halves]))
    np.testing.assert_array_equal(whole.image, np.concatenate([half.image for half in halves]))


def test_films_on_demand_say_that_they_are_synthetic(ran, tmp_path):
    trained = finished.load(ran.context.workdir).generator()
    found = trained.sample("Mass", 5, seed=1)
    assert found.shape == (5, 16, 16)
    fewer = trained.sample("Mass", 3, seed=1)
    np.testing.assert_allclose(fewer.astype(int), found[:3].astype(int), atol=1)
    other = trained.sample("Effusion", 5, seed=1)
    assert (other != found).any()
    sheet = contact.write_films(tmp_path, found, "Mass", "a run", 1)
    files = sorted(tmp_path.glob("Mass-*.png"))
    assert len(files) == 5
    for path in (*files, sheet):
        with Image.open(path) as picture:
            assert picture.text["Synthetic"] == "true"  # type: ignore[attr-defined]
    with Image.open(files[2]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), found[2])
        assert picture.text["Finding"] == "Mass"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="did you mean 'Mass'"):
        trained.sample("Mas", 1)
    with pytest.raises(UserError, match="at least 1"):
        trained.sample("Mass", 0)


def test_another_runs_classifier_measures_too(ran):
    """`fdd.run`: its network, its size; a phase that takes it trains nothing."""
    network = finished.load(ran.folder / "cdcgan").classifier("features")
    assert network.classes == tuple(ran.context.config.data.classes)
    image = np.zeros((3, 32, 32), np.uint8)  # of another side than the network's
    found = features.extract(network, image, 2)
    assert found["prob"].shape == (3, 4)
    assert found["pool"].shape[0] == 3
    own = features.of(ran.context)
    same = features.extract(own, image[:, :16, :16], 2)
    np.testing.assert_allclose(same["prob"], found["prob"], atol=1e-5)  # both began by the same key

    config = ran.context.config.copy_and_resolve_references()
    config.fdd.run = config.features.run = str(ran.folder / "cdcgan")
    context = dataclasses.replace(ran.context, config=config, states={})
    phases.run(context, "features", lambda context, member: None)
    assert not context.states
    assert start.origin(config, "features") == f"run {ran.folder / 'cdcgan'}"


def test_a_run_that_cannot_be_read_is_told(ran, tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        finished.load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"finished": False, "command": "go"}))
    with pytest.raises(UserError, match="has not ended; run its command again: go"):
        finished.load(tmp_path)
    run = finished.load(ran.folder / "cdcgan")
    with pytest.raises(UserError, match=r"no phase 'featurs'.*did you mean 'features'"):
        run.phase_of("classify", name="featurs")
    with pytest.raises(UserError, match="0 phases of task 'ddpm'"):
        run.phase_of("ddpm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study.gan_phase": "gna"}, "gan_phase = 'gna'"),
        ({"study.gan_phase": "features"}, "has task 'classify'"),
        ({"data.size": 32}, "largest scale of gan 16"),
        ({"fdd.layers": ("probs",)}, "layers has 'probs'"),
        ({"study.arms": ("made",)}, "lacks 'real'"),
        ({"study.arms": ("real", "mad")}, "arms has 'mad'"),
        ({"study.baseline_run": "/no/such/run"}, "holds no run"),
        ({"fdd.run": "/no/such/run"}, "holds no run"),
        ({"data.classes": ("Normal", "Mass")}, "names Normal"),
    ],
)
def test_what_could_not_work_is_refused_by_name(ran, changes, message):
    config = ran.context.config.copy_and_resolve_references()
    for key, value in changes.items():
        with config.ignore_type():
            config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        study.check(config)


def test_films_of_several_findings_belong_to_the_first_by_priority(ran):
    label = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [np.nan, 0, 0, 1]], np.float32)
    # Cardiomegaly before Effusion, Mass before Pneumothorax; none is Normal; unknown counts as absent.
    assert study.class_of(ran.context.config, label).tolist() == [0, 2, 4, 3]


def test_a_generator_without_normal_films_is_not_shown_any(ran):
    config = ran.context.config.copy_and_resolve_references()
    config.gan.normal = "drop"
    (member,) = members.of(config, ran.context.films, "gan")
    label = ran.context.films.table("train")["labels"][member.keep]
    assert (label == 1).any(axis=1).all()
    assert len(member.keep) < ran.context.films.splits["train"]


def test_too_few_films_for_so_many_features_give_no_distance():
    rng = np.random.default_rng(0)
    sets = fdd.Sets({"pool": rng.normal(size=(12, 8))}, np.repeat([0, 1], 6), np.arange(12).astype(str))
    found, means, notes = fdd.by_class(sets, {"proposed": sets}, "pool", ("Mass", "Normal"), 8, 0)
    assert found == {}
    assert means["proposed"]["value"] is None
    assert all("fewer than twice the 8 features" in note for note in notes)


def test_a_headline_without_distances_says_so(ran):
    results = json.loads(json.dumps(ran.results, default=str))
    entry = results["fdd"]["prob"]
    nothing = {"value": None, "low": None, "high": None, "n": 0, "unit": ""}
    entry["mean"] = dict.fromkeys(entry["mean"], nothing)
    entry["minus_baseline"] = nothing
    sentence = tables.headline(results)
    assert sentence.startswith("No class has films enough")
    assert "macro AUROC" in sentence
    assert "difference" not in sentence


def test_the_asked_finding_is_found_where_it_is():
    condition = np.repeat([0, 1, 2], 20)
    prob = np.eye(3)[condition][:, :2] * 0.6 + 0.2
    sets = fdd.Sets({"prob": prob}, condition, np.arange(60).astype(str))
    assert fdd.asked(sets, ("A", "B", "Normal"), [0, 1], 20, 0)["macro"]["value"] == 1.0
    assert fdd.asked(sets, ("A", "B", "Normal"), [1, 0], 20, 0)["macro"]["value"] < 0.5


def _sentences(value: Any) -> Iterator[str]:
    """Titles, notes and names of rows: what of results.json is written for a reader."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _sentences(item)


def test_a_reader_is_told_of_generated_films_and_never_of_made_ones(ran):
    said = [text for text in _sentences(ran.results) if " " in text]
    assert sum("generated" in text for text in said) > 5
    assert not [text for text in said if re.search(r"\bmade\b", text)]


def test_a_generator_samples_the_same_film_in_any_batch(ran):
    trained = finished.load(ran.context.workdir).generator()
    z, c = generator.noise(trained.options, 5, 0), generator.codes(trained.options, np.arange(5))
    one, two = trained.films(z, c, 5)[-1], trained.films(z, c, 2)[-1]
    np.testing.assert_allclose(one.astype(int), two.astype(int), atol=1)


@pytest.mark.slow
def test_a_generator_of_all_films_is_measured_by_a_network_that_did_not_see_the_reference(tmp_path):
    """As `:paper_all_images`, on 50 of 100 phantoms: more outputs than conditions, and the page claims no more."""
    config = smallest("cgan", tmp_path / "films")
    config.gan.part, config.study.arms = "all", ()
    classes = tuple(config.data.classes)
    config.features.classes, config.data.classes = classes, classes[:2]
    STUDIES["synthesis"].check(config)
    context = begin(config, tmp_path / "run")
    bound = context.phases
    assert (bound["features"].part, bound["gan"].part) == ("train", "all")
    assert (bound["features"].classes, bound["gan"].classes) == (classes, classes[:2])
    (note,) = [text for text in STUDIES["synthesis"].check_films(config, context.films) if "reference" in text]
    assert "paper" not in note
    results = study.run(context)
    assert study.reference(context).split == "test"
    assert results["width"]["prob"] == len(classes)
    assert finished.load(tmp_path / "run").classifier("features").classes == classes
    # Films that were trained on are held against the others, and not against themselves.
    assert results["memorization"]["median_distance_held_out"]["value"] > 0
    assert "14 probabilities" not in str(results["tables"])
    with pytest.raises(UserError, match=r"gan.part is 'al'.*did you mean 'all'"):
        STUDIES["synthesis"].check(changed(config, gan__part="al"))
    with pytest.raises(UserError, match=f"features.classes lacks {classes[1]}"):
        STUDIES["synthesis"].check(changed(config, features__classes=classes[:1]))


def changed(config: Any, **values: Any) -> Any:
    out = config.copy_and_resolve_references()
    out.update_from_flattened_dict({key.replace("__", "."): value for key, value in values.items()})
    return out
