"""The report: the page is whole, offline and honest, and leaves out what a run does not have."""

from __future__ import annotations

import html
import io
import json
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax.report import save_synthetic_png, write
from cxrjax.report.page import flat
from cxrjax.report.read import Leaf, leaves_of, read_run
from cxrjax.report.strips import _LEVELS, build, choose_films, difference_sheet
from cxrjax.report.summary import DASH, headline, interval, number, verdict
from cxrjax.types import UserError

MODES = ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend")
JUDGES = ("independent", "cam_network")
WARNING = "class is confounded with source: every 'normal' film comes from one hospital & scanner <A>"


def _leaf(value: float, spread: float = 0.03, n: int = 60, unit: str = "") -> dict:
    return {"value": value, "low": value - spread, "high": value + spread, "n": n, "unit": unit}


def _sides(inside: float, outside: float) -> dict:
    return {"inside": _leaf(inside, 0.004), "outside": _leaf(outside, 0.004)}


def fake_films(rng: np.random.Generator, n: int, size: int) -> dict[str, np.ndarray]:
    """Chest-like films: two dark lungs, a bright lesion in the diseased ones."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    disease = np.arange(n) < (3 * n) // 4
    severity = np.where(disease, rng.uniform(0.1, 1.0, n), np.nan)
    image, twin, cam, lesion = (np.zeros((n, size, size), np.float32) for _ in range(4))
    for i in range(n):
        tilt = rng.normal(0, 0.02)
        lungs = sum(np.exp(-(((x - c - tilt) / 0.13) ** 2) - ((y - 0.5) / 0.3) ** 2) for c in (0.3, 0.7))
        texture = 0.03 * np.sin(25 * y + 6 * (x - 0.5) ** 2 + rng.uniform(0, 6)) + rng.normal(0, 0.012, (size, size))
        twin[i] = np.clip(0.72 - 0.55 * lungs + texture, 0, 1)
        cx, cy = rng.choice([0.3, 0.7]), rng.uniform(0.35, 0.7)
        blob = np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / 0.008)) * disease[i]
        image[i] = np.clip(twin[i] + 0.5 * blob * np.nan_to_num(severity[i]), 0, 1)
        cam[i] = np.clip(np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / 0.02)) * (0.95 if disease[i] else 0.25), 0, 1)
        lesion[i] = blob > 0.5
    key = np.array([f"phantom/{i:05d}" for i in range(n)])
    about = {"key": key, "disease": disease, "severity": severity}
    return {**about, "image": image, "cam": cam, "twin": twin, "lesion": lesion > 0}


def make_run(
    workdir: Path, n: int = 24, size: int = 32, lambdas: tuple[int, ...] = (100, 300, 500), films: bool = True
) -> Path:
    """A workdir as a finished run leaves it, with random but plausible arrays."""
    rng = np.random.default_rng(0)
    workdir.mkdir(parents=True, exist_ok=True)
    results: dict = {
        "classifier": {
            "test": {"accuracy": _leaf(0.871, n=240), "auroc": _leaf(0.9342, 0.02, 240)},
            "minus_logreg32": {"auroc": _leaf(0.114, 0.04, 240)},
        },
        "judge": {"test": {"accuracy": _leaf(0.85, n=240), "auroc": _leaf(0.921, 0.02, 240)}},
        "logreg32": {"test": {"accuracy": _leaf(0.76, n=240), "auroc": {"value": float("nan"), "low": None, "n": 240}}},
        "surprise": {"nested": {"thing": _leaf(12.5, 2, 9, "mm")}, "word": "text", "flag": True},
    }
    if films:
        _treat(workdir, rng, results, n, size, lambdas)
    rows = []
    for phase, steps in (("classifier", 400), ("judge", 300), ("diffusion", 800))[: 3 if films else 1]:
        for step in range(20, steps + 1, 20):
            loss = 0.7 * np.exp(-step / 150) + 0.1 + rng.normal(0, 0.03)
            rows.append({"phase": phase, "step": step, "loss": loss, "grad_norm": 1.0})
            if step % 100 == 0 and phase != "diffusion":
                rows.append(
                    {"phase": phase, "step": step, "eval": "val", "accuracy": 0.9 - loss / 3, "auroc": 1 - loss / 3}
                )
                rows.append({"phase": phase, "step": step, "eval": "val", "loss": loss + 0.05})
    (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (workdir / "results.json").write_text(json.dumps(results))
    choice = {"value": "time_gated", "alternatives": ["noise_matrix", "mask_blend"], "source": "ETRI deck, p. 9"}
    manifest = {
        "config": {"name": "phantom study", "seed": 0, "model": {"name": "densenet_tiny", "growth": 12}},
        "versions": {"jax": "0.10.2", "numpy": "2.4.6"},
        "commit": "0123abc",
        "devices": ["cpu:0"],
        "data": {"fingerprint": "f00d", "label_version": 2, "splits": {"train": 800, "test": 240}},
        "choices": {"progress.mode": choice, "anchor": {"value": 0.5, "alternatives": None, "source": None}},
        "warnings": [WARNING] if films else [],
        "command": "cxrjax run configs/phantom.py",
        "started": "2026-01-01T00:00:00Z",
    }
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    return workdir


def _treat(workdir: Path, rng: np.random.Generator, results: dict, n: int, size: int, lambdas: tuple[int, ...]) -> None:
    films = fake_films(rng, n, size)
    (workdir / "progress").mkdir(exist_ok=True)
    np.savez(workdir / "progress" / "films.npz", **films)
    untreated = {"normal_rate": {j: _leaf(0.06) for j in JUDGES}, "twin_error": _sides(0.12, 0.0)}
    progress: dict = {"untreated": untreated}
    control: dict = {}
    for m, mode in enumerate(MODES):
        progress[mode], control[mode] = {}, {}
        for lam in lambdas:
            reach = 1 - np.exp(-lam / (250 + 60 * m))
            noise = rng.normal(0, 0.03 * reach, films["image"].shape)
            where = np.ones_like(films["cam"]) if mode == "uniform" else films["cam"]
            image = films["image"] + where * (reach * (films["twin"] - films["image"]) + noise)
            chance = {
                f"normal_probability_{j}": np.clip(
                    np.where(films["disease"], 0.05 + 0.85 * reach, 0.93) + rng.normal(0, 0.04, n), 0, 1
                )
                for j in JUDGES
            }
            path = workdir / "progress" / f"{mode}_{lam:04d}.npz"
            np.savez(path, image=image.clip(0, 1).astype(np.float32), **chance)
            leak = 0.05 if mode == "uniform" else 0.012 + 0.004 * m
            progress[mode][str(lam)] = {
                "normal_rate": {"independent": _leaf(0.06 + 0.8 * reach), "cam_network": _leaf(0.06 + 0.9 * reach)},
                "mae": _sides(0.09 * reach, leak * reach),
                "ssim": _sides(1 - 0.4 * reach, 1 - 6 * leak * reach),
                "psnr": {"inside": _leaf(22.0, 1, unit="dB"), "outside": _leaf(31.0, 1, unit="dB")},
                "twin_error": _sides(0.12 * (1 - reach) + 0.02, leak * reach),
            }
            control[mode][str(lam)] = {
                "normal_rate": {j: _leaf(0.95) for j in JUDGES},
                "change": _leaf(leak * reach, 0.003),
            }
    results["progress"], results["control"] = progress, control
    results["equal_rate"] = {}
    for j in JUDGES:
        results["equal_rate"][j] = {}
        for rate in ("0.5", "0.7"):
            table = {}
            for m, mode in enumerate(MODES):
                mae, gap = (0.05 if m == 0 else 0.012 + 0.004 * m), (0.0 if m == 0 else -0.03)
                table[mode] = {
                    measure: {
                        side: {"value": _leaf(mae * scale, 0.003), "difference": _leaf(gap * scale, 0.004)}
                        for side, scale in (("inside", 0.1), ("outside", 1.0))
                    }
                    for measure in ("mae", "twin_error")
                }
            results["equal_rate"][j][rate] = table


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = make_run(tmp_path_factory.mktemp("run"))
    write(workdir)
    return workdir


@pytest.fixture(scope="module")
def page(run_dir: Path) -> str:
    return (run_dir / "report.html").read_text()


def test_page_loads_nothing_from_outside(page: str) -> None:
    """No attribute or style rule names anything but data inside the page, and the page forbids loading by policy."""
    targets = re.findall(r"""(?:src|href|action|poster|srcset|data)\s*=\s*["']([^"']*)""", page)
    targets += re.findall(r"url\(([^)]*)\)", page)
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


def test_page_names_modes_warnings_choices_and_the_notice(page: str) -> None:
    for mode in MODES:
        assert re.search(rf'<th class="treated" data-mode="{mode}"', page)
    assert html.escape(WARNING, quote=True).replace("&#x27;", "&#39;") in page
    assert "not a prognosis" in page
    assert "Not for diagnosis" in page
    assert "ETRI deck, p. 9" in page
    assert "noise_matrix, mask_blend" in page
    assert "phantom study" in page


def test_every_result_is_on_the_page_with_all_its_digits(page: str, run_dir: Path) -> None:
    rows = re.findall(r'<code>([^<]+)</code></td><td class="r" data-value="([^"]*)"[^>]*>([^<]*)<', page)
    shown = {path: (exact, text) for path, exact, text in rows}
    leaves = list(leaves_of(json.loads((run_dir / "results.json").read_text())))
    assert set(shown) == {".".join(leaf.path) for leaf in leaves}
    for leaf in leaves:
        exact, text = shown[".".join(leaf.path)]
        if isinstance(leaf.value, float) and leaf.value == leaf.value:
            assert float(exact) == leaf.value
            assert float(text.replace("−", "-")) == pytest.approx(leaf.value, abs=5e-4)
    assert shown["surprise.nested.thing"][0] == "12.5"
    assert shown["logreg32.test.auroc"] == (DASH, DASH)


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


def _results(workdir: Path, change: dict) -> str:
    """The headline of a run whose `equal_rate` difference of time_gated outside the mask is replaced."""
    path = workdir / "results.json"
    results = json.loads(path.read_text())
    results["equal_rate"]["independent"]["0.5"]["time_gated"]["mae"]["outside"]["difference"] = change
    path.write_text(json.dumps(results))
    return headline(read_run(workdir))


def test_headline_follows_the_interval_not_the_wish(tmp_path: Path) -> None:
    workdir = make_run(tmp_path, n=8, size=16, lambdas=(100,))
    assert "better preserved" in _results(workdir, {"value": -0.03, "low": -0.04, "high": -0.02})
    assert "less well" in _results(workdir, {"value": 0.03, "low": 0.02, "high": 0.04})
    assert "cannot be told apart" in _results(workdir, {"value": -0.03, "low": -0.07, "high": 0.01})


def test_verdict_knows_which_way_is_better() -> None:
    below, around = Leaf((), -0.2, -0.3, -0.1), Leaf((), -0.2, -0.5, 0.1)
    assert verdict("mae", below) == "better"
    assert verdict("ssim", below) == "worse"
    assert verdict("mae", around) == verdict("mae", Leaf((), -0.2)) == verdict("mae", None) == ""


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_missing_numbers_print_as_a_dash(missing: float | None) -> None:
    assert number(missing) == DASH
    assert interval(Leaf(("a",), 1.0, missing, 2.0)) == DASH
    assert interval(Leaf(("a",), 1.0, 0.5, 2.0)) == "[0.500, 2.000]"


def test_missing_intervals_do_not_stop_the_page(tmp_path: Path) -> None:
    """Every interval gone and every other value NaN: figures and tables are still written."""
    workdir = make_run(tmp_path, n=8, size=16, lambdas=(100, 200))

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


def test_classifier_only_run_leaves_out_the_films(tmp_path: Path) -> None:
    page = write(make_run(tmp_path, films=False)).read_text()
    assert "Classifier: test AUROC" in page
    assert "figure-losses" in page
    for absent in ('id="strips"', "figure-rate", "figure-cam", "At equal normal rate", "<script", 'class="warnings"'):
        assert absent not in page
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["losses.png"]


def test_manifest_alone_makes_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    page = write(tmp_path).read_text()
    assert "results.json is missing" in page
    assert tmp_path.name in page


def test_films_without_treatments_twin_or_lesion(tmp_path: Path) -> None:
    """A run stopped before the treatment: the films and their maps, no slider, nothing called synthetic."""
    workdir = make_run(tmp_path, films=False)
    films = fake_films(np.random.default_rng(1), 6, 16)
    (workdir / "progress").mkdir()
    np.savez(workdir / "progress" / "films.npz", **{k: v for k, v in films.items() if k not in ("twin", "lesion")})
    page = write(workdir).read_text()
    assert 'id="strips"' in page
    assert "figure-cam" in page
    assert 'id="lambda"' not in page
    assert "healthy twin" not in page
    assert "a generative model drew them" not in page


def test_a_lambda_that_one_mode_lacks_is_marked_absent(tmp_path: Path) -> None:
    workdir = make_run(tmp_path, n=4, size=16, lambdas=(100, 200))
    (workdir / "progress" / "uniform_0200.npz").unlink()
    live = build(read_run(workdir)).live
    assert live["lambdas"] == [0, 100, 200]
    assert live["present"]["uniform"] == [True, True, False]
    assert live["present"]["time_gated"] == [True, True, True]
    assert all(p[2] is None for p in live["probability"]["uniform"]["independent"])
    assert all(p[2] is not None for p in live["probability"]["time_gated"]["independent"])


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


def test_difference_sheet_is_neutral_at_zero_and_signed() -> None:
    sheet = difference_sheet(np.array([[-1.0, -0.1, 0.0, 0.1, 1.0]]))
    index = np.asarray(sheet)[0]
    assert index[2] == _LEVELS // 2
    assert index[0] == 0
    assert index[4] == _LEVELS - 1
    np.testing.assert_array_equal(index + index[::-1], _LEVELS - 1)
    red, _, blue = np.moveaxis(np.asarray(sheet.convert("RGB"), int), -1, 0)
    assert blue[0, 1] > red[0, 1]
    assert red[0, 3] > blue[0, 3]


def test_choice_of_films_spans_severity_and_keeps_controls(run_dir: Path) -> None:
    films = read_run(run_dir).films
    chosen = choose_films(films, diseased=5, controls=2)
    sick = films.severity[chosen[:5]]
    assert films.disease[chosen].tolist() == [True] * 5 + [False] * 2
    assert (np.diff(sick) > 0).all()
    assert sick[0] == films.severity[films.disease].min()
    assert sick[-1] == films.severity[films.disease].max()


def test_synthetic_png_says_so_inside_the_file(tmp_path: Path) -> None:
    image = np.linspace(-0.1, 1.1, 64).reshape(8, 8)
    path = save_synthetic_png(tmp_path / "deep" / "film.png", image, mode="uniform", Synthetic="false")
    read = Image.open(path)
    assert read.mode == "L"
    assert read.text["Synthetic"] == "true"  # a caller cannot unsay it
    assert read.text["Notice"] == "Generated by a model; not a real patient; not for diagnosis"
    assert read.text["mode"] == "uniform"
    np.testing.assert_allclose(np.asarray(read) / 255.0, image.clip(0, 1), atol=0.5 / 255 + 1e-9)
    with pytest.raises(ValueError, match="NaN"):
        save_synthetic_png(tmp_path / "nan.png", np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="shape"):
        save_synthetic_png(tmp_path / "rgb.png", np.zeros((4, 4, 3)))


def test_only_pictures_of_generated_films_carry_the_mark(run_dir: Path) -> None:
    marked = {p.stem for p in (run_dir / "figures").glob("*.png") if Image.open(p).text.get("Synthetic") == "true"}
    assert marked == {"strips"}


def test_mistakes_are_told_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        write(tmp_path)
    workdir = make_run(tmp_path / "run", n=8, size=16, lambdas=(100,))
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
    assert {leaf.path: leaf.value for leaf in leaves_of(tree)} == {
        ("outside", "value"): 1.0,
        ("outside", "difference"): -1.0,
    }
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == [("a.b", 1), ("a.c", {}), ("d", [1])]


def test_report_does_not_load_jax() -> None:
    code = "import sys, cxrjax.report; sys.exit(any(name in sys.modules for name in ('jax', 'flax')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
