"""What an installed copy needs beside its Python files is in the wheel."""

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_file_that_is_not_python_is_package_data():
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    files = [
        path for path in (ROOT / "cxrjax").rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    ]
    assert len(files) > 5
    left_out = [
        str(path.relative_to(ROOT)) for path in files
        if not any(fnmatch.fnmatch(path.name, glob) for glob in globs) or not (path.parent / "__init__.py").exists()
    ]  # fmt: skip
    assert left_out == []
