"""The page of a GAN study: its figures where their files are, made films called synthetic, and the blinded reading."""

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
from cxrjax.report import figures, write
from cxrjax.report.read import read_run

FINDINGS = np.array(["Normal", "Mass", "Pleural_Thickening"])
FILES = {
    "shown": "films_by_finding",
    "scales": "scales",
    "interpolation": "interpolation",
    "attention": "attention_maps",
    "neighbors": "neighbors",
}
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
        "interpolation": {
            "start": FINDINGS[:2],
            "end": FINDINGS[1:],
            "films": _films(rng, 2, 12, 32, 32),
        },
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
        losses = dict(zip(("loss_g", "loss_d16", "loss_d32", "loss_d128"), rng.uniform(0.1, 1.0, 4).tolist(), strict=True))
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
    manifest = {"name": "synthesis <1>", "config": {"gan": {"net": {"name": net}}}}
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
    """The words on the first axes of a figure, and its titles."""
    figure = figures.FIGURES[name].draw(read_run(workdir))
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title, axes.xaxis.label)]


def _labels(workdir: Path, axes: int) -> list[str]:
    figure = figures.FIGURES["adversarial"].draw(read_run(workdir))
    return [text.get_text() for text in figure.axes[axes].get_legend().get_texts()]


def test_page_embeds_every_figure(gan_page: str, gan_dir: Path) -> None:
    drawn = {*FILMS, "adversarial", "losses"}
    assert {path.stem for path in (gan_dir / "figures").iterdir()} == drawn
    for name in drawn:
        section = gan_page.split(f'id="figure-{name}"')[1].split("</figure>")[0]
        embedded = b64decode(re.search(r"base64,([^\"]+)", section)[1])
        assert embedded == (gan_dir / "figures" / f"{name}.png").read_bytes()


def test_only_figures_of_made_films_carry_the_mark(gan_dir: Path) -> None:
    marks = {p.stem: Image.open(p).text for p in (gan_dir / "figures").iterdir()}
    assert {name for name, text in marks.items() if text.get("Synthetic") == "true"} == set(FILMS)


def test_page_says_that_made_films_are_synthetic(gan_page: str) -> None:
    words = _words(gan_page)
    assert "Made films on this page are synthetic : a generative model drew them." in words
    assert "no such patient exists" in words
    assert "they do not carry over to other hospitals" in words
    assert "share it only as far as their license allows" in words
    assert words.endswith("Synthetic films: Generated by a model; not a real patient; not for diagnosis.")
    assert "Treated films" not in words
    assert "prognosis" not in words
    for name in FILMS:
        assert "synthetic" in " ".join(_words(figures.FIGURES[name].caption).lower().split()) or name == "neighbors"


def test_page_links_the_blinded_reading_beside_it(gan_page: str, gan_dir: Path) -> None:
    targets = re.findall(r"""(?:src|href|action|poster|srcset|data)\s*=\s*["']([^"']*)""", gan_page)
    assert [target for target in targets if not target.startswith("data:image/png;base64")] == ["blinded.html"]
    assert gan_page.index("A blinded reading") < gan_page.index("figure-films_by_finding")
    reading = (gan_dir / "blinded.html").read_text()
    assert "synthesis &lt;1&gt;" in reading
    key = json.loads(b64decode(re.search(r'id="key">([^<]*)</script>', reading)[1]))
    assert sorted(entry["name"] for entry in key) == sorted(
        [f"real {i}" for i in range(6)] + [f"made {i}" for i in range(4)]
    )


@pytest.mark.parametrize(("file", "figure"), FILES.items())
def test_a_figure_is_absent_without_its_file_and_the_rest_is_there(tmp_path: Path, file: str, figure: str) -> None:
    workdir = make_gan(tmp_path / "run")
    (workdir / "synthesis" / f"{file}.npz").unlink()
    run = read_run(workdir)
    assert {name for name in FILMS if figures.FIGURES[name].draw(run) is None} == {figure}


def test_losses_alone_make_a_page_without_films_and_link(tmp_path: Path) -> None:
    workdir = make_gan(tmp_path / "run")
    (workdir / "synthesis").rename(tmp_path / "away")
    page = write(workdir).read_text()
    assert {path.stem for path in (workdir / "figures").iterdir()} == {"adversarial", "losses"}
    assert not (workdir / "blinded.html").exists()
    for absent in ("blinded", "synthetic:", "Made films on this page", "license"):
        assert absent not in page
    (workdir / "metrics.jsonl").write_text(json.dumps({"phase": "features", "step": 1, "loss": 0.5}))
    assert figures.FIGURES["adversarial"].draw(read_run(workdir)) is None


def test_groups_are_named_after_their_generators(tmp_path: Path, gan_dir: Path) -> None:
    three = _texts(gan_dir, "films_by_finding")
    assert [text for text in three if "ynthetic" in text][1:] == ["cDCGAN baseline, synthetic", "Proposed, synthetic"]
    assert {"Normal", "Mass", "Pleura…hickening"} & set(three) >= {"Normal", "Mass"}
    alone = make_gan(tmp_path / "run", baseline=False, net="cdcgan")
    two = _texts(alone, "films_by_finding")
    assert [text for text in two if "ynthetic" in text][1:] == ["cDCGAN, synthetic"]
    assert "Proposed" not in " ".join(two)


@pytest.mark.parametrize(("baseline", "films"), [(True, 9), (False, 8)])
def test_films_stand_evenly_and_are_outlined_where_the_map_says_something(
    tmp_path: Path, baseline: bool, films: int
) -> None:
    workdir = make_gan(tmp_path / "run", baseline=baseline)
    with np.load(workdir / "synthesis" / "shown.npz") as shown:
        first, last = shown["real"][1, 0], shown["made"][-1, -1]
    axes = figures.FIGURES["films_by_finding"].draw(read_run(workdir)).axes[0]
    shown_films = [np.asarray(image.get_array()) for image in axes.images]
    assert len(shown_films) == films * len(FINDINGS)
    assert any((film == first).all() for film in shown_films)
    np.testing.assert_array_equal(shown_films[-1], last)
    groups = 3 if baseline else 2
    assert len(axes.collections) == films * (len(FINDINGS) - 1) - groups  # none on Normal, none where the map is flat


def test_scales_are_enlarged_by_their_nearest_pixels(gan_dir: Path) -> None:
    with np.load(gan_dir / "synthesis" / "scales.npz") as scales:
        expected = np.kron(scales["made_16"][0, 0], np.ones((4, 4), np.uint8))
    axes = figures.FIGURES["scales"].draw(read_run(gan_dir)).axes[0]
    assert len(axes.images) == 2 * 3 * len(FINDINGS)
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert [text for text in _texts(gan_dir, "scales") if "×" in text] == ["16 × 16", "32 × 32", "64 × 64"] * 2


def test_interpolation_keeps_both_ends(gan_dir: Path) -> None:
    with np.load(gan_dir / "synthesis" / "interpolation.npz") as arrays:
        films = arrays["films"]
    axes = figures.FIGURES["interpolation"].draw(read_run(gan_dir)).axes[0]
    shown = [np.asarray(image.get_array()) for image in axes.images]
    np.testing.assert_array_equal(shown[0], films[0, 0])
    np.testing.assert_array_equal(shown[-1], films[1, -1])


def test_attention_tells_its_peak_and_where_it_is_unknown(gan_dir: Path) -> None:
    with np.load(gan_dir / "synthesis" / "attention.npz") as arrays:
        peak = arrays["map"][1, 2].max() * 16
    texts = _texts(gan_dir, "attention_maps")
    assert f"3: peak {peak:.3g} × even" in texts
    assert "1: none" in texts


def test_nearest_pairs_stand_by_rising_distance(gan_dir: Path) -> None:
    with np.load(gan_dir / "synthesis" / "neighbors.npz") as arrays:
        made, nearest = arrays["made"][1], arrays["nearest"][1]
    figure = figures.FIGURES["neighbors"].draw(read_run(gan_dir))
    images = figure.axes[0].images
    np.testing.assert_array_equal(images[0].get_array(), made)
    np.testing.assert_array_equal(images[4].get_array(), nearest)
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert [text.split(",")[0] for text in legend] == ["made films (n = 50", "held-out films (n = 40"]


def test_both_sides_have_their_curves_and_the_generic_figure_is_not_drowned(gan_dir: Path) -> None:
    assert _labels(gan_dir, 0) == ["generator", *(f"discriminator, {size} pixels" for size in (16, 32, 128))]
    assert _labels(gan_dir, 1) == ["Normal", "Mass", "Pleura…hickening"] or len(_labels(gan_dir, 1)) == 3
    figure = figures.FIGURES["losses"].draw(read_run(gan_dir))
    assert [line.get_label() for line in figure.axes[1].lines] == ["val collapsed"]


def test_losses_without_evaluations_are_one_panel(tmp_path: Path) -> None:
    workdir = make_gan(tmp_path / "run")
    rows = [row for row in _rows() if "eval" not in row]
    (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(figures.FIGURES["adversarial"].draw(read_run(workdir)).axes) == 1


def _without(name: str) -> Callable[[dict], None]:
    return lambda arrays: arrays.pop(name)


def _cut(name: str) -> Callable[[dict], None]:
    return lambda arrays: arrays.update({name: arrays[name][..., :-1]})


def _fewer(name: str) -> Callable[[dict], None]:
    return lambda arrays: arrays.update({name: arrays[name][:-1]})


def _floats(name: str) -> Callable[[dict], None]:
    return lambda arrays: arrays.update({name: arrays[name] / 255.0})


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("shown", _without("made_map"), "made_map missing"),
        ("shown", _fewer("baseline"), "baseline has shape"),
        ("shown", _without("baseline_map"), "baseline_map missing"),
        ("shown", _cut("real_map"), "real .* and real_map .* disagree"),
        ("shown", _floats("made"), "made has dtype float64, expected uint8"),
        ("scales", _fewer("made_32"), "made_32 has shape"),
        ("scales", lambda arrays: arrays.update(made_32=arrays["made_32"][:, :1]), "made_16 .* and made_32 .* disagree"),
        ("scales", lambda arrays: [arrays.pop(f"made_{s}") for s in (16, 32, 64)], "no array made_SIZE"),
        ("interpolation", _fewer("end"), "end has shape"),
        ("interpolation", lambda arrays: arrays.update(films=arrays["films"][:, :0]), "holds no film"),
        ("attention", lambda arrays: arrays.update(point=arrays["point"][:, :2]), "point .* and map .* disagree"),
        ("attention", _cut("point"), "do not hold points"),
        ("neighbors", _cut("nearest"), "made .* and nearest .* disagree"),
        ("neighbors", _without("held_out_distance"), "held_out_distance missing"),
        ("blinded", _without("real_name"), "real_name missing"),
        ("blinded", _fewer("made_finding"), "made_finding has shape"),
        ("blinded", _cut("made"), "give them away"),
    ],
)
def test_an_inconsistent_file_is_told_by_name(
    tmp_path: Path, file: str, change: Callable[[dict], None], told: str
) -> None:
    workdir = make_gan(tmp_path / "run")
    arrays = _files(baseline=True)[file]
    change(arrays)
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
