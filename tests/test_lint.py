"""The tree is clean under its own linter, formatter and type checker."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TREES = ("cxrjax", "configs", "launch", "tests")


@pytest.mark.slow  # a newer linter may find more: not what a user's first test run should fail on
@pytest.mark.parametrize(
    "arguments", [("ruff", "check", *TREES), ("ruff", "format", "--check", *TREES), ("mypy",)], ids=" ".join
)
def test_clean(arguments):
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
