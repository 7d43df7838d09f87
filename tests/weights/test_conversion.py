"""A converted network gives torch's logits; whatever does not fit is told."""

from __future__ import annotations

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

from cxrjax import weights
from cxrjax.errors import UserError
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
    gray = jax.eval_shape(one.net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 1)))
    with pytest.raises(UserError, match=r"features\.conv0\.weight.*set channels=3"):
        weights.convert(one.state, gray, one.family, head=True)
    with pytest.raises(UserError, match=r"no place in this network for features\.extra\.weight"):
        _converted(one, {**one.state, "features.extra.weight": np.ones(3, np.float32)})
    with pytest.raises(UserError, match=r"nothing for .*params/backbone/norm0/scale"):
        _converted(one, {k: v for k, v in one.state.items() if k != "features.norm0.weight"})
    with pytest.raises(UserError, match=r"features\.norm5\.bias holds values that are not finite"):
        _converted(one, {**one.state, "features.norm5.bias": np.full_like(one.state["features.norm5.bias"], np.nan)})
    with pytest.raises(UserError, match=r"second tensor for params/head/classes/bias"):
        _converted(one, {**one.state, "classifier.0.bias": one.state["classifier.bias"]})
    with pytest.raises(UserError, match="no place in this network"):
        weights.convert(case("resnet_bottleneck").state, _shapes(one), one.family, head=False)
    with pytest.raises(UserError, match="families are densenet, resnet, vgg, inception"):
        weights.convert(one.state, gray, "cnn5", head=True)


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
    names = {"classes": CLASSES, "file_classes": CLASSES}
    filled = weights.bring(tmp_path / "w.safetensors", one.family, head=True, **names)(fresh)
    assert jax.tree.structure(filled) == jax.tree.structure(fresh)
    want, _ = _converted(one)
    got = {"params": filled.params["net"], **filled.stats["net"]}
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, got, want)))
    assert filled.ema["net"] is filled.params["net"]
    assert (filled.step, filled.opt) == (fresh.step, fresh.opt)
    with pytest.raises(UserError, match=r"w\.safetensors: these weights do not fit"):
        weights.bring(tmp_path / "w.safetensors", "resnet18", head=True, **names)(fresh)


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
        weights.bring(tmp_path / "w.safetensors", one.family, head=True, classes=classes, file_classes=file_classes)(
            _state(_shapes(one))
        )
