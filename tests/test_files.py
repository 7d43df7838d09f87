"""JSON, .npz and .npy files are whole or not there, and what is damaged is named."""

import errno
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import files
from cxrjax.errors import UserError


def harm(path, how):
    content = path.read_bytes()
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    else:
        middle = len(content) // 3
        content = content[:middle] + bytes(b ^ 0xFF for b in content[middle : middle + 40]) + content[middle + 40 :]
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "flip"])
def test_damaged_arrays_are_named_and_made_again(tmp_path, how):
    path = tmp_path / "predictions" / "a.npz"
    files.write_arrays(path, x=np.random.default_rng(0).normal(size=500), key=np.array(["a", "b"]))
    assert files.check_arrays(path)
    np.testing.assert_array_equal(files.read_arrays(path)["key"], ["a", "b"])
    harm(path, how)
    for read in (files.read_arrays, files.check_arrays):
        with pytest.raises(files.Damaged, match=rf"{path} is damaged .*the same command makes it again"):
            read(path)


@pytest.mark.parametrize("how", ["cut", "empty"])
def test_a_damaged_array_is_named_and_made_again(tmp_path, how):
    path, array = tmp_path / "features" / "a.npy", np.random.default_rng(0).normal(size=(50, 3))
    files.write_array(path, array)
    np.testing.assert_array_equal(files.map_array(path), array)
    assert [p.name for p in path.parent.iterdir()] == ["a.npy"]
    harm(path, how)
    with pytest.raises(files.Damaged, match=rf"{path} is damaged .*the same command makes it again"):
        files.map_array(path)


def test_a_file_that_is_not_there_is_no_damage(tmp_path):
    assert not files.check_arrays(tmp_path / "a.npz")
    for read in (files.read_arrays, files.read_json, files.map_array):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "a")


@pytest.mark.parametrize("how", ["cut", "empty", "flip"])
def test_damaged_json_is_named_with_the_way_out(tmp_path, how):
    path = tmp_path / "manifest.json"
    files.write_json(path, {"config": ConfigDict({"a": (1, 2)}), "b": np.float32(0.5), "c": list("some words" * 9)})
    assert files.read_json(path)["config"] == {"a": [1, 2]}
    harm(path, how)
    with pytest.raises(files.Damaged, match=rf"{path} is damaged .*; restore it from a copy"):
        files.read_json(path)


def test_what_was_there_stays_where_the_new_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=rf"{path}: the disk is full, [\d,]+ bytes are free there"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), "its storage fails .*see to the storage"),
        (ValueError("UNKNOWN: Error writing '/a/b': No space left on device"), "the disk is full"),
        (ValueError("shapes do not match"), None),
        (TypeError("a fault of ours"), None),
    ],
)
def test_trouble_is_told_by_name_and_a_fault_of_ours_is_none(tmp_path, error, words):
    told = files.told(error, tmp_path / "x")
    if words is None:
        assert told is None
    else:
        with pytest.raises(UserError, match=words):
            raise told


def test_a_cause_tells_too(tmp_path):
    error = RuntimeError("the save failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in str(files.told(error, tmp_path))
