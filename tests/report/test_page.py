"""The page is whole, offline and honest, and leaves out what a run does not have."""

from __future__ import annotations

import html
import io
import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cxrjax.report import write
from cxrjax.report.page import facts
from cxrjax.report.read.workdir import Run, entries_of
from cxrjax.report.summary import DASH


def test_page_loads_nothing_from_outside(page: str) -> None:
    """No attribute or style rule names anything but data inside the page, and the page forbids loading by policy."""
    targets = re.findall(r"""(?:src|href|action|poster|srcset|data)\s*=\s*["']([^"']*)""", page)
    targets += re.findall(r"url\(([^)]*)\)", page)
    targets.remove("checklist.html")  # beside it
    assert len(targets) > 50
    assert {target.split(",")[0] for target in targets} == {"data:image/png;base64"}
    assert "default-src 'none'" in page
    assert not re.search(r"@import|<link|<iframe|fetch\(|XMLHttpRequest|import\(", page)


def test_embedded_pictures_are_the_figures_and_decode(page: str, run_dir: Path) -> None:
    for name in ("losses", "rate", "tradeoff", "twin_error", "control", "cam"):
        section = page.split(f'id="figure-{name}"')[1]
        embedded = b64decode(re.search(r"data:image/png;base64,([^\"]+)", section)[1])
        assert embedded == (run_dir / "figures" / f"{name}.png").read_bytes()
    for uri in re.findall(r"data:image/png;base64,([^\")]+)", page):
        Image.open(io.BytesIO(b64decode(uri))).verify()


def test_page_shows_modes_warnings_and_choices_as_text(fakes: SimpleNamespace, page: str) -> None:
    assert re.findall(r'<th class="treated" data-mode="(\w+)"', page) == list(fakes.modes)
    assert html.escape(fakes.warning, quote=True).replace("&#x27;", "&#39;") in page
    assert "noise_matrix, mask_blend" in page


def test_every_result_is_on_the_page_with_all_its_digits(page: str, run_dir: Path) -> None:
    rows = re.findall(r'<code>([^<]+)</code></td><td class="r" data-value="([^"]*)"[^>]*>([^<]*)<', page)
    shown = {path: (exact, text) for path, exact, text in rows}
    results = json.loads((run_dir / "results.json").read_text())
    entries = list(entries_of({name: tree for name, tree in results.items() if name != "tables"}))
    assert set(shown) == {".".join(entry.path) for entry in entries}
    for entry in entries:
        exact, text = shown[".".join(entry.path)]
        if isinstance(entry.value, float) and entry.value == entry.value:
            assert float(exact) == entry.value
            assert float(text.replace("−", "-")) == pytest.approx(entry.value, abs=5e-4)
    assert shown["surprise.nested.thing"][0] == "12.5"
    assert shown["logreg32.test.auroc"] == (DASH, DASH)


def test_every_table_scrolls_in_a_box_of_its_own(page: str) -> None:
    *before, _ = page.split("<table")
    assert len(before) > 5
    assert all(text.rstrip().endswith('<div class="scroll">') for text in before)


def test_script_reads_the_probabilities_of_the_shown_films(page: str, run_dir: Path) -> None:
    live = json.loads(re.search(r'id="live">(.*?)</script>', page)[1])
    with np.load(run_dir / "progress" / "films.npz") as films:
        first = min(np.flatnonzero(films["disease"]), key=lambda i: films["severity"][i])
    with np.load(run_dir / "progress" / "mask_blend_0300.npz") as treated:
        expected = treated["normal_probability_cam_network"][first]
    shown = live["probability"]["mask_blend"]["cam_network"][0]
    assert shown[live["lambdas"].index(300)] == pytest.approx(expected, abs=1e-4)
    assert shown[0] is None  # films.npz of this run records no probability before treatment
    assert live["rates"]["uniform"]["independent"][0] == 0.06


def test_key_table_and_headline_state_the_classifier(page: str) -> None:
    row = re.search(r"<td>Classifier: test AUROC</td>(.*?)</tr>", page)[1]
    assert "0.934" in row
    assert "[0.914, 0.954]" in row
    assert ">240<" in row


def test_where_the_seconds_went_is_one_line() -> None:
    seconds = {"trained": 3600.4, "rest": 7.0, "lost": 12.5}
    run = Run(Path("run"), {"commit": "c0ffee"}, [], [], results={"seconds": seconds})
    rows = facts(run)
    assert rows[-1] == ("seconds", "trained 3,600, preparation and studies 7, lost to restarts 12")
    assert facts(replace(run, results={})) == rows[:-1]


def test_missing_intervals_do_not_stop_the_page(fakes: SimpleNamespace, tmp_path: Path) -> None:
    """Every interval gone and every other value NaN: figures and tables are still written."""
    workdir = fakes.run(tmp_path, n=8, size=16, lambdas=(100, 200))

    def spoil(tree: dict, count: list[int]) -> None:
        for name, below in tree.items():
            if isinstance(below, dict) and "value" in below and not isinstance(below["value"], dict):
                count[0] += 1
                tree[name] = {"value": float("nan") if count[0] % 2 else below["value"], "low": None}
            elif isinstance(below, dict):
                spoil(below, count)

    results = json.loads((workdir / "results.json").read_text())
    spoil(results, [0])
    (workdir / "results.json").write_text(json.dumps(results))
    page = write(workdir).read_text()
    assert (
        "nan"
        not in re.sub(r"data:image/png;base64,[^\")]+", "", page).replace("manifest", "").lower().split("<pre>")[0]
    )


def test_classifier_only_run_leaves_out_the_films(fakes: SimpleNamespace, tmp_path: Path) -> None:
    page = write(fakes.run(tmp_path, films=False)).read_text()
    assert "Classifier: test AUROC" in page
    assert "figure-losses" in page
    for absent in ('id="strips"', "figure-rate", "figure-cam", "At equal normal rate", 'id="live"', 'class="warnings"'):
        assert absent not in page
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["losses.png"]


def test_manifest_alone_makes_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    page = write(tmp_path).read_text()
    assert "results.json is missing" in page
    assert tmp_path.name in page


def test_where_weights_began_is_on_the_page(fakes: SimpleNamespace, tmp_path: Path) -> None:
    workdir = fakes.run(tmp_path, films=False)
    manifest = json.loads((workdir / "manifest.json").read_text())
    lite = {"file": "lite.pth", "sha256": "5793", "package": "lite-model", "version": "0.1", "license": "none <told>"}
    lite |= {"used": 245, "ignored": {"_fc.bias": "head=False"}, "fresh": ["params/head/classes/bias"]}
    manifest["weights"] = {"judge": "from scratch", "classifier": lite}
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    rows = dict(re.findall(r"<tr><th>weights: ([^<]+)</th><td>([^<]+)</td>", write(workdir).read_text()))
    assert rows.pop("judge") == "from scratch"
    assert rows == {
        "classifier.file": "lite.pth", "classifier.sha256": "5793", "classifier.package": "lite-model",
        "classifier.version": "0.1", "classifier.license": "none &lt;told&gt;", "classifier.used": "245",
        "classifier.ignored._fc.bias": "head=False", "classifier.fresh": "[&#34;params/head/classes/bias&#34;]",
    }  # fmt: skip


def test_films_without_treatments_twin_or_lesion(fakes: SimpleNamespace, tmp_path: Path) -> None:
    """A run stopped before the treatment: the films and their maps, no slider, nothing called synthetic."""
    workdir = fakes.run(tmp_path, films=False)
    films = fakes.films(np.random.default_rng(1), 6, 16)
    (workdir / "progress").mkdir()
    np.savez(workdir / "progress" / "films.npz", **{k: v for k, v in films.items() if k not in ("twin", "lesion")})
    page = write(workdir).read_text()
    assert 'id="strips"' in page
    assert "figure-cam" in page
    assert 'id="lambda"' not in page
    assert "healthy twin" not in page
    assert "a generative model drew them" not in page


def test_sprites_hold_the_treated_films_in_order_of_lambda(page: str, run_dir: Path) -> None:
    """The first sheet's tiles are the untreated film, then the first shown film at rising lambda, to 8 bits."""
    with np.load(run_dir / "progress" / "films.npz") as films:
        first = min(np.flatnonzero(films["disease"]), key=lambda i: films["severity"][i])
        expected = [films["image"][first]]
    for lam in (100, 300, 500):
        with np.load(run_dir / "progress" / f"uniform_{lam:04d}.npz") as treated:
            expected.append(treated["image"][first])
    uri = re.search(r'treated with uniform" style="background-image:url\(data:image/png;base64,([^)]+)', page)[1]
    sheet = Image.open(io.BytesIO(b64decode(uri)))
    assert sheet.text["Synthetic"] == "true"
    np.testing.assert_allclose(np.asarray(sheet) / 255.0, np.concatenate(expected, axis=1), atol=0.5 / 255 + 1e-6)


def test_only_pictures_of_generated_films_carry_the_mark(run_dir: Path) -> None:
    marked = {p.stem for p in (run_dir / "figures").glob("*.png") if Image.open(p).text.get("Synthetic") == "true"}
    assert marked == {"strips"}
