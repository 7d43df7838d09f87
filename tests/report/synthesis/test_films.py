"""The page of a GAN study: its figures where their files are, what is said of them, and the blinded reading."""

from __future__ import annotations

import html
import json
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.report import training, write
from cxrjax.report.read.workdir import read_run
from cxrjax.report.synthesis import SYNTHESIS

FINDINGS = np.array(["Normal", "Mass", "Pleural_Thickening"])
FILES = {"shown": "films_by_finding", "attention": "attention_maps"}
FILES |= {name: name for name in ("scales", "interpolation", "neighbors")}
FILMS = tuple(FILES.values())
Files = dict[str, dict[str, np.ndarray]]


def _films(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _maps(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Maps of every row but the first, and one that is flat."""
    maps = rng.random(shape)
    maps[0], maps[1, 0] = np.nan, 0.5
    return maps


def _files(baseline: bool) -> Files:
    rng, r, m = np.random.default_rng(0), len(FINDINGS), 5
    kinds = ("real", "made", *(("baseline",) if baseline else ()))
    shown = {kind: _films(rng, r, m, 32, 32) for kind in kinds}
    shown |= {f"{kind}_map": _maps(rng, r, m, 32, 32) for kind in kinds}
    weights = rng.random((2, 3, 4, 4))
    weights[0, 0] = np.nan
    return {
        "shown": {"finding": FINDINGS, **shown},
        "scales": {"finding": FINDINGS, **{f"made_{s}": _films(rng, r, 2, s, s) for s in (16, 32, 64)}},
        "interpolation": {"start": FINDINGS[:2], "end": FINDINGS[1:], "films": _films(rng, 2, 12, 32, 32)},
        "attention": {
            "film": _films(rng, 2, 32, 32),
            "finding": FINDINGS[1:],
            "point": rng.random((2, 3, 2)),
            "map": weights / weights.sum(axis=(2, 3), keepdims=True),
        },
        "neighbors": {
            "made": _films(rng, 4, 32, 32),
            "nearest": _films(rng, 4, 32, 32),
            "distance": np.array([2.0, 1.5, 3.0, np.nan]),
            "made_distance": np.append(rng.gamma(9, 0.3, 50), np.nan),
            "held_out_distance": rng.gamma(9, 0.3, 40),
        },
        "blinded": {
            "real": _films(rng, 6, 16, 16),
            "made": _films(rng, 4, 16, 16),
            **{f"{kind}_name": np.array([f"{kind} {i}" for i in range(n)]) for kind, n in (("real", 6), ("made", 4))},
            **{f"{kind}_finding": np.array(["Mass"] * n) for kind, n in (("real", 6), ("made", 4))},
        },
    }


def _rows() -> list[dict[str, Any]]:
    rng, rows = np.random.default_rng(1), []
    for step in range(20, 401, 20):
        losses = {f"loss_{side}": rng.uniform(0.1, 1.0) for side in ("g", "d16", "d32", "d128")}
        rows.append({"phase": "gan", "step": step, "loss": sum(losses.values()), **losses})
        if step % 100 == 0:
            alike = {f"{k}/{name}": rng.random() for name in FINDINGS for k in ("ms_ssim", "ms_ssim_films")}
            rows.append({"phase": "gan", "step": step, "eval": "val", "collapsed": 0.0, **alike})
            rows.append({"phase": "features", "step": step, "loss": 0.1})
    return rows


def make_gan(workdir: Path, baseline: bool = True, net: str = "cgan") -> Path:
    """A workdir as the study leaves it."""
    (workdir / "synthesis").mkdir(parents=True)
    for name, arrays in _files(baseline).items():
        np.savez(workdir / "synthesis" / f"{name}.npz", **arrays)
    (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, _rows())))
    manifest = {"name": "synthesis <1>", "config": {"study": {"name": "synthesis"}, "gan": {"net": {"name": net}}}}
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    (workdir / "results.json").write_text(json.dumps({"headline": "FID 12."}))
    return workdir


@pytest.fixture(scope="module")
def gan_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = make_gan(tmp_path_factory.mktemp("gan") / "run")
    write(workdir)
    return workdir


@pytest.fixture(scope="module")
def gan_page(gan_dir: Path) -> str:
    return (gan_dir / "report.html").read_text()


def _words(page: str) -> str:
    page = re.sub(r"<style>.*?</style>|<pre>.*?</pre>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _texts(workdir: Path, name: str) -> list[str]:
    """The words that a figure has beside its films, in the order of drawing."""
    return [text.get_text() for text in SYNTHESIS.figures[name].draw(read_run(workdir)).axes[0].texts]


def _legend(workdir: Path, name: str, axes: int) -> list[str]:
    figure = SYNTHESIS.figures[name].draw(read_run(workdir))
    return [text.get_text() for text in figure.axes[axes].get_legend().get_texts()]


def test_every_figure_is_a_file_and_is_on_the_page(gan_page: str, gan_dir: Path) -> None:
    drawn = {*FILMS, "adversarial", "losses"}
    assert {path.stem for path in (gan_dir / "figures").iterdir()} == drawn
    assert set(re.findall(r'id="figure-(\w+)"', gan_page)) == drawn


def test_only_figures_of_generated_films_carry_the_mark(gan_dir: Path) -> None:
    marks = {p.stem: Image.open(p).text for p in (gan_dir / "figures").iterdir()}
    assert {name for name, text in marks.items() if text.get("Synthetic") == "true"} == set(FILMS)


def test_page_and_figures_say_that_generated_films_are_synthetic(gan_page: str, gan_dir: Path) -> None:
    words = _words(gan_page)
    assert "Generated films on this page are synthetic : a generative model drew them." in words
    assert "no such patient exists" in words
    assert "they do not carry over to other hospitals" in words
    assert "share it only as far as their license allows" in words
    assert words.endswith("Synthetic films: Generated by a model; not a real patient; not for diagnosis.")
    assert "Treated films" not in words
    assert "prognosis" not in words
    for name in FILMS:
        mixed = name in ("films_by_finding", "neighbors")
        assert _texts(gan_dir, name)[0].startswith("Partly synthetic" if mixed else "Synthetic")


def test_page_links_the_blinded_reading_beside_it(gan_page: str, gan_dir: Path) -> None:
    targets = re.findall(r"""(?:src|href|action|poster|srcset|data)\s*=\s*["']([^"']*)""", gan_page)
    assert [target for target in targets if not target.startswith("data:image/png;base64")] == [
        "blinded.html",
        "checklist.html",
    ]
    assert gan_page.index("A blinded reading") < gan_page.index("figure-scales")
    reading = (gan_dir / "blinded.html").read_text()
    assert "synthesis &lt;1&gt;" in reading
    key = json.loads(b64decode(re.search(r'id="key">([^<]*)</script>', reading)[1]))
    assert {entry["name"] for entry in key} == {f"real {i}" for i in range(6)} | {f"made {i}" for i in range(4)}


@pytest.mark.parametrize(("file", "figure"), FILES.items())
def test_a_figure_is_absent_without_its_file_and_the_rest_is_there(tmp_path: Path, file: str, figure: str) -> None:
    workdir = make_gan(tmp_path / "run")
    (workdir / "synthesis" / f"{file}.npz").unlink()
    run = read_run(workdir)
    assert {name for name in FILMS if SYNTHESIS.figures[name].draw(run) is None} == {figure}


def test_losses_alone_make_a_page_without_films_and_link(tmp_path: Path) -> None:
    workdir = make_gan(tmp_path / "run")
    (workdir / "synthesis").rename(tmp_path / "away")
    page = write(workdir).read_text()
    assert {path.stem for path in (workdir / "figures").iterdir()} == {"adversarial", "losses"}
    assert not (workdir / "blinded.html").exists()
    for absent in ("blinded", "synthetic:", "Generated films on this page", "license"):
        assert absent not in page
    rows = [json.dumps(row) for row in _rows() if "eval" not in row]
    (workdir / "metrics.jsonl").write_text("\n".join(rows))
    assert len(SYNTHESIS.figures["adversarial"].draw(read_run(workdir)).axes) == 1
    (workdir / "metrics.jsonl").write_text(json.dumps({"phase": "features", "step": 1, "loss": 0.5}))
    assert SYNTHESIS.figures["adversarial"].draw(read_run(workdir)) is None


def test_groups_are_named_after_their_generators(tmp_path: Path, gan_dir: Path) -> None:
    three = _texts(gan_dir, "films_by_finding")
    assert [text for text in three if "ynthetic" in text][1:] == ["cDCGAN baseline, synthetic", "Proposed, synthetic"]
    assert three[-3:] == ["Normal", "Mass", "Pleural …ickening"]
    alone = make_gan(tmp_path / "run", baseline=False, net="cdcgan")
    two = _texts(alone, "films_by_finding")
    assert [text for text in two if "ynthetic" in text][1:] == ["cDCGAN, synthetic"]
    assert "Proposed" not in " ".join(two)


@pytest.mark.parametrize(("baseline", "films"), [(True, 9), (False, 8)])
def test_films_stand_evenly_and_are_outlined_where_the_map_says_something(
    tmp_path: Path, baseline: bool, films: int
) -> None:
    workdir = make_gan(tmp_path / "run", baseline=baseline)
    shown = _files(baseline)["shown"]
    first, last = shown["real"][1, 0], shown["made"][-1, -1]
    axes = SYNTHESIS.figures["films_by_finding"].draw(read_run(workdir)).axes[0]
    shown_films = [np.asarray(image.get_array()) for image in axes.images]
    assert len(shown_films) == films * len(FINDINGS)
    assert any((film == first).all() for film in shown_films)
    np.testing.assert_array_equal(shown_films[-1], last)
    groups = 3 if baseline else 2
    assert len(axes.collections) == films * (len(FINDINGS) - 1) - groups  # none on Normal, none where the map is flat


def test_scales_are_enlarged_by_their_nearest_pixels(gan_dir: Path) -> None:
    expected = np.kron(_files(True)["scales"]["made_16"][0, 0], np.ones((4, 4), np.uint8))
    axes = SYNTHESIS.figures["scales"].draw(read_run(gan_dir)).axes[0]
    assert len(axes.images) == 2 * 3 * len(FINDINGS)
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert [text for text in _texts(gan_dir, "scales") if "×" in text] == ["16 × 16", "32 × 32", "64 × 64"] * 2


def test_interpolation_keeps_both_ends(gan_dir: Path) -> None:
    films = _files(True)["interpolation"]["films"]
    axes = SYNTHESIS.figures["interpolation"].draw(read_run(gan_dir)).axes[0]
    shown = [np.asarray(image.get_array()) for image in axes.images]
    np.testing.assert_array_equal(shown[0], films[0, 0])
    np.testing.assert_array_equal(shown[-1], films[1, -1])


def test_attention_tells_its_peak_and_where_it_is_unknown(gan_dir: Path) -> None:
    peak = _files(True)["attention"]["map"][1, 2].max() * 16
    texts = _texts(gan_dir, "attention_maps")
    assert f"3: peak {peak:.3g} × even" in texts
    assert "1: none" in texts


def test_nearest_pairs_stand_by_rising_distance(gan_dir: Path) -> None:
    made, nearest = (_files(True)["neighbors"][name][1] for name in ("made", "nearest"))
    images = SYNTHESIS.figures["neighbors"].draw(read_run(gan_dir)).axes[0].images
    np.testing.assert_array_equal(images[0].get_array(), made)
    np.testing.assert_array_equal(images[4].get_array(), nearest)
    legend = _legend(gan_dir, "neighbors", 1)
    assert [text.split(",")[0] for text in legend] == ["generated films (n = 50", "held-out films (n = 40"]


def test_both_sides_have_their_curves_and_the_generic_figure_is_not_drowned(gan_dir: Path) -> None:
    sides = ["generator", *(f"discriminator, {size} pixels" for size in (16, 32, 128))]
    assert _legend(gan_dir, "adversarial", 0) == sides
    assert _legend(gan_dir, "adversarial", 1) == FINDINGS.tolist()
    figure = training.losses(read_run(gan_dir))
    assert [line.get_label() for line in figure.axes[1].lines] == ["val collapsed"]


def _narrower(array: np.ndarray) -> np.ndarray:
    return array[..., :-1]


def _fewer(array: np.ndarray) -> np.ndarray:
    return array[:-1]


@pytest.mark.parametrize(
    ("file", "names", "change", "told"),
    [
        ("shown", "made_map", None, "made_map missing"),
        ("shown", "baseline", _fewer, "baseline has shape"),
        ("shown", "baseline_map", None, "baseline_map missing"),
        ("shown", "real_map", _narrower, r"real_map has shape \(3, 5, 32, 31\), expected axes .* w = 32"),
        ("shown", "made", lambda films: films / 255.0, "made is float64 .* expected films of dtype uint8"),
        ("scales", "made_32", _fewer, "made_32 has shape"),
        ("scales", "made_32", lambda films: films[:, :1], "made_32 has shape .* expected axes"),
        ("scales", "made_16 made_32 made_64", None, "no array made_SIZE"),
        ("interpolation", "end", _fewer, "end has shape"),
        ("interpolation", "films", lambda films: films[:, :0], "expected films"),
        ("attention", "point", lambda point: point[:, :2], "map has shape .* p = 2"),
        ("attention", "point", _narrower, "point has shape"),
        ("neighbors", "nearest", _narrower, "nearest has shape"),
        ("neighbors", "held_out_distance", None, "held_out_distance missing"),
        ("blinded", "real_name", None, "real_name missing"),
        ("blinded", "made_finding", _fewer, "made_finding has shape"),
        ("blinded", "made", _narrower, r"made has shape \(4, 16, 15\)"),
    ],
)
def test_an_inconsistent_file_is_told_by_name(
    tmp_path: Path, file: str, names: str, change: Callable[[np.ndarray], np.ndarray] | None, told: str
) -> None:
    workdir = make_gan(tmp_path / "run")
    arrays = _files(baseline=True)[file]
    for name in names.split():
        array = arrays.pop(name)
        if change is not None:
            arrays[name] = change(array)
    np.savez(workdir / "synthesis" / f"{file}.npz", **arrays)
    with pytest.raises(UserError, match=rf"synthesis.{file}\.npz: .*{told}"):
        write(workdir)


@pytest.mark.parametrize("file", [*FILES, "blinded"])
def test_a_damaged_file_is_told_by_name(tmp_path: Path, file: str) -> None:
    workdir = make_gan(tmp_path / "run")
    path = workdir / "synthesis" / f"{file}.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=rf"synthesis.{file}\.npz: cannot be read"):
        write(workdir)
