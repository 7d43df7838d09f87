"""A whole run: what its workdir holds, that a finished one is left alone, that a killed one ends the same."""

import errno
import json
import os
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cxrjax import data, defaults, manifest, report, run
from cxrjax.errors import UserError
from cxrjax.phases import start
from cxrjax.types import State

ROOT = Path(__file__).resolve().parent.parent


def small(tmp_path):
    """The smoke variant, smaller still, one mode besides the baseline, and on phantoms from elsewhere too."""
    module = runpy.run_path(str(ROOT / "configs" / "ddpm_cam.py"))
    config = module["get_config"]("smoke")
    config.data.cache = str(tmp_path / "films")
    config.compile_cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    config.data.num.update({"train": 32, "val": 8, "test": 24})
    config.mesh.devices = 1
    config.classifier.net.update({"blocks": (1, 2), "hidden": (64,)})  # compiling is what a run of six steps costs
    config.judge.net.update({"blocks": (1, 1), "widths": (8, 16)})
    config.diffusion.net.update({"base": 8, "mults": (1, 2)})
    config.study.modes = ("uniform", "time_gated")
    config.study.lambdas = (200,)
    config.data.external.other = {"name": "phantom", "seed": 5, "num": {"train": 0, "val": 0, "test": 24}}
    config.study.outside.update({"num_diseased": 3, "num_controls": 1})
    keys = manifest.flatten(manifest.plain(config))
    return config, {key: entry for key, entry in module["CHOICES"].items() if key in keys}  # as the launcher does


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config, choices = small(folder)
    assert run.run(config, choices=choices, workdir=folder / "run", command="test") == 0
    return config, choices, folder / "run"


def leaves(tree, path=()):
    if "value" in tree and not isinstance(tree["value"], dict):
        yield path, tree
    else:
        for key, value in tree.items():
            if isinstance(value, dict):  # tables are lists
                yield from leaves(value, (*path, key))


def test_the_workdir_holds_everything_that_is_promised(finished):
    config, choices, workdir = finished
    record = json.loads((workdir / "manifest.json").read_text())
    assert record["finished"]
    assert record["weights"] == dict.fromkeys(config.phases, "from scratch")
    assert record["config"]["diffusion"]["steps"] == config.diffusion.steps
    assert set(record["choices"]) == set(choices)
    assert record["choices"]["study.sampler.name"]["value"] == "ancestral"
    assert record["data"]["fingerprint"]
    for name in ("metrics.jsonl", "results.json", "report.html", "figures/strips.png", "tensorboard"):
        assert (workdir / name).exists(), name
    for phase in config.phases:
        assert list((workdir / "checkpoints" / phase).glob("[0-9]*"))


def test_every_figure_is_a_leaf_with_value_interval_count_and_unit(finished):
    results = json.loads((finished[2] / "results.json").read_text())
    found = dict(leaves(results))
    assert ("progress", "time_gated", "200", "normal_rate", "independent") in found
    assert ("progress", "uniform", "200", "twin_error", "outside") in found
    for path, leaf in found.items():
        assert set(leaf) == {"value", "low", "high", "n", "unit"}, path


def test_films_from_elsewhere_are_treated_in_every_arm_and_judged(finished):
    results = json.loads((finished[2] / "results.json").read_text())
    there = results["external"]["other"]
    assert set(there["progress"]) == {"untreated", "uniform", "time_gated"} == set(results["progress"])
    assert there["progress"]["time_gated"]["200"]["normal_rate"]["independent"]["n"] == 3
    assert there["control"]["untreated"]["normal_rate_set"]["cam_network"]["n"] == 1
    assert set(there["classifiers"]) == {"classifier", "judge", "logreg32"}
    assert there["classifiers"]["judge"]["auroc"]["n"] == 24
    healthy = results["healthy"]
    assert set(healthy) == {"inside", "other"}
    for by_judge in healthy.values():
        for judge in ("independent", "cam_network"):
            # Of phantoms 60 % are healthy, of which half of the untreated set the threshold.
            assert by_judge[judge]["normal"]["n"] + by_judge[judge]["threshold"]["n"] == 14
    titles = [table["title"] for table in results["tables"]]
    assert "Healthy untreated films called normal" in titles
    assert "Arms inside and outside at normal rate 0.5, own thresholds" in titles
    assert "Classifiers on films from elsewhere: other" in titles
    assert any("other" in text for text in results["sentences"])
    record = json.loads((finished[2] / "manifest.json").read_text())
    assert any("data.external.other has 6" in text.lower() for text in record["warnings"])


def test_random_numbers_are_of_one_implementation_whatever_the_default_was(finished):
    assert json.loads((finished[2] / "manifest.json").read_text())["random_numbers"] == "threefry2x32"
    before = jax.config.jax_default_prng_impl
    expected = jax.random.normal(jax.random.key(3, impl="threefry2x32"), (2, 4))
    try:
        jax.config.update("jax_default_prng_impl", "rbg")  # as JAX_DEFAULT_PRNG_IMPL does
        run.pin_random_numbers()
        drawn = jax.random.normal(jax.random.key(3), (2, 4))
        keys = jax.random.split(jax.random.key(0), 3)
        together = jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)
    finally:
        jax.config.update("jax_default_prng_impl", before)
    np.testing.assert_array_equal(drawn, expected)
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_array_equal(jax.random.normal(key, (5,)), row)


def test_the_same_command_on_a_finished_run_does_nothing(finished, capsys):
    config, choices, workdir = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    assert run.run(config, choices=choices, workdir=workdir, command="test") == 0
    assert "finished" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


def test_the_libraries_of_the_page_wait_for_the_page():
    code = "import sys, cxrjax.run; sys.exit(' '.join({'matplotlib', 'jinja2', 'sklearn'} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_damaged_results_of_a_finished_run_are_named_and_made_again(finished, capsys, monkeypatch):
    config, choices, workdir = finished
    before = numbers(workdir)
    path, treated = workdir / "results.json", workdir / "progress" / "time_gated_0200.npz"
    path.write_bytes(path.read_bytes()[:-200])
    treated.write_bytes(treated.read_bytes()[:-200])

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "report.html"))

    with monkeypatch.context() as patch:
        patch.setattr(report, "write", full)
        with pytest.raises(
            UserError, match=rf"{workdir / 'report.html'}: the disk is full, .*the same command goes on"
        ):
            run.run(config, choices=choices, workdir=workdir, command="test")
    assert not json.loads((workdir / "manifest.json").read_text())["finished"]
    assert run.run(config, choices=choices, workdir=workdir, command="test") == 0
    assert f"{path} is damaged" in capsys.readouterr().out
    assert numbers(workdir) == before
    assert json.loads((workdir / "manifest.json").read_text())["finished"]


def test_a_damaged_manifest_is_named(finished, tmp_path):
    config, choices, workdir = finished
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "manifest.json").write_bytes((workdir / "manifest.json").read_bytes()[:500])
    with pytest.raises(UserError, match=rf"{begun / 'manifest.json'} is damaged .*; restore it from a copy"):
        run.run(config, choices=choices, workdir=begun, command="test")


def test_another_configuration_is_refused_in_a_begun_workdir(finished, tmp_path):
    config, choices, workdir = finished
    begun = tmp_path / "begun"
    begun.mkdir()
    record = json.loads((workdir / "manifest.json").read_text()) | {"finished": False}
    (begun / "manifest.json").write_text(json.dumps(record))
    other = config.copy_and_resolve_references()
    other.diffusion.steps += 1
    with pytest.raises(UserError, match=r"diffusion\.steps was 6, is now 7"):
        run.run(other, choices=choices, workdir=begun, command="test")


def numbers(workdir):
    found = dict(leaves(json.loads((workdir / "results.json").read_text())))
    # All but the clock's.
    return {p: (leaf["value"], leaf["low"], leaf["high"]) for p, leaf in found.items() if "seconds_a_film" not in p}


def last_phase(workdir):
    """The phase of the last whole line of the log; a file of the sweep counts as the phase `progress`."""
    if list((workdir / "progress").glob("*_[0-9]*.npz")):
        return "progress"
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["phase"]
    except (OSError, IndexError, json.JSONDecodeError):
        return ""


@pytest.mark.slow
def test_kill_in_every_phase_ends_with_the_same_results(tmp_path):
    """kill -9 at a random moment of each phase, then the same command."""
    config, _ = small(tmp_path)

    def command(workdir):
        more = [f"--config.data.num.{k}={v}" for k, v in config.data.num.items()]
        more += [f"--config.{phase}.steps=60" for phase in config.phases]
        return [
            sys.executable, str(ROOT / "launch" / "main.py"), f"--config={ROOT}/configs/ddpm_cam.py:smoke",
            f"--workdir={workdir}", f"--config.data.cache={tmp_path / 'films'}",
            f"--config.compile_cache={config.compile_cache}", *more,
        ]  # fmt: skip

    env = {**os.environ, "XLA_FLAGS": ""}
    subprocess.run(command(tmp_path / "whole"), check=True, env=env, capture_output=True)
    rng = random.Random(0)
    killed = tmp_path / "killed"
    for phase in (*config.phases, "progress"):
        process = subprocess.Popen(command(killed), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and last_phase(killed) != phase:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None, f"the run ended before it could be killed in {phase}"
        process.kill()
        process.wait()
        assert last_phase(killed) == phase
    subprocess.run(command(killed), check=True, env=env, capture_output=True)
    assert numbers(killed) == numbers(tmp_path / "whole")
    for path in sorted((tmp_path / "whole" / "progress").glob("*.npz")):
        with np.load(path) as a, np.load(killed / "progress" / path.name) as b:
            assert all(
                np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a.files if k != "seconds"
            ), path.name


def test_classes_that_a_config_leaves_open_are_the_folders_before_anything_else(tmp_path):
    for name in ("well", "ill"):
        (tmp_path / name).mkdir()
        Image.new("L", (20, 20), 90).save(tmp_path / name / "film.png")
    c = defaults.run()
    c.data = defaults.data("folder", (), 16, root=str(tmp_path))
    c.net = defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), 1, 8)
    c.phases = ("net",)
    c.study = defaults.comparison({"net": "Net"}, pairs=(("net", "other"),))
    with pytest.raises(UserError, match=r"study\.pairs.*other"):
        run.run(c.lock(), choices={}, workdir=tmp_path / "run", command="test")
    assert data.with_classes(c).data.classes == ("ill", "well")
    assert not (tmp_path / "run").exists()


def test_a_phase_can_begin_with_the_weights_of_an_earlier_one():
    def state(value):
        tree = {"net": {"w": jnp.full(3, value)}}
        return State(jnp.int32(value), tree, tree, {"net": {"m": jnp.full(3, value)}}, {}, {}, {})

    brought = start.bring({}, state(7.0), state(0.0))
    assert jax.tree.all(jax.tree.map(lambda x: bool((x == 7).all()), (brought.params, brought.stats)))
    assert float(brought.opt["net"]["m"][0]) == 0
    assert int(brought.step) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", ["ddpm_cam.py:study_smoke", "ddpm_cam.py:rivals_smoke", "latent_ddpm_cam.py:smoke", "anoddpm.py:smoke"]
)
def test_every_study_of_diffusions_reaches_its_page(variant, tmp_path):
    command = [
        sys.executable, str(ROOT / "launch" / "main.py"), f"--config={ROOT}/configs/{variant}",
        f"--workdir={tmp_path / 'run'}", f"--config.data.cache={tmp_path / 'films'}",
        f"--config.compile_cache={os.environ['JAX_COMPILATION_CACHE_DIR']}",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ""}, capture_output=True)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    modes = json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["study"]["modes"]
    ranked = {row["name"].split(", ")[0] for row in results["tables"][0]["rows"]}
    assert set(modes) <= ranked
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
