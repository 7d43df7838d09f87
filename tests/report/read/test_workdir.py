"""A workdir is read with care: mistakes are told with file and line, and jax is not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.report import write
from cxrjax.report.page import flat
from cxrjax.report.read.workdir import entries_of


def test_mistakes_are_told_with_file_and_line(fakes: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        write(tmp_path)
    workdir = fakes.run(tmp_path / "run", n=8, size=16, lambdas=(100,))
    np.savez(workdir / "progress" / "uniform_0100.npz", image=np.zeros((8, 9, 9), np.float32))
    with pytest.raises(UserError, match=r"uniform_0100\.npz: image has shape \(8, 9, 9\)"):
        write(workdir)
    np.savez(workdir / "progress" / "uniform_0100.npz", image=np.full((8, 16, 16), np.nan, np.float32))
    with pytest.raises(UserError, match=r"uniform_0100\.npz: image of 8 of 8 films holds NaN"):
        write(workdir)
    (workdir / "metrics.jsonl").write_text('{"phase": "a", "step": 1, "loss": 1}\n{"pha')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        write(workdir)


def test_nested_value_groups_are_not_mistaken_for_leaves() -> None:
    tree = {"outside": {"value": {"value": 1.0, "low": 0.5, "high": 1.5}, "difference": {"value": -1.0}}}
    assert {leaf.path: leaf.value for leaf in entries_of(tree)} == {
        ("outside", "value"): 1.0,
        ("outside", "difference"): -1.0,
    }
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == [("a.b", 1), ("a.c", {}), ("d", [1])]


def test_report_does_not_load_jax() -> None:
    code = "import sys, cxrjax.report; sys.exit(any(name in sys.modules for name in ('jax', 'flax')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
