"""What the READMEs say can be done: their scripts run as they stand, and their links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cxrjax import defaults, manifest
from cxrjax.tasks import TASKS
from cxrjax.train.checkpoint import Checkpoints
from cxrjax.types import Batch

ROOT = Path(__file__).resolve().parents[1]
READMES = [ROOT / folder / "README.md" for folder in (".", "configs", "cxrjax", "launch", "tests")]
FINISHED = "runs/ddpm_cam-smoke"


def script(readme: Path, beginning: str) -> str:
    """The one Python block of a README that begins so."""
    blocks = re.findall(r"^```python\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if block.startswith(beginning)]
    return found


FIRST = script(READMES[0], "from PIL import Image\n")
STEPS = script(READMES[2], "import runpy\n")


def links(readme: Path) -> Iterator[tuple[str, str]]:
    """The relative links of a README, pictures too: (path, anchor)."""
    text = re.sub(r"^```.*?^```$", "", readme.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(readme: Path) -> set[str]:
    """What GitHub calls the headings of a README."""
    headings = re.findall(r"^#+ (.*)$", readme.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[io.StringIO]:
    """Runs in a folder; gives what is printed."""
    before, printed = Path.cwd(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(printed):
            yield printed
    finally:
        os.chdir(before)


def run_here(text: str) -> None:
    exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})


def finish(folder: Path) -> None:
    """Leaves what a finished run of the main job leaves, its tiny networks as chance began them."""
    c = defaults.run()
    c.data, c.phases = defaults.data("phantom", ("Normal", "Pneumonia"), 16), ("classifier", "judge", "diffusion")
    net, adam = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}, defaults.optim("adam", 1e-3)
    unet = {"name": "unet_tiny", "base": 8, "mults": (1,), "groups": 4, "patch": 2, "updown": "plain"}
    c.classifier, c.judge = (defaults.classify(net, adam, 1, 4) for _ in range(2))
    c.diffusion = defaults.diffusion(unet, adam, 1, 4)
    c.study = defaults.treatment(sampler={"stride": 100})
    for i, name in enumerate(c.phases):
        task = TASKS[c[name].task](c[name], tuple(c.data.classes))
        with Checkpoints(folder / "checkpoints" / name) as checkpoints:
            checkpoints.save(1, jax.jit(task.init)(jax.random.key(i), Batch.blank(1, 16, 2)), {}, {}, done=True)
    manifest.write_json(folder / "manifest.json", {"finished": True, "config": manifest.plain(c)})


def test_the_readme_is_read_to_its_end() -> None:
    assert 100 <= len(READMES[0].read_text(encoding="utf-8").splitlines()) <= 140


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(readme: Path) -> None:
    dead = []
    for path, anchor in links(readme):
        target = readme.parent / path if path else readme
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(f"{path}#{anchor}")
    assert dead == []


def test_the_pictures_are_small() -> None:
    for readme in READMES:
        for path, _ in links(readme):
            if path.endswith((".webp", ".png")):
                assert (readme.parent / path).stat().st_size < 200_000
                with Image.open(readme.parent / path) as picture:
                    picture.load()


def test_the_first_script_runs_as_it_stands(tmp_path: Path) -> None:
    assert len(FIRST.splitlines()) <= 20
    finish(tmp_path / FINISHED)
    with working_in(tmp_path) as printed:
        run_here(FIRST)
    found = re.findall(r"^(\S+\.png): (\d\.\d+)$", printed.getvalue(), re.MULTILINE)
    assert len(found) == 3
    assert all((tmp_path / name).is_file() and 0 <= float(value) <= 1 for name, value in found)
    with Image.open(tmp_path / "treated.png") as treated, Image.open(tmp_path / found[-1][0]) as film:
        assert treated.info["Synthetic"] == "true"
        assert treated.size == film.size
        assert not np.array_equal(treated, film)


def test_the_second_script_names_every_task() -> None:
    assert len(STEPS.splitlines()) <= 15
    head, _, _ = STEPS.partition("    config = ")
    named: list[tuple[str, str, str]] = []
    exec(f"{head}    named.append((file, variant, phase))", {"named": named})
    makers = {file: runpy.run_path(str(ROOT / "configs" / f"{file}.py"))["get_config"] for file, *_ in named}
    assert sorted(makers[file](variant)[phase].task for file, variant, phase in named) == sorted(TASKS)


@pytest.mark.slow
def test_the_second_script_takes_a_step_of_each_task() -> None:
    with working_in(ROOT) as printed:
        run_here(STEPS)
    rows = [line.partition(" ") for line in printed.getvalue().splitlines()]
    assert sorted(task for task, _, _ in rows) == sorted(TASKS)
    for _, _, scalars in rows:
        assert np.isfinite(eval(scalars)["loss"])


def test_what_is_not_resampled_by_patient_is_said():
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    told = text.split("## How to read the figures\n")[1].split("\n## ")[0]
    assert "Every figure is" not in told
    for kind in ("Wilson", "DeLong", "halves without replacement", "KID", "Student", "no interval", "by film"):
        assert kind in told, kind
    assert "border-only control tells an upper bound of the source" in " ".join(told.split())
