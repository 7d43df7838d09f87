import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxrjax import defaults, models
from cxrjax.errors import UserError
from cxrjax.ops import augment, inputs, losses
from cxrjax.tasks import classify
from cxrjax.train import optim
from cxrjax.types import Batch

NET = models.build("resnet_tiny", num_classes=2, blocks=(1, 1), widths=(8, 16))
TX = optax.adam(3e-3)


def batch(n=16, size=16):
    """Bright squares against none: a thing that can be learned."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 0.4, (n, size, size, 1)).astype(np.float32)
    sick = np.arange(n) % 2
    image[sick == 1, 4:9, 4:9] += 0.4
    return Batch(image, np.eye(2, dtype=np.float32)[sick], np.ones(n, np.float32), np.arange(n, dtype=np.int32))


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_training_steps_lower_the_loss_on_a_fixed_batch(loss):
    options = classify.Options(loss=loss)
    state = classify.init(NET, TX, classify.Options(), jax.random.key(0), batch())
    step = jax.jit(partial(classify.step, NET, TX, options))
    seen = []
    for i in range(8):
        state, scalars = step(state, batch(), jax.random.key(i))
        seen.append(float(scalars["loss"]))
    assert seen[1] < seen[0]
    assert seen[-1] < 0.7 * seen[0]
    assert int(state.step) == 8


def test_one_step_moves_weights_statistics_and_optimizer_but_not_its_inputs():
    state = classify.init(NET, TX, classify.Options(), jax.random.key(0), batch())
    before = jax.tree.map(np.array, state)
    new, _ = jax.jit(partial(classify.step, NET, TX, classify.Options()))(state, batch(), jax.random.key(0))
    for name in ("params", "stats", "opt"):
        pairs = zip(jax.tree.leaves(getattr(before, name)), jax.tree.leaves(getattr(new, name)), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), name
    assert jax.tree.all(jax.tree.map(np.array_equal, before, state))


def test_padding_changes_neither_loss_nor_gradient_of_a_network_without_batch_statistics():
    # BatchNorm sees every row, so the claim is about the head alone: train only what follows the statistics.
    real = batch(8)
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x[:4])]), real)
    state = classify.init(NET, TX, classify.Options(), jax.random.key(0), real)
    rows = classify.predict(NET, classify.Options(), state, padded, jax.random.key(0))
    expected = classify.predict(NET, classify.Options(), state, real, jax.random.key(0))
    np.testing.assert_allclose(rows["logits"][:8], expected["logits"], atol=1e-5)


def test_a_step_augments_by_its_key_and_evaluation_never():
    ranges = augment.Ranges(degrees=20.0, noise=0.2)
    start = classify.init(NET, TX, classify.Options(), jax.random.key(0), batch())
    step = jax.jit(partial(classify.step, NET, TX, classify.Options(ranges=ranges)))
    loss = [float(step(start, batch(), jax.random.key(i))[1]["loss"]) for i in (0, 0, 1)]
    plain = float(
        jax.jit(partial(classify.step, NET, TX, classify.Options()))(start, batch(), jax.random.key(0))[1]["loss"]
    )
    assert loss[0] == loss[1]
    assert len({loss[0], loss[2], plain}) == 3
    asked = [
        classify.predict(NET, classify.Options(ranges=r), start, batch(), jax.random.key(0))["logits"]
        for r in (ranges, augment.NONE)
    ]
    assert np.array_equal(*asked)


def test_summary_of_perfect_and_of_reversed_rows():
    label = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    logits = np.asarray(label * 8 - 4, np.float32)
    good = classify.summarize(classify.Options(), {"logits": logits, "label": label})
    assert good["accuracy"] == 1
    assert good["auroc"] == 1
    bad = classify.summarize(classify.Options(), {"logits": -logits, "label": label})
    assert bad["accuracy"] == 0
    assert bad["auroc"] == 0
    assert bad["loss"] > good["loss"]


def test_on_eval_keeps_the_lowest_loss():
    state = classify.init(NET, TX, classify.Options(), jax.random.key(0), batch())
    for loss, best in ((0.5, 0.5), (0.7, 0.5), (0.2, 0.2)):
        state = classify.on_eval(classify.Options(), state, {"loss": loss})
        assert float(state.evals["best_loss"]) == pytest.approx(best)


def run_steps(options, state, tx=TX, n=3):
    step = jax.jit(partial(classify.step, NET, tx, options))
    for i in range(n):
        state, _ = step(state, batch(), jax.random.key(i))
    return state


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_a_frozen_backbone_keeps_the_bits_of_its_weights_and_of_its_batch_statistics():
    config = defaults.optim("adam", 3e-3, frozen=("^backbone/",))
    tx, options = optim.make(config, 10), classify.Options(backbone_stats="kept")
    start = classify.init(NET, tx, options, jax.random.key(0), batch())
    end = run_steps(options, start, tx)
    assert same(start.params["net"]["backbone"], end.params["net"]["backbone"])
    assert same(start.stats["net"], end.stats["net"])
    assert not same(start.params["net"]["head"], end.params["net"]["head"])
    thawed = run_steps(classify.Options(), start, tx)  # frozen weights alone are not a frozen backbone
    assert not same(start.stats["net"], thawed.stats["net"])


def test_kept_statistics_stay_while_the_backbones_weights_move_and_the_step_sees_them():
    trained, kept = (
        classify.Options(),
        classify.options_of(
            defaults.classify(
                {"name": "resnet_tiny"}, defaults.optim("adam", 3e-3), 10, 8, backbone_stats="kept", normalize="film"
            )
        ),
    )
    start = classify.init(NET, TX, trained, jax.random.key(0), batch())
    end = run_steps(kept, start)
    assert same(start.stats["net"], end.stats["net"])
    assert not same(start.params["net"]["backbone"], end.params["net"]["backbone"])
    moved = run_steps(trained, start)
    assert not same(start.stats["net"], moved.stats["net"])
    # By the kept statistics training sees what evaluation does: the first loss is that of the rows it predicts.
    rows = classify.predict(NET, kept, start, batch(), jax.random.key(0))
    expected = classify.summarize(kept, {k: np.asarray(v) for k, v in rows.items()})["loss"]
    first = float(jax.jit(partial(classify.step, NET, TX, kept))(start, batch(), jax.random.key(0))[1]["loss"])
    assert first == pytest.approx(expected, rel=1e-5)


def test_an_unfrozen_backbone_begins_its_moments_while_the_heads_go_on():
    first, second = (defaults.optim("adam", 3e-3, **{key: ("^backbone/",)}) for key in ("frozen", "apart"))
    tx = optim.make(first, 10)
    options = classify.Options(backbone_stats="kept")
    earlier = run_steps(options, classify.init(NET, tx, options, jax.random.key(0), batch()), tx)
    fresh = classify.init(NET, optim.make(second, 10), classify.Options(), jax.random.key(1), batch())
    carried = optim.carry(earlier.opt, fresh.opt)
    old = {optim.path_of(p): np.asarray(v) for p, v in jax.tree_util.tree_leaves_with_path(earlier.opt)}
    moved = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(carried):
        name = optim.path_of(path)
        if "backbone" in name or "apart" in name:
            assert not np.asarray(leaf).any(), name  # young moments, and a count of their own
        elif name in old:
            assert np.array_equal(leaf, old[name]), name
            moved += int(np.asarray(leaf).any())
    assert moved >= 4  # the head's two moments of kernel and bias, and its count


def test_a_stalled_loss_divides_the_rate_and_the_step_obeys():
    options = classify.Options(plateau=optim.Plateau(patience=2, factor=0.1))
    state = classify.init(NET, TX, options, jax.random.key(0), batch())
    scales = []
    for loss in (0.5, 0.6, float("nan"), 0.4, 0.4, 0.4, 0.3):
        state = classify.on_eval(options, state, {"loss": loss})
        scales.append(float(state.evals["lr_scale"]))
    np.testing.assert_allclose(scales, [1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)
    tx = optax.sgd(0.1)
    state = classify.init(NET, tx, options, jax.random.key(0), batch())
    slow = dataclasses.replace(state, evals={**state.evals, "lr_scale": jnp.float32(0.1)})
    whole, tenth = run_steps(options, state, tx, 1), run_steps(options, slow, tx, 1)
    for a, b, c in zip(*(jax.tree.leaves(s.params) for s in (state, whole, tenth)), strict=True):
        np.testing.assert_allclose((b - a) * 0.1, c - a, atol=1e-6)


def test_ten_crops_are_averaged_as_probabilities():
    options = classify.Options(crop=12, tta=("flip", "shift"))
    state = classify.init(NET, TX, options, jax.random.key(0), batch())
    film = batch(3).image
    ten = classify.logits_of(NET, options, classify.variables_of(options, state), film)
    one = options._replace(crop=0, tta=())
    crops = inputs.views(film, options.tta, 12)
    assert len(crops) == 10
    each = [classify.logits_of(NET, one, classify.variables_of(one, state), crop) for crop in crops]
    np.testing.assert_allclose(jax.nn.softmax(ten), np.mean([jax.nn.softmax(x) for x in each], axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("own", "side"),
    [
        ({"hidden": (5,)}, 1), ({"transition": 6}, 8), ({"pool": "lse"}, 8), ({"widen_features": 7}, 8),
        ({"head": "lstm", "units": 4}, 8), ({"head": "conv", "width": 6}, 8),
    ],
)  # fmt: skip
def test_the_head_says_of_features_what_the_network_says_of_films(own, side):
    net = models.build("resnet_tiny", num_classes=2, **{"blocks": (1,), "widths": (8,), **own})
    options, rows = classify.Options(normalize="unit"), batch(4)
    state = classify.init(net, TX, options, jax.random.key(0), rows)
    found = classify.features(net, options, state, rows, jax.random.key(0))["features"]
    assert found.shape == (4, side, side, 8)
    cached = dataclasses.replace(rows, image=np.asarray(found))
    whole = classify.predict(net, options, state, rows, jax.random.key(0))
    head = classify._of_features(net, options, state, cached, jax.random.key(0))
    np.testing.assert_allclose(head["logits"], whole["logits"], atol=1e-5)


def test_the_average_of_the_weights_predicts_where_it_is_asked_for():
    options = classify.Options(ema=0.9)
    state = run_steps(options, classify.init(NET, TX, options, jax.random.key(0), batch()))
    assert not same(state.ema, state.params)
    assert same(classify.variables_of(options, state)["params"], state.ema["net"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "softmx"}, "did you mean"), ({"input": "phase"}, "expected cxr or enh"),
        ({"tta": ("turn",)}, "tta"),
        ({"backbone_stats": "keep"}, "trained or kept"), ({"zoom": 1.0}, "zoom = 1.0.*below 1"),
        ({"gamma": -0.1}, "gamma = -0.1.*0 or more"),
        ({"border": 0.5}, "share of the side"), ({"normalize": "imagnet"}, "did you mean"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_told_by_name(changes, message):
    config = defaults.classify({"name": "resnet_tiny"}, defaults.optim("adam", 1e-3), 10, 8, **changes)
    with pytest.raises(UserError, match=message):
        classify.options_of(config)
