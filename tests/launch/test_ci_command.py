"""`.ci/run` runs exactly the README's test command: it finds one marked block, or says what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- test command -->"
BLOCK = f"{MARK}\n```bash\npip install -e '.[test]' && pytest\n```\n"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def ask(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(root / ".ci" / "run"), *args], capture_output=True, text=True, cwd="/", check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    return tmp_path


def test_this_readme_has_one_marked_block() -> None:
    done = ask(ROOT, "--print")
    assert done.returncode == 0, done.stderr
    assert "pip install -e '.[test]'" in done.stdout
    assert "pytest" in done.stdout
    assert (ROOT / "README.md").read_text(encoding="utf-8").count(MARK) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"# Title\n\n{BLOCK}\nmore\n",
        f"```\nother\n```\n{BLOCK}```\nother\n```\n",
        BLOCK.replace("-->\n", "-->\n\n"),
        BLOCK.replace("\n", "\r\n"),
        BLOCK.rstrip(),
    ],
)
def test_the_block_is_found(clone: Path, text: str) -> None:
    (clone / "README.md").write_bytes(text.encode())
    assert ask(clone, "--print").stdout == "pip install -e '.[test]' && pytest\n"


@pytest.mark.parametrize(
    "text",
    [
        "no block\n",
        "```\npytest\n```\n",
        BLOCK + BLOCK,
        f"{MARK}\n{BLOCK}",
        f"{MARK}\nwords between\n```\npytest\n```\n",
        f"{MARK}\n```\npytest\n",
        f"{MARK}\n```\n```\n",
    ],
)
@pytest.mark.parametrize("args", [(), ("--print",)])
def test_anything_else_is_refused_before_running(clone: Path, text: str, args: tuple[str, ...]) -> None:
    (clone / "README.md").write_text(text)
    done = ask(clone, *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert {path.name for path in clone.iterdir()} == {".ci", "README.md"}


def test_the_command_runs_in_the_clone_and_its_failure_is_kept(clone: Path) -> None:
    """An environment that stands already is used; nothing is created elsewhere; the exit code is the command's."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "activate").write_text("ACTIVATED=yes\n")
    (clone / ".venv" / "bin" / "python").symlink_to("/bin/true")
    (clone / "README.md").write_text(f'{MARK}\n```\necho "$ACTIVATED $PWD" > seen && exit 7\n```\n')
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "XDG_CACHE_HOME")}
    done = subprocess.run([str(clone / ".ci" / "run")], env=environment, cwd="/", check=False, capture_output=True)
    assert done.returncode == 7
    assert (clone / "seen").read_text() == f"yes {clone}\n"
    assert {path.name for path in clone.iterdir()} == {".ci", ".venv", "README.md", "seen"}
