"""Weight files: what is read, and what is told of a file that cannot be."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from cxrjax import weights
from cxrjax.errors import UserError
from cxrjax.weights import read


def test_half_precision_is_widened_and_integers_are_not(tmp_path: Path) -> None:
    half = np.linspace(-2, 2, 9).astype(np.float16)
    save_file({"a": half, "n": np.array(3)}, tmp_path / "w.safetensors")
    state = weights.load(tmp_path / "w.safetensors")
    assert state["a"].dtype == np.float32
    np.testing.assert_array_equal(state["a"], half.astype(np.float32))
    assert state["n"].dtype == np.int64


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "I128"])
def test_safetensors_of_types_that_numpy_lacks_are_told(tmp_path, kind):
    size = 3 if kind == "F6_E2M3" else 4
    header = json.dumps({"w": {"dtype": kind, "shape": [4], "data_offsets": [0, size]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(UserError, match=r"w\.safetensors: (holds numbers of a type|not a readable safetensors)"):
        weights.load(tmp_path / "w.safetensors")


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    values = np.array([1.0, -0.5, 384.0], np.float32)  # exact in bfloat16, which is the upper half of a float32
    body = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = json.dumps({"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + body)
    np.testing.assert_array_equal(weights.load(tmp_path / "w.safetensors")["a"], values)


def test_a_file_is_told_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.ones(2), "b": np.ones(3)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = read.read(path)
    assert (file.name, file.sha256, len(file.tensors), file.prefix) == ("w.safetensors", digest, 2, "")


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file({"a.weight": np.ones((2, 2), np.float32)}, tmp_path / "w.safetensors")
    assert list(weights.load("~/w.safetensors")) == ["a.weight"]
    assert read.read("~/w.safetensors").name == "w.safetensors"
    with pytest.raises(UserError, match=r"~no-such-person/w\.safetensors: no such file"):
        weights.load("~no-such-person/w.safetensors")


def test_names_that_become_one_are_refused() -> None:
    with pytest.raises(UserError, match=r"'fc\.bias' without 'module\.'"):
        weights.clean({"fc.bias": np.ones(1), "module.fc.bias": np.ones(1), "module.conv1.weight": np.ones(1)})
    name = "features.denseblock1.denselayer1."
    with pytest.raises(UserError, match=r"denselayer1\.norm1\.bias"):
        weights.clean({f"{name}norm1.bias": np.ones(1), f"{name}norm.1.bias": np.ones(1)})


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "net.", "backbone.", "classifier.", "model._orig_mod.module.densenet121."]
)
@pytest.mark.parametrize("name", ["densenet", "resnet_basic", "vgg", "inception"])
def test_whatever_stands_before_every_name_goes_and_is_told(
    case: Callable[..., Any], tmp_path: Path, prefix: str, name: str
) -> None:
    plain = case(name).state
    save_file({prefix + key: value for key, value in plain.items()}, tmp_path / "w.safetensors")
    assert weights.load(tmp_path / "w.safetensors").keys() == plain.keys()
    assert read.read(tmp_path / "w.safetensors").prefix == prefix


def test_what_stands_outside_the_prefix_keeps_its_name(case: Callable[..., Any]) -> None:
    plain = {f"encoder.{key}": value for key, value in case("resnet_basic").state.items() if not key.startswith("fc.")}
    found = weights.clean({**plain, "projector.fc.weight": np.ones((2, 2)), "queue": np.ones(3)})
    assert {"projector.fc.weight", "queue"} < found.keys()
    assert not any(key.startswith("encoder.") for key in found)
    # A network without its head is not mistaken for one within `features`.
    dense = {key: value for key, value in case("densenet").state.items() if key.startswith("features.")}
    assert weights.clean(dense).keys() == dense.keys()


@pytest.mark.parametrize("layout", ["zip", "stream"])
@pytest.mark.parametrize("name", ["w.pth", "pytorch_model.bin", "last.ckpt", "W.CKPT"])
def test_files_of_torch_are_read_by_any_of_its_suffixes(
    by_hand: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layout: str
) -> None:
    state = {"conv1.weight": np.ones((1, 1, 1, 1), np.float16), "fc.bias": np.arange(2, dtype=np.float32)}
    (tmp_path / name).write_bytes(by_hand.state_dict(layout, state, prefix="model."))
    monkeypatch.setitem(sys.modules, "torch", None)  # which is not asked
    found = weights.load(tmp_path / name)
    assert found.keys() == state.keys()
    assert found["conv1.weight"].dtype == np.float32
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read.read(f"~/{name}").prefix == "model."


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.safetensors", None, "no such file"),
        ("w.h5", b"x", r"expected \.safetensors or \.pth"),
        ("w.safetensors", b"", "not a readable safetensors file"),
        ("w.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!", "not a readable safetensors file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        weights.load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_an_empty_file_of_tensors_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="holds no tensor"):
        weights.load(tmp_path / "w.safetensors")
