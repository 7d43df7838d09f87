"""The record of a run, and what stops another run from going on in its folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import manifest
from cxrjax.errors import UserError

CHOICES = {"study.stride": ((1, 40, ...), "ours"), "data.size": ((64, 256), "the deck")}


def record(fingerprint: str = "f00d", **changes: Any) -> dict[str, Any]:
    config = ConfigDict({
        "seed": 0, "compile_cache": "/a", "data": {"size": 64, "cache": "/b", "root": "/c", "classes": ("x", "y")},
        "study": {"stride": 40}, "mesh": {"devices": 0},
    })  # fmt: skip
    config.update_from_flattened_dict(changes)
    choices = {"study.stride": CHOICES["study.stride"], "data.size": CHOICES["data.size"]}
    return manifest.make(config, choices, "main.py --config=x", {"fingerprint": fingerprint})


def test_choices_carry_the_value_that_the_run_used():
    found = record("f00d", **{"study.stride": 7})
    assert found["choices"]["study.stride"]["value"] == 7
    assert found["choices"]["data.size"] == {"value": 64, "alternatives": [64, 256], "source": "the deck"}
    assert found["config"]["study"]["stride"] == 7
    assert found["config"]["data"]["classes"] == ["x", "y"]
    assert found["versions"]["jax"]
    assert len(found["devices"]) == 8
    assert not found["finished"]


def test_a_record_read_back_is_the_same_run(tmp_path: Path):
    manifest.write_json(tmp_path / "m.json", record())
    old = json.loads((tmp_path / "m.json").read_text())
    manifest.check_same(old, record(), tmp_path)
    moved: dict[str, Any] = {"compile_cache": "/d", "data.cache": "/e", "data.root": "/f", "mesh.devices": 4}
    manifest.check_same(old, record("f00d", **moved), tmp_path)


def test_a_run_of_other_values_is_refused_by_the_names_of_its_keys(tmp_path: Path):
    other: dict[str, Any] = {"seed": 1, "study.stride": 20, "data.cache": "/e"}
    with pytest.raises(UserError) as error:
        manifest.check_same(record(), record("f00d", **other), tmp_path)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "study.stride was 40, is now 20" in message
    assert "seed was 0, is now 1" in message
    for same in ("data.size", "data.cache", "compile_cache"):
        assert same not in message


def test_a_key_that_one_of_them_lacks_differs(tmp_path: Path):
    more = copy.deepcopy(record())
    more["config"]["study"]["extra"] = 3
    for old, new in ((record(), more), (more, record())):
        with pytest.raises(UserError, match=r"study\.extra"):
            manifest.check_same(old, new, tmp_path)


def test_other_films_are_refused_under_the_same_configuration(tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.fingerprint was 'f00d', is now 'beef'"):
        manifest.check_same(record(), record("beef"), tmp_path)


def test_other_boxes_are_refused_where_they_are_recorded(tmp_path: Path):
    old, new = copy.deepcopy(record()), copy.deepcopy(record())
    old["data"]["boxes"], new["data"]["boxes"] = "a", "a"
    manifest.check_same(old, new, tmp_path)
    new["data"]["boxes"] = "b"
    with pytest.raises(UserError, match=r"data\.boxes was 'a', is now 'b'"):
        manifest.check_same(old, new, tmp_path)


def test_flatten_joins_names_by_dots():
    assert manifest.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}


def test_json_is_whole_or_not_there_and_holds_no_nan(tmp_path: Path):
    path = tmp_path / "r.json"
    with pytest.raises(ValueError, match="JSON"):
        manifest.write_json(path, {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
    manifest.write_json(path, {"a": np.float32(0.5), "b": np.arange(3), "c": ConfigDict({"d": (1, 2)}), "e": path})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1, 2], "c": {"d": [1, 2]}, "e": str(path)}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        manifest.write_json(path, {"a": float("inf")})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_films_that_no_phase_sees_are_no_other_run(tmp_path: Path):
    """A set of `data.external` may be added to a run, or taken away, and is told apart by `external`."""
    more = copy.deepcopy(record())
    more["config"]["data"]["external"] = {"kids": {"name": "kermany", "root": "/k"}}
    for old, new in ((record(), more), (more, record())):
        manifest.check_same(old, new, tmp_path)
    assert manifest.external(more["config"]) == {"data.external.kids.name": "kermany", "data.external.kids.root": "/k"}
    assert manifest.external(record()["config"]) == {}
