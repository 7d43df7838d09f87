"""Films treated by another's code are judged as an arm, and what is wrong with them is told by name."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.studies.treatment import foreign, measures, ranking
from cxrjax.studies.treatment import study as studies

SIZE, KEYS = 16, ["a-1", "b/2", "c"]
FILMS = np.random.default_rng(0).uniform(0.1, 0.9, (3, SIZE, SIZE)).astype(np.float32)
CONFIG = Path(__file__).resolve().parents[3] / "configs" / "ddpm_cam.py"


def study(**folders: Path) -> Any:
    return ConfigDict({"foreign": {name: str(path) for name, path in folders.items()}, "modes": ("uniform",),
                       "insertions": 0})  # fmt: skip


def write(folder: Path, strength: str, image: Any = FILMS, keys: Any = KEYS) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{strength}.npz", key=np.array(keys), image=np.asarray(image))
    return folder


def test_png_and_npz_come_in_the_order_of_the_keys(tmp_path: Path):
    for bits, kind in ((255, np.uint8), (65535, np.uint16)):
        for key, film in zip(KEYS, FILMS, strict=True):
            path = tmp_path / "0400" / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(film * bits).astype(kind)).save(path)
        read = foreign.read("theirs", tmp_path / "0400", KEYS, SIZE)
        np.testing.assert_allclose(read, FILMS, atol=0.51 / bits)
    folder = write(tmp_path / "arrays", "20", FILMS[::-1], KEYS[::-1])
    np.testing.assert_array_equal(foreign.read("theirs", folder / "20.npz", KEYS, SIZE), FILMS)
    write(folder, "0100", (FILMS * 255).astype(np.uint8))
    assert list(foreign.strengths("theirs", str(folder))) == [20, 100]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": FILMS[:2], "keys": KEYS[:2]}, r"lacks 1 of the 3 treated films \(c\)"),
        ({"image": np.zeros((3, 8, 8), np.float32)}, "the film a-1 is 8 x 8; the run's are 16 x 16"),
        ({"image": FILMS * 255}, "the film a-1 is float32 from .* expected uint8, or floats in"),
        ({"image": FILMS * np.nan}, "the film a-1 is float32 from nan"),
        ({"keys": ["a-1", "b/2", "d"]}, "has the film d, which is none of the study's"),
        ({"keys": KEYS[:2]}, "of equal length"),
        ({"image": FILMS[[0, 1, 2, 2]], "keys": [*KEYS, "c"]}, "has the film c more than once"),
    ],
)
def test_wrong_missing_and_resized_films_are_named_before_training(tmp_path: Path, given: dict[str, Any], words: str):
    folder = write(tmp_path / "theirs", "0400", **given)
    with pytest.raises(UserError, match=words):
        foreign.check_films(study(theirs=folder), KEYS, SIZE)


def test_a_png_that_is_cut_or_in_color_is_named(tmp_path: Path):
    folder = tmp_path / "0400"
    folder.mkdir()
    (tmp_path / "0400" / "b").mkdir()
    for key in KEYS:
        Image.fromarray((FILMS[0] * 255).astype(np.uint8)).save(folder / f"{key}.png")
    whole = (folder / "c.png").read_bytes()
    (folder / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="the film c cannot be read"):
        foreign.check_films(study(theirs=tmp_path), KEYS, SIZE)
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(folder / "c.png")
    with pytest.raises(UserError, match="the film c is a PNG of mode RGB; expected gray"):
        foreign.check_films(study(theirs=tmp_path), KEYS, SIZE)


def test_wrong_folders_and_names_are_refused(tmp_path: Path):
    for name, folder, words in (
        ("theirs", tmp_path / "none", "study.foreign.theirs = .*none: no such folder"),
        ("theirs", tmp_path, "is empty"),
        ("uniform", tmp_path, "study.foreign.uniform: give it a name .* that no arm has"),
        ("untreated", tmp_path, "study.foreign.untreated: give it a name"),
        ("pixel_theirs", tmp_path, "study.foreign.pixel_theirs: give it a name"),
    ):
        with pytest.raises(UserError, match=words):
            foreign.check(study(**{name: folder}))
    (tmp_path / "strong").mkdir()
    with pytest.raises(UserError, match="strong is no strength"):
        foreign.check(study(theirs=tmp_path))
    config = runpy.run_path(str(CONFIG))["get_config"]("smoke")
    with config.unlocked():
        config.study.foreign.theirs = str(tmp_path)
    with pytest.raises(UserError, match="strong is no strength"):
        studies.check(config)  # before films are prepared


@pytest.fixture
def exporter(launcher: Callable[[str], ModuleType]) -> ModuleType:
    return launcher("export_films")


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("films", lambda path: path.write_bytes(path.read_bytes()[:200]), r"films.npz is damaged"),
        ("masks", lambda path: path.write_text("no archive"), r"masks.npz is damaged"),
        ("films", lambda path: np.savez(path, key=KEYS, image=FILMS), "films.npz has no disease, cam; give a run"),
    ],
)
def test_a_damaged_run_is_told_by_its_file_and_hands_nothing_out(
    tmp_path: Path, exporter: Any, capsys: Any, name: str, harm: Callable[[Path], Any], words: str
):
    run, out = tmp_path / "run", tmp_path / "out"
    (run / "progress").mkdir(parents=True)
    np.savez(run / "progress" / "films.npz", key=KEYS, image=FILMS, disease=np.ones(3, bool), cam=FILMS)
    np.savez(run / "progress" / "masks.npz", uniform=FILMS)
    harm(run / "progress" / f"{name}.npz")
    assert exporter.main(["export_films.py", f"--workdir={run}", f"--out={out}"]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_films_go_out_and_come_back_as_one_more_arm(tmp_path: Path, exporter: Any, capsys: Any):
    run, out, theirs = tmp_path / "run", tmp_path / "out", tmp_path / "theirs"
    folder = run / "progress"
    folder.mkdir(parents=True)
    sick = np.array([True, True, False])
    score = {"pooled": FILMS.reshape(3, -1), "normal_probability_independent": np.where(sick, 0.1, 0.9)}
    np.savez(folder / "films.npz", key=KEYS, image=FILMS, disease=sick, cam=FILMS, severity=np.full(3, np.nan))
    np.savez(folder / "masks.npz", uniform=FILMS)
    np.savez(folder / "untreated.npz", image=FILMS, **score)
    np.savez(folder / "uniform_0100.npz", image=FILMS, seconds=1.0, evaluations=5, **score)
    assert exporter.main(["export_films.py", f"--workdir={run}", f"--out={out}"]) == 0
    png = np.asarray(Image.open(out / "films" / "b" / "2.png"))
    np.testing.assert_allclose(png / 65535, FILMS[1], atol=1e-5)
    for flags, words in (([f"--workdir={tmp_path}", "--out=o"], "no progress/films.npz"),
                         ([f"--workdir={run}", f"--out={out}"], "not an empty folder")):  # fmt: skip
        assert exporter.main(["export_films.py", *flags]) == 2
        assert words in capsys.readouterr().err

    # Anybody's code: numpy, and the folder that was handed out.
    given = np.load(out / "films.npz")
    theirs.mkdir()
    for strength in (10, 20):
        darker = given["image"] * (1 - strength / 100)
        np.savez(theirs / f"{strength}.npz", key=given["key"], image=darker)

    def judged(treated: np.ndarray) -> dict[str, np.ndarray]:
        healed = treated.mean(axis=(1, 2, 3)) < 0.85 * FILMS.mean(axis=(1, 2))
        normal = np.where(sick & ~healed, 0.1, 0.9)
        return {"pooled": treated.reshape(3, -1), "normal_probability_independent": normal}

    strengths = foreign.run(study(theirs=theirs), KEYS, SIZE, folder, judged)
    assert strengths == {"theirs": (10, 20)}
    arms = {"uniform": (100,), **strengths}
    found = measures.results(folder, tuple(arms), arms, ("independent",))
    assert found["progress"]["theirs"]["10"]["normal_rate"]["independent"]["value"] == 0
    assert found["progress"]["theirs"]["20"]["normal_rate"]["independent"]["value"] == 1
    at = found["equal_rate"]["independent"]["0.5"]
    assert at["theirs"]["mae"]["whole"]["value"]["value"] == pytest.approx(0.15 * FILMS[:2].mean(), rel=1e-4)
    assert "evaluations" not in at["theirs"]
    found["arms"] = {"theirs": foreign.TOLD}
    table = ranking.tables(found, tuple(arms), "independent", (0.5,), truth=False)[0]
    rows = {row["name"]: dict(zip(table["columns"], row["cells"], strict=True)) for row in table["rows"]}
    assert {name: row["whose"] for name, row in rows.items()} == {"theirs": "rival", "uniform": "baseline"}
