"""A finished run as a start: its backbone to the bit, a head of one's own, and nothing that does not fit."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from cxrjax import defaults, manifest
from cxrjax.errors import UserError
from cxrjax.phases import backbones, check, start
from cxrjax.tasks import TASKS
from cxrjax.train import mesh as meshes
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch

NET = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
ADAM = defaults.optim("adam", 1e-2)


def config(classes, **phase):
    c = defaults.run()
    c.data = defaults.data("phantom", classes, 16)
    c.phases = ("net",)
    c.net = defaults.classify(phase.pop("net", NET), ADAM, 2, 4, **{"loss": "sigmoid", **phase})
    c.study = defaults.comparison({"net": "Net"})
    return c


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished run of fourteen findings, two seeds, as its networks were begun."""
    folder = tmp_path_factory.mktemp("backbones") / "run"
    c = config(("Mass", "Nodule", "Edema"), seeds=2)
    task = TASKS["classify"](c.net, tuple(c.data.classes))
    for i in range(2):
        with Checkpoints(folder / "checkpoints" / f"net_{i}") as checkpoints:
            checkpoints.save(1, jax.jit(task.init)(jax.random.key(5 + i), Batch.blank(1, 16, 3)), {}, {}, done=True)
    facts = {"name": "kermany", "fingerprint": "f00d"}
    manifest.write_json(folder / "manifest.json", {"finished": True, "config": manifest.plain(c), "data": facts})
    return folder


def fresh(c):
    task = TASKS["classify"](c.net, tuple(c.data.classes))
    return jax.jit(task.init)(jax.random.key(0), Batch.blank(1, 16, len(c.data.classes)))


def test_the_backbone_is_taken_to_the_bit_and_the_head_stays_fresh(workdir):
    c = config(("Normal", "Pneumonia"), loss="softmax", ema=0.9)
    own = fresh(c)
    given = str(workdir / "checkpoints" / "net_1")
    state = backbones.bring(given, meshes.make(1))(own)
    theirs = backbones.of(given).run.state("net_1")
    for found in (state.params, state.ema):
        jax.tree.map(np.testing.assert_array_equal, found["net"]["backbone"], theirs.params["net"]["backbone"])
        jax.tree.map(np.testing.assert_array_equal, found["net"]["head"], own.params["net"]["head"])
    stats = state.stats["net"]["batch_stats"]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, stats, theirs.stats["net"]["batch_stats"]["backbone"])
    pairs = zip(*(jax.tree.leaves(one.params["net"]["backbone"]) for one in (own, state)), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_what_was_taken_stands_in_the_manifest(workdir):
    c = config(("Normal", "Pneumonia"), weights=str(workdir / "checkpoints" / "net_0"))
    told = check(c, meshes.make(1))["net"]
    assert told["classifier"] == "net_0"
    assert told["classes"] == ["Mass", "Nodule", "Edema"]
    assert (told["films"], told["fingerprint"]) == ("kermany", "f00d")
    leaves = jax.tree.leaves([tree["backbone"] for tree in (fresh(c).params["net"], *fresh(c).stats["net"].values())])
    assert told["used"] == len(leaves)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("", {}, r"expected one classifier of films of a finished run; it has .*net_0, .*net_1"),
        ("checkpoints/net", {}, "expected one classifier"),
        ("checkpoints/net_0", {"normalize": "unit"}, "normalize is 'film' there and 'unit' here"),
        ("checkpoints/net_0", {"weights_head": True}, "of a run the backbone alone is taken"),
        ("checkpoints/net_0", {"net": {**NET, "widths": (4, 12)}}, r"is not that of resnet_tiny .*\d+ arrays differ"),
    ],
)
def test_what_does_not_fit_is_refused_before_films_are_prepared(workdir, name, changes, message):
    c = config(("Normal", "Pneumonia"), weights=str(workdir / name), **changes)
    if name.endswith("net"):
        (workdir / name).mkdir(exist_ok=True)
    with pytest.raises(UserError, match=f"net: weights = .*{message}"):
        check(c, meshes.make(1))


def test_a_folder_that_is_no_run_is_told(tmp_path):
    c = config(("Normal", "Pneumonia"), weights=str(tmp_path))
    with pytest.raises(UserError, match=r"holds no run: manifest\.json is missing"):
        start.origin(c, "net", fresh(c))


def test_weights_that_may_have_seen_held_out_films_are_refused(workdir, monkeypatch):
    class Films:
        has_truth, fingerprint = False, "other"

    c, given, films = config(("a", "b")), str(workdir / "checkpoints" / "net_0"), Films()
    backbones.check_films(given, c, films, 0)  # of another set
    c.data.name = "kermany"
    with pytest.raises(UserError, match="of kermany too, and its films or their parts are others"):
        backbones.check_films(given, c, films, 0)
    films.fingerprint = "f00d"
    backbones.check_films(given, c, films, 0)
    with pytest.raises(UserError, match="folds hold out films of its training part"):
        backbones.check_films(given, c, films, 5)
    films.has_truth = True
    backbones.check_films(given, c, films, 5)  # drawn films hold nobody out
