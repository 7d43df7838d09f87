"""Members of a phase, and freezing then unfreezing through kills."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from cxrjax import data, defaults, phases, weights
from cxrjax.errors import UserError
from cxrjax.phases import members, start
from cxrjax.phases import phase as phase_module
from cxrjax.phases.bind import bind
from cxrjax.tasks import TASKS
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch

NET = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Any:
    """Two phases on 24 phantoms of 16 px: a frozen backbone, then the whole with the head's moments."""
    c = defaults.run()
    c.data = defaults.data(
        "phantom", ("Normal", "Pneumonia"), 16, cache=str(tmp_path_factory.mktemp("films")),
        num={"train": 24, "val": 8, "test": 4},
    )  # fmt: skip
    shared = {"log_every": 1, "save_every": 2, "eval_every": 1, "eval_batch": 8}
    rate = {"schedule": "plateau", "patience": 1, "factor": 0.5}
    c.phases = ("head", "whole")
    frozen = defaults.optim("adam", 0.5, frozen=("^backbone/",), **rate)
    c.head = defaults.classify(NET, frozen, 5, 8, cached=True, **shared)
    c.whole = defaults.classify(
        NET, defaults.optim("adam", 0.5, apart=("^backbone/",), **rate), 5, 8, carry="head", carry_opt=True, **shared
    )
    c.study = defaults.comparison({"whole": "whole"})
    return c


@pytest.fixture(scope="module")
def films(config) -> data.Prepared:
    return data.prepare(config.data)


def train(config, films, workdir, states, phase):
    workdir.mkdir(exist_ok=True)
    with logs.Log(workdir) as log:
        context = phases.Context(config, films, workdir, meshes.make(1), jax.random.key(0), log, dict(states), {})
        bound = context.phases[phase]
        return phase_module.train(context, bound, bound.members[0], phase_module.task_of(bound))


@pytest.fixture(scope="module")
def whole(config, films, tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("whole")
    head = train(config, films, folder, {}, "head")
    return SimpleNamespace(folder=folder, head=head, whole=train(config, films, folder, {"head": head}, "whole"))


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b))


@pytest.mark.parametrize("phase", ["head", "whole"])
def test_a_kill_inside_either_phase_ends_with_the_same_bits(config, films, whole, tmp_path, monkeypatch, phase):
    real = data.batches

    class Killed:
        """A stream that dies as it is asked for its fourth batch."""

        def __init__(self, *args, **kwargs):
            self.inner, self.left = real(*args, **kwargs), 3

        def __next__(self):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return next(self.inner)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    states = {} if phase == "head" else {"head": whole.head}
    monkeypatch.setattr(data, "batches", Killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, films, tmp_path, states, phase)
    monkeypatch.setattr(data, "batches", real)
    resumed = train(config, films, tmp_path, states, phase)
    expected = getattr(whole, phase)
    assert same(resumed, expected)
    assert float(expected.evals["lr_scale"]) < 1  # the rate was lowered on the way, and the count of it came back
    assert same(resumed.evals, expected.evals)


def test_the_frozen_phase_leaves_the_backbone_as_it_began_and_the_next_moves_it(config, films, whole, tmp_path):
    task = TASKS["classify"](config.head, ("Normal", "Pneumonia"))
    key = jax.random.split(members.name_key(jax.random.key(0), "head"), 3)[0]
    start = jax.jit(task.init)(key, members.example_of(config, "head", 1))
    assert same(start.params["net"]["backbone"], whole.head.params["net"]["backbone"])
    assert same(start.stats, whole.head.stats)
    assert not same(start.params["net"]["head"], whole.head.params["net"]["head"])
    assert not same(whole.head.params["net"]["backbone"], whole.whole.params["net"]["backbone"])
    assert not same(whole.head.stats, whole.whole.stats)


def test_a_head_trained_on_features_computed_once_is_the_one_trained_on_films(config, films, whole, tmp_path):
    rows = [np.load(path) for path in sorted((whole.folder / "features").glob("*.npy"))]
    assert [row.shape for row in rows] == [(24, 1, 1, 8), (8, 1, 1, 8)]  # means, all that this head reads
    plain = config.copy_and_resolve_references()
    plain.head.cached = False
    expected = train(plain, films, tmp_path, {}, "head")
    assert not (tmp_path / "features").exists()
    assert jax.tree.structure(expected) == jax.tree.structure(whole.head)
    assert same(expected.params["net"]["backbone"], whole.head.params["net"]["backbone"])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), expected.params, whole.head.params)
    assert float(expected.evals["lr_scale"]) == float(whole.head.evals["lr_scale"])  # as many bad evaluations


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optim.frozen": ()}, "set optim.frozen"), ({"optim.frozen": ("^backbone/.*kernel",)}, "set optim.frozen"),
        ({"augment": ("flip",)}, "flip would change"), ({"degrees": 5.0}, "degrees would change"),
        ({"crop": 8}, "crop would change"),
        ({"net": {"name": "inception_tiny"}, "optim.frozen": ("^backbone/", "^aux/")}, "net.aux = False"),
    ],
)  # fmt: skip
def test_features_are_not_cached_where_films_or_the_backbone_change(config, changes, words):
    changed = config.copy_and_resolve_references()
    with changed.ignore_type():
        for key, value in changes.items():
            if key == "net":
                changed.head.net = changed.whole.net = value
            else:
                changed.update_from_flattened_dict({f"head.{key}": value})
    with pytest.raises(UserError, match=f"head: cached .*{words}"):
        phases.check(changed, meshes.make(1))


def test_the_learning_rate_is_not_reset_where_the_optimizer_goes_on(config, whole):
    fresh = dataclasses.replace(whole.head, evals={**whole.head.evals, "lr_scale": np.float32(1)})
    brought = start.bring(config.whole, whole.head, fresh)
    assert float(brought.evals["lr_scale"]) == float(whole.head.evals["lr_scale"])
    reset = start.bring({**config.whole, "carry_opt": False}, whole.head, fresh)
    assert float(reset.evals["lr_scale"]) == 1


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.9), (0.9, 0.0), (0.9, 0.9)])
@pytest.mark.parametrize("kind", ["classify", "gan", "autoencoder"])
def test_weights_go_on_between_phases_of_which_either_keeps_an_average(config, kind, before, after):
    rate = defaults.optim("adam", 1e-3)

    def state(ema: float, seed: int) -> Any:
        if kind == "classify":
            phase = defaults.classify(NET, rate, 1, 8, ema=ema)
        elif kind == "gan":
            net = {"name": "cgan", "sizes": (16,), "features": 4, "residuals": 0, "d_features": 4}
            phase = defaults.gan(net, 1e-3, 1, 8, latent=8, ema=ema)
        else:
            net = {"name": "autoencoder_tiny", "channels": (8, 8), "groups": 4, "latent": 2, "patch": 1}
            phase = defaults.autoencoder(net, rate, rate, 1, 8, perceptual=0.0, ema=ema)
        task = TASKS[kind](phase, ("Mass", "Pneumonia"))
        shapes = jax.eval_shape(task.init, jax.random.key(0), Batch.blank(1, 16, 2))
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda x: rng.uniform(size=x.shape).astype(x.dtype), shapes)

    earlier, fresh = state(before, 1), state(after, 2)
    brought = start.bring({}, earlier, fresh)
    assert jax.tree.structure(brought) == jax.tree.structure(fresh)
    assert same((brought.params, brought.stats), (earlier.params, earlier.stats))
    for name, average in brought.ema.items():
        begun = average["params"] if kind == "gan" else average
        assert same(average, earlier.ema[name]) if before else same(begun, earlier.params[name])
    assert bool(brought.ema) == bool(after)


def test_folds_part_the_patients_and_seeds_share_all_films(config, films):
    changed = config.copy_and_resolve_references()
    changed.whole.folds = 3
    found = members.of(changed, films, "whole")
    assert [m.name for m in found] == ["whole_0", "whole_1", "whole_2"]
    assert sorted(np.concatenate([m.held_out for m in found]).tolist()) == list(range(24))
    for member in found:
        assert sorted([*member.keep, *member.held_out]) == list(range(24))
    changed.whole.update({"folds": 0, "seeds": 2})
    assert [m.keep for m in members.of(changed, films, "whole")] == [None, None]


def test_balanced_weights_are_counted_on_the_training_films(config, films, tmp_path):
    changed = config.copy_and_resolve_references()
    with changed.ignore_type():
        changed.head.class_weight = ("balanced",)
    context: Any = SimpleNamespace(films=films, found={}, log=SimpleNamespace(say=lambda text: None))
    head = bind(changed, films, 1)["head"]
    weight = np.array(phase_module.resolve(head, context).config.class_weight)
    label = data.labels.select(films.table("train")["labels"], films.columns, ("Normal", "Pneumonia"))
    np.testing.assert_allclose(weight * label.sum(axis=0), 12)
    none = {"labels": np.zeros((24, 1), np.float32)}
    healthy: Any = SimpleNamespace(columns=("Hernia",), table=lambda split: none)
    context.films = healthy
    with pytest.raises(UserError, match="no training film is Hernia"):
        phase_module.resolve(head._replace(classes=("Normal", "Hernia")), context)


def test_a_grids_best_cell_sets_the_optimizer(config, films):
    changed = config.copy_and_resolve_references()
    changed.whole.optim_from = "grid"
    best = {"optimizer": "nag", "lr": 0.03, "momentum": 0.3}
    context: Any = SimpleNamespace(films=films, found={"grid": {"best": best}}, log=SimpleNamespace(say=lambda _: None))
    optimizer = phase_module.resolve(bind(changed, films, 1)["whole"], context).config.optim
    assert (optimizer.name, optimizer.lr, optimizer.b1) == ("nag", 0.03, 0.3)
    assert changed.whole.optim.name == "adam"  # the run's own config is left as it was asked for


def test_a_phase_begins_with_the_weights_of_a_file_and_the_manifest_says_which(config, films, tmp_path):
    fixture = Path(__file__).parents[1] / "weights" / "fixtures" / "densenet_xrv.safetensors"
    state = {name: value for name, value in weights.load(fixture).items() if not name.startswith("fixture.")}
    path = tmp_path / "xrv.safetensors"
    save_file(state, path)
    changed = config.copy_and_resolve_references()
    net = {"name": "densenet121", "blocks": (1, 2), "growth": 8, "bn_size": 2, "stem_features": 12}
    frozen = defaults.optim("sgd", 0.5, frozen=("^backbone/",))
    asked = {"net": net, "optimizer": frozen, "steps": 2, "batch": 8, "weights": str(path)}
    changed.head = defaults.classify(**asked)
    changed.phases = ("head",)
    said = phases.check(changed, meshes.make(1))["head"]
    assert (said["file"], said["tensors"]) == ("xrv.safetensors", len(state))
    assert said["used"] + len(said["ignored"]) == len(state) - 8  # the nine counts of batches are told together
    assert "operating points" in said["ignored"]["op_threshs"]
    # All this is told before a film is prepared.
    for wrong, words in (
        ({"weights_head": True}, "head: .*weights_classes"),
        ({"weights_head": True, "weights_classes": ("Normal", "Pneumonia", "Mass")}, "has 5 rows"),
        ({"net": {**net, "growth": 12}}, r"head: .*xrv\.safetensors: these weights do not fit .*features\.denseblock1"),
        ({"net": {"name": "resnet18"}}, r"head: .*these are weights of the family 'densenet' .* network is 'resnet18'"),
        ({"channels": 3}, "head: .*set channels=1"),
        (
            {"weights": "imagenet"},
            "head: weights = 'imagenet' of densenet121 were trained under normalize = 'imagenet'",
        ),
        ({"weights": "imagenet", "normalize": "imagenet"}, "head: weights = 'imagenet': .*pip install torchvision"),
    ):
        other = changed.copy_and_resolve_references()
        other.head = defaults.classify(**{**asked, **wrong})
        with pytest.raises(UserError, match=words):
            phases.check(other, meshes.make(1))
    trained = train(changed, films, tmp_path / "run", {}, "head")
    kernel = trained.params["net"]["backbone"]["conv0"]["kernel"]
    np.testing.assert_array_equal(kernel, state["features.conv0.weight"].transpose(2, 3, 1, 0))
    average = trained.stats["net"]["batch_stats"]["backbone"]["norm_last"]["mean"]
    np.testing.assert_array_equal(average, state["features.norm5.running_mean"])  # frozen, the statistics too
    assert float(np.abs(trained.params["net"]["head"]["classes"]["bias"]).max()) > 0
