"""A converted network gives torch's logits; whatever does not fit is told."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file
from scipy import signal

from cxrjax import weights
from cxrjax.errors import UserError
from cxrjax.ops import inputs
from cxrjax.types import State

CLASSES = ("a", "b", "c", "d", "e")  # of the fixtures' five rows
NAMES = ("densenet", "densenet_xrv", "resnet_basic", "resnet_bottleneck", "vgg", "inception")


@cache
def _shapes_of(net: Any, shape: tuple[int, ...]) -> Any:
    return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(shape))


def _shapes(case: Any) -> Any:
    return _shapes_of(case.net, case.x.shape)


def _converted(case: Any, state: dict[str, np.ndarray] | None = None, head: bool = True) -> Any:
    return weights.convert(case.state if state is None else state, _shapes(case), case.family, head=head)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_torch(case: Callable[..., Any], name: str) -> None:
    one = case(name)
    variables, report = _converted(one)
    logits, _ = jax.jit(one.net.apply)(variables, one.x)
    np.testing.assert_allclose(logits, one.logits, rtol=0, atol=1e-4)
    assert np.ptp(one.logits, axis=1).min() > 0.5  # such that 1e-4 says something
    assert {*report.used, *report.ignored} == set(one.state)
    assert not report.fresh
    assert all("torch" in reason for reason in report.ignored.values())
    assert sorted(report.used.values()) == sorted(
        "/".join(path) for path in flatten_dict(dict(variables)) if path[0] in ("params", "batch_stats")
    )


def test_names_of_chexnet_and_of_torchxrayvision_are_the_same_network(case: Callable[..., Any]) -> None:
    one = case("densenet")
    old = {
        "module.densenet121." + re.sub(r"(norm|conv)([12])", r"\1.\2", key).replace("classifier", "classifier.0"): value
        for key, value in one.state.items()
    }
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in old
    plain, renamed = _converted(one)[0], _converted(one, old)[0]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, plain, renamed)))

    two = case("resnet_basic")
    wrapped = {f"model.{key}": value for key, value in two.state.items()} | {"op_threshs": np.full(5, np.nan)}
    variables, report = _converted(two, wrapped)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, _converted(two)[0], variables)))
    assert "operating points" in report.ignored["op_threshs"]


@pytest.mark.parametrize("name", ["resnet_basic", "vgg"])
def test_without_the_head_it_stays_fresh(case: Callable[..., Any], name: str) -> None:
    one = case(name, num_classes=3)
    with pytest.raises(UserError, match="head=False"):
        _converted(one)
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7, leaf.dtype), _shapes(one))
    variables, report = weights.convert(one.state, fresh, one.family, head=False)
    above = {k: v for k, v in variables["params"].items() if k != "backbone"}
    assert all((leaf == 7).all() for leaf in jax.tree.leaves(above))
    assert not any((leaf == 7).all() for leaf in jax.tree.leaves(variables["params"]["backbone"]))
    assert {*report.used, *report.ignored} == set(one.state)
    assert all(path.split("/")[1] in ("head", "aux") for path in report.fresh)
    last = "classifier.6.weight" if name == "vgg" else "fc.weight"
    assert "fresh" in report.ignored[last]


def test_an_auxiliary_head_is_left_out_by_name(case: Callable[..., Any]) -> None:
    one = case("inception", aux=False)
    _, report = _converted(one)
    assert report.ignored["AuxLogits.fc.weight"] == "this network has no auxiliary head"
    whole = case("inception")
    _, report = _converted(whole, head=False)
    assert report.ignored["AuxLogits.fc.weight"] == "head=False: aux/ stays fresh"
    assert {path.split("/")[1] for path in report.fresh} == {"head", "aux"}
    bare = {key: value for key, value in one.state.items() if not key.startswith("AuxLogits")}
    with pytest.raises(UserError, match="aux=False"):
        _converted(whole, bare)


def test_misfits_are_told(case: Callable[..., Any]) -> None:
    one = case("densenet")
    color = jax.eval_shape(one.net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    with pytest.raises(UserError, match=r"features\.conv0\.weight.*set channels=1"):
        weights.convert(case("densenet_xrv").state, color, one.family, head=True)
    with pytest.raises(UserError, match=r"no place in this network for features\.extra\.weight"):
        _converted(one, {**one.state, "features.extra.weight": np.ones(3, np.float32)})
    with pytest.raises(UserError, match=r"nothing for .*params/backbone/norm0/scale"):
        _converted(one, {k: v for k, v in one.state.items() if k != "features.norm0.weight"})
    with pytest.raises(UserError, match=r"features\.norm5\.bias holds values that are not finite"):
        _converted(one, {**one.state, "features.norm5.bias": np.full_like(one.state["features.norm5.bias"], np.nan)})
    with pytest.raises(UserError, match=r"second tensor for params/head/classes/bias"):
        _converted(one, {**one.state, "classifier.0.bias": one.state["classifier.bias"]})
    with pytest.raises(UserError, match="families are densenet, resnet, vgg, inception, efficientnet"):
        weights.convert(one.state, color, "cnn5", head=True)


@pytest.mark.parametrize("name", ["resnet_bottleneck", "vgg", "inception"])
def test_weights_of_another_family_are_told_by_its_name(case: Callable[..., Any], name: str) -> None:
    one, other = case("densenet"), case(name)
    with pytest.raises(UserError) as caught:
        weights.convert(other.state, _shapes(one), "densenet121", head=False)
    family = name.partition("_")[0]
    first = next(iter(other.state))
    assert str(caught.value).startswith(f"these are weights of the family '{family}' ({first}")
    assert str(caught.value).endswith("and the network is 'densenet121'")
    assert len(str(caught.value)) < 250
    strange = {f"encoder.layers.{i}.attention.weight": np.ones((2, 2)) for i in range(40)}
    with pytest.raises(UserError, match=r"none of the families .* and 37 more\)"):
        weights.convert(strange, _shapes(one), "densenet121", head=False)


def _normalized(film: np.ndarray, kind: str) -> np.ndarray:
    """By the mean and the deviation that torchvision and TensorFlow document."""
    mean, deviation = {
        "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "film": ([0.5], [0.25]),
        "efficientnet_lite": ([127 / 255], [128 / 255]),
    }[kind]  # fmt: skip
    return ((np.repeat(film, 3, axis=-1) - np.array(mean)) / np.array(deviation)).astype(np.float32)


@pytest.mark.parametrize("kind", ["imagenet", "film", "efficientnet_lite"])
@pytest.mark.parametrize("name", ["densenet", "resnet_basic", "vgg", "inception"])
def test_a_stem_folded_for_gray_films_is_that_of_three_like_channels_at_the_border_too(
    case: Callable[..., Any], name: str, kind: str
) -> None:
    """To 1e-6 of the largest sum, which is taken in float64, with zeros beyond the border after normalization."""
    one = case(name)
    film = np.random.default_rng(0).random((1, 12, 12, 1))
    planes = np.asarray(inputs.normalize(jnp.asarray(film, jnp.float32), kind))
    shapes = _shapes_of(one.net, (*one.x.shape[:3], planes.shape[-1]))
    variables, report = weights.convert(one.state, shapes, one.family, head=True, normalize=kind)
    kernel = flatten_dict(variables["params"], sep="/")[report.used[report.folded].removeprefix("params/")]
    whole = one.state[report.folded].transpose(2, 3, 1, 0)
    assert kernel.shape[2] == planes.shape[-1] < whole.shape[2] == 3

    def convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        pairs = zip(np.moveaxis(image[0].astype(np.float64), -1, 0), np.moveaxis(kernel, 2, 0), strict=True)
        return sum(
            np.stack([signal.correlate2d(plane, each[..., o], mode="same") for o in range(each.shape[-1])])
            for plane, each in pairs
        )

    expected = convolved(_normalized(film, kind), whole)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(convolved(planes, kernel), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_logits_of_a_folded_network_are_those_of_three_like_channels(case: Callable[..., Any]) -> None:
    one = case("densenet")
    film = np.random.default_rng(0).random((*one.x.shape[:3], 1)).astype(np.float32)
    whole, _ = jax.jit(one.net.apply)(_converted(one)[0], _normalized(film, "imagenet"))
    planes = inputs.normalize(jnp.asarray(film), "imagenet")
    variables, _ = weights.convert(
        one.state, _shapes_of(one.net, planes.shape), one.family, head=True, normalize="imagenet"
    )
    folded, _ = jax.jit(one.net.apply)(variables, planes)
    np.testing.assert_allclose(folded, whole, rtol=0, atol=2e-6)
    assert np.ptp(whole) > 0.5


def test_what_became_of_every_tensor_is_accounted_for(case: Callable[..., Any], tmp_path: Any) -> None:
    one = case("resnet_basic", num_classes=3)
    save_file({f"module.{key}": value for key, value in one.state.items()}, tmp_path / "w.safetensors")
    source = weights.Source(tmp_path / "w.safetensors", one.family, head=False)
    account = weights.account(source, _shapes_of(one.net, (1, 32, 32, 1)))
    counts = sum(key.endswith("num_batches_tracked") for key in one.state)
    assert account.pop("sha256") == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert account == {
        "file": "w.safetensors", "prefix": "module.", "tensors": len(one.state),
        "used": len(one.state) - counts - 2, "folded": "conv1.weight",
        "ignored": {
            f"*.num_batches_tracked ({counts})": "torch's count of batches, which no forward pass reads",
            "fc.weight": "head=False: head/ stays fresh", "fc.bias": "head=False: head/ stays fresh",
        },
        "fresh": ("params/head/classes/bias", "params/head/classes/kernel"),
    }  # fmt: skip


def _state(variables: Any) -> State:
    params = variables["params"]
    rest = {k: v for k, v in variables.items() if k != "params"}
    return State(
        step=0, params={"net": params}, stats={"net": rest}, opt={"net": 1}, ema={"net": params}, frozen={}, evals={}
    )


@pytest.mark.parametrize("name", ["densenet", "vgg"])
def test_a_carry_replaces_the_network_alone(case: Callable[..., Any], tmp_path: Any, name: str) -> None:
    one = case(name)
    save_file(one.state, tmp_path / "w.safetensors")
    fresh = _state(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), _shapes(one)))
    filled = weights.bring(weights.Source(tmp_path / "w.safetensors", one.family, True, CLASSES, CLASSES))(fresh)
    assert jax.tree.structure(filled) == jax.tree.structure(fresh)
    want, _ = _converted(one)
    got = {"params": filled.params["net"], **filled.stats["net"]}
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, got, want)))
    assert filled.ema["net"] is filled.params["net"]
    assert (filled.step, filled.opt) == (fresh.step, fresh.opt)
    with pytest.raises(UserError, match=r"w\.safetensors: these weights do not fit"):
        weights.bring(weights.Source(tmp_path / "w.safetensors", one.family, True, CLASSES[:3], CLASSES))(fresh)


@pytest.mark.parametrize("name", ["densenet", "vgg", "inception"])
@pytest.mark.parametrize("wanted", [("e", "b"), ("c", "a", "d", "b", "e")])
def test_a_heads_rows_are_picked_by_the_names_of_their_classes(
    case: Callable[..., Any], name: str, wanted: tuple[str, ...]
) -> None:
    whole, one = case(name), case(name, num_classes=len(wanted))
    names = {"classes": wanted, "file_classes": CLASSES}
    variables, report = weights.convert(one.state, _shapes(one), one.family, head=True, **names)
    assert not report.fresh
    logits, _ = jax.jit(one.net.apply)(variables, one.x)
    np.testing.assert_allclose(logits, whole.logits[:, [CLASSES.index(n) for n in wanted]], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("classes", "file_classes", "words"),
    [
        (("a", "b"), (), "say weights_classes"),
        (CLASSES, (), "say weights_classes"),  # as many as the file has are no reason to trust their order
        (("a", "f"), CLASSES, "f is not so; the file's are a, b, c, d, e"),
        (("a", "b"), ("a", "b", "c", "b", "e"), "b is not so"),
        (("a", "b"), ("a", "b", "c"), r"classifier\.\w+ has 5 rows, and weights_classes names 3"),
    ],
)
def test_a_head_whose_classes_are_not_told_or_do_not_fit_is_refused(
    case: Callable[..., Any], tmp_path: Any, classes: tuple[str, ...], file_classes: tuple[str, ...], words: str
) -> None:
    one = case("densenet", num_classes=len(classes))
    save_file(one.state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=words):
        weights.bring(weights.Source(tmp_path / "w.safetensors", one.family, True, classes, file_classes))(
            _state(_shapes(one))
        )
