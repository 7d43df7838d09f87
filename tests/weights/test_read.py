"""Weight files: what is read, and what is told of a file that cannot be."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cxrjax import weights
from cxrjax.types import UserError


def test_half_precision_is_widened_and_integers_are_not(tmp_path: Path) -> None:
    half = np.linspace(-2, 2, 9).astype(np.float16)
    save_file({"module.a": half, "n": np.array(3)}, tmp_path / "w.safetensors")
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


def test_a_description_has_the_digest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.ones(2), "b": np.ones(3)}, path)
    expected = {"name": "w.safetensors", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "tensors": 2}
    assert weights.describe(path) == expected


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file({"a.weight": np.ones((2, 2), np.float32)}, tmp_path / "w.safetensors")
    assert list(weights.load("~/w.safetensors")) == ["a.weight"]
    assert weights.describe("~/w.safetensors")["name"] == "w.safetensors"
    with pytest.raises(UserError, match=r"~no-such-person/w\.safetensors: no such file"):
        weights.load("~no-such-person/w.safetensors")


def test_names_that_become_one_are_refused() -> None:
    with pytest.raises(UserError, match=r"fc\.bias"):
        weights.clean({"fc.bias": np.ones(1), "module.fc.bias": np.ones(1)})


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


def test_without_torch_a_torch_file_says_how_to_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install torch.*save_file"):
        weights.load(tmp_path / "w.pth")


def test_an_empty_file_of_tensors_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="holds no tensor"):
        weights.load(tmp_path / "w.safetensors")
