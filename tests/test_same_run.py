"""The comparison of two workdirs: what is left out, and that anything else is found and told."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import same_run

MANIFEST = {
    "command": "main.py --workdir=a", "started": "2026-01-01T00:00:00+00:00", "commit": "c0ffee",
    "versions": {"jax": "1"}, "config": {"data": {"size": 32, "folds": 5, "cache": "/a"}, "diffusion": {"time": "map"}},
    "choices": {"data.size": {"value": 32}}, "data": {"fingerprint": "f00d"},
}  # fmt: skip
RESULTS = {
    "progress": {"seconds_a_film": {"value": 0.5, "n": 4}, "mae": {"value": 0.25, "n": 4}},
    "tables": [{
        "title": "Arms", "columns": ["change", "s a film"],
        "rows": [{"name": "uniform", "cells": [{"value": 0.25}, {"value": 0.5}]}],
    }],
}  # fmt: skip
PAGE = """<title>{name} · report</title><style>b {{}}</style><p>written {date}</p>
<p><img alt="film 1" src="data:image/png;base64,{picture}"></p>
<table><thead><tr><th></th><th>change</th><th>s a film</th></tr></thead>
<tr><td>uniform</td><td>{change}</td><td>{seconds}</td></tr></table>
<table><tr><td><code>progress.seconds_a_film</code></td><td>{seconds}</td></tr></table>
<table><tr><th>commit</th><td>{commit}</td></tr></table>
<pre>{manifest}</pre>"""


def write(folder: Path, **page: Any) -> Path:
    (folder / "checkpoints" / "net" / "6").mkdir(parents=True)
    (folder / "checkpoints" / "net" / "6" / page.get("state", "state")).touch()
    manifest = {
        **MANIFEST,
        "command": f"main.py --workdir={folder}",
        "started": str(folder),
        "commit": page.get("commit", "c0ffee"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    results = copy.deepcopy(RESULTS)
    seconds = page.get("seconds", 0.5)
    results["progress"]["seconds_a_film"]["value"] = results["tables"][0]["rows"][0]["cells"][1]["value"] = seconds
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.jsonl").write_text('{"phase": "net", "step": 2, "loss": 0.5}\n')
    (folder / "parameters_net.txt").write_text("kernel\n")
    np.savez(folder / "films.npz", image=np.array([0.0, np.nan], np.float32), key=np.array(["a"]), seconds=seconds)
    values = {
        "name": folder.name, "date": "2026-01-01 10:00 UTC", "picture": "AA", "change": "0.25", "seconds": seconds,
        "commit": manifest["commit"], "manifest": json.dumps(manifest), **page,
    }  # fmt: skip
    (folder / "report.html").write_text(PAGE.format(**values))
    return folder


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write(tmp_path / "first")


def test_times_places_versions_and_pictures_make_no_other_run(first, tmp_path, capsys):
    other = write(tmp_path / "b", seconds=0.75, commit="beef", date="2027-02-03 11:30 UTC", picture="BB", state="s2")
    assert same_run.main([str(first), str(other)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "report.html: picture 0, film 1, is another (does not count)",
        "the same run: 7 files",
    ]


def rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("results.json", "0.25, ", "0.2500000000000001, ", "progress.mae.value is 0.25 and 0.2500000000000001"),
        ("results.json", '{"value": 0.25}', '{"value": 0.3}', "tables[0].rows[0].cells[0].value is 0.25 and 0.3"),
        ("results.json", '"value": 0.25, "n": 4', '"n": 4, "value": 0.25', "progress.mae: the same keys in another"),
        ("results.json", '"n": 4', '"n": 4.0', "progress.seconds_a_film"),
        ("metrics.jsonl", "0.5", "0.6", "line[0].loss is 0.5 and 0.6"),
        ("metrics.jsonl", "\n", '\n{"phase": "net"}\n', "line is"),
        ("manifest.json", '"map"', '"scalar"', "config.diffusion.time is 'map' and 'scalar'"),
        ("manifest.json", "f00d", "beef", "data.fingerprint"),
        ("parameters_net.txt", "kernel", "bias", "is another"),
        ("report.html", "<td>0.25</td>", "<td>0.26</td>", "0.26"),
        ("report.html", "b {}", "i {}", "i {}"),
    ],
)  # fmt: skip
def test_anything_else_is_told_with_its_place(first, tmp_path, capsys, name, old, new, told):
    other = shutil.copytree(first, tmp_path / "second")
    rewritten(other / name, old, new)
    if told == "progress.seconds_a_film":  # its count is left out with it
        told = "progress.mae.n is 4 and 4.0"
    assert same_run.main([str(first), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{name}: ") and told in line for line in lines), lines


def test_arrays_are_compared_bit_by_bit(first, tmp_path, capsys):
    same = {"image": np.array([0.0, np.nan], np.float32), "key": np.array(["a"])}
    for changes, told in (
        ({"image": np.array([-0.0, np.nan], np.float32)}, "image: 1 of 2 elements differ"),
        ({"image": same["image"].astype(np.float64)}, "image is float32 (2,) and float64 (2,)"),
        ({"key": np.array(["b"])}, "key: 1 of 1 elements differ"),
        ({"more": np.zeros(1)}, "more is only in the second"),
    ):
        other = shutil.copytree(first, tmp_path / "second", dirs_exist_ok=True)
        np.savez(other / "films.npz", **{**same, **changes})
        assert same_run.main([str(first), str(other)]) == 1
        assert f"films.npz: {told}" in capsys.readouterr().out


def test_files_that_only_one_has_are_told(first, tmp_path, capsys):
    other = shutil.copytree(first, tmp_path / "second")
    (other / "films.npz").rename(other / "masks.npz")
    (other / "checkpoints" / "net" / "6").rename(other / "checkpoints" / "net" / "7")
    assert same_run.main([str(first), str(other)]) == 1
    out = capsys.readouterr().out
    for line in ("films.npz: only in the first", "masks.npz: only in the second", "checkpoints/net/7: only in the"):
        assert line in out


def test_keys_may_be_left_out_by_name(first, tmp_path, capsys):
    other = shutil.copytree(first, tmp_path / "second")
    for name in ("manifest.json", "report.html"):
        rewritten(other / name, '"folds": 5, ', "")  # in a page's manifest too
    assert same_run.main([str(first), str(other)]) == 1
    for key in ("data.folds", "data"):
        assert same_run.main([str(first), str(other), f"--ignore={key}"]) == 0
    capsys.readouterr()
    assert same_run.main([str(first), str(other), "--ignore=folds"]) == 2
    assert "--ignore=folds: neither config has such a key" in capsys.readouterr().err


def test_what_is_no_workdir_is_told(first, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, words in (("none", "is no folder"), ("empty", "has no manifest.json")):
        assert same_run.main([str(first), str(tmp_path / folder)]) == 2
        got = capsys.readouterr()
        assert got.out == ""
        assert got.err.startswith("error: ")
        assert words in got.err
