"""A workdir as a finished run leaves it, with random but plausible arrays, and the page made of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrjax.report import write
from cxrjax.studies.treatment import ranking

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
    workdir: Path,
    n: int = 24,
    size: int = 32,
    lambdas: tuple[int, ...] = (100, 300, 500),
    films: bool = True,
    study: str = "progress",
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
        "config": {"name": "phantom study", "study": {"name": study}, "model": {"name": "densenet_tiny", "growth": 12}},
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
    control: dict = {"untreated": {"normal_rate": {j: _leaf(0.97) for j in JUDGES}}}
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
                "seconds_a_film": _leaf(0.5, unit="s"),
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
    results["tables"] = ranking.tables(results, MODES, "independent", (0.5, 0.7), truth=True)


def save_predictions(
    workdir: Path,
    member: str,
    films: range | list[int],
    classes: tuple[str, ...],
    skill: float,
    exclusive: bool = True,
    seed: int = 0,
) -> None:
    """One member's predictions: the labels follow the film's number, the logits follow the labels with noise."""
    rng, number = np.random.default_rng([seed, len(member)]), np.array(films)
    k = len(classes)
    if exclusive:
        label = np.eye(k)[number % k]
    else:
        label = (np.random.default_rng(5).random((1000, k)) < np.linspace(0.05, 0.4, k)).astype(float)[number]
        label[number % 11 == 0, 0] = np.nan
    logits = skill * np.nan_to_num(label) + rng.normal(0, 1, label.shape)
    e = np.exp(logits)
    probability = e / e.sum(1, keepdims=True) if exclusive else 1 / (1 + np.exp(-(logits - 2)))
    key = np.array([f"films/{i:05d}.png" for i in number])
    path = workdir / "predictions" / f"{member}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"patient": key, "classes": np.array(classes), "split": np.array("test")}
    np.savez(path, label=label, probability=probability, logits=logits, key=key, **about)


def make_study(
    workdir: Path,
    classes: tuple[str, ...] = ("covid", "normal", "pneumonia", "tuberculosis"),
    exclusive: bool = True,
    films: int = 120,
    size: int = 32,
) -> Path:
    """A workdir as a finished classification study leaves it: one system of folds, one of seeds, one alone, the floor.

    Everything but the manifest, the results and the predictions is in its own file, to be removed by a test.
    """
    rng = np.random.default_rng(0)
    make_run(workdir, films=False, study="comparison")
    for i in range(3):
        save_predictions(workdir, f"fcn_{i}", range(i, films, 3), classes, 2.5, exclusive)
        save_predictions(workdir, f"seeded_{i}", range(films), classes, 1.5, exclusive, seed=i)
    for name, skill in (("cnn5", 3.0), ("cnn5.val", 0.0), ("logreg32", 1.0)):
        save_predictions(workdir, name, range(films), classes, skill, exclusive)
    phases = ("fcn_0", "fcn_1", "fcn_2", "cnn5")
    rows = []
    for phase in phases:
        for step in range(20, 401, 20):
            rows.append({"phase": phase, "step": step, "loss": 0.9 * np.exp(-step / 150) + rng.uniform(0.05, 0.1)})
            if step % 100 == 0:
                measured = {"loss": rows[-1]["loss"], "auroc": 1 - rows[-1]["loss"] / 3, "accuracy": None}
                rows.append({"phase": phase, "step": step, "eval": "val", **measured})
    (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown = fake_films(rng, 8, size)
    finding = np.array([classes[i % len(classes)] for i in range(8)])
    about = {"finding": finding, "key": shown["key"], "score": rng.uniform(0.3, 1, 8)}
    np.savez(workdir / "maps.npz", image=shown["image"], map=shown["cam"], truth=shown["lesion"], **about)
    words = {"key": shown["key"], "truth": finding, "said": np.array([f"{name} 0.97" for name in finding])}
    np.savez(workdir / "failures.npz", image=shown["image"], map=shown["cam"], **words)
    enh = np.stack([shown["cam"], shown["twin"], 1 - shown["image"]], axis=-1)
    np.savez(workdir / "enh.npz", image=shown["image"], enh=enh, label=finding)
    (workdir / "grid").mkdir(exist_ok=True)
    (workdir / "grid" / "rows.jsonl").write_text("\n".join(map(json.dumps, _cells())))
    widths = [32, 64, 128, 256, 512]
    results = {
        "headline": "The best network reaches an AUROC of 0.95 <here>.",
        "tables": [
            {
                "title": "Systems beside the paper",
                "note": "Ours on 120 fabricated films; the paper's on its own 5,000 [private] films.",
                "columns": ["accuracy", "macro AUROC", "paper's accuracy", "measured on"],
                "rows": [
                    {"name": "cnn5", "cells": [_leaf(0.9), _leaf(0.97, 0.01), "0.9412", "the test split"]},
                    {"name": "fcn [5 folds]", "cells": [_leaf(0.8), {"value": None, "low": None}, None, ""]},
                    {"name": "logreg32", "cells": [0.75, float("nan"), None, "the test split"]},
                ],
            },
            {
                "title": "Paired differences to logreg32",
                "note": "",
                "columns": ["system", "AUROC"],
                "rows": [{"name": "cnn5", "cells": [_leaf(0.07)]}],
            },
        ],
        "systems": {"cnn5": {"test": {"accuracy": _leaf(0.9), "auroc": {"covid": _leaf(0.98)}}}},
        "ntk": {
            "width": widths,
            "change": [w**-0.5 for w in widths],
            "smallest_eigenvalue": [0.1, 0.11, 0.12, None, 0.13],
            "condition": [900.0, 700.0, 600.0, 550.0, 500.0],
            "arc_cosine_error": [2 * w**-0.5 for w in widths],
        },
        "seeds": {"input": {"metric": "AUROC", "groups": {"CXR": [0.9, 0.91, 0.93], "ENH": [0.94, None, 0.95]}}},
    }
    (workdir / "results.json").write_text(json.dumps(results))
    return workdir


def _cells() -> list[dict]:
    """A grid of two depths, SGD with two momenta and Adam, four rates; the fastest SGD diverges; two rungs."""
    rows = []
    for depth in ("resnet18", "resnet50"):
        for optimizer, momentum in (("sgd", 0.5), ("sgd", 0.9), ("adam", None)):
            for lr in (0.001, 0.01, 0.1, 1.0):
                diverged = optimizer == "sgd" and lr == 1.0
                value = (
                    0.9
                    - 0.05 * abs(np.log10(lr) + 2)
                    - 0.013 * (optimizer == "sgd") * (2 - momentum if momentum else 1)
                )
                for rung, steps in ((0, 20), (1, 40)):
                    if rung and (diverged or lr == 0.001):
                        continue
                    curve = [[s, value - 0.3 / s] for s in range(10, steps + 1, 10)]
                    about = {"optimizer": optimizer, "lr": lr, "momentum": momentum, "depth": depth, "steps": steps}
                    figures = {"accuracy": value, "loss": 1 - value, "auroc": float("nan") if diverged else value}
                    rows.append({**about, **figures, "diverged": diverged, "curve": curve, "rung": rung})
    return rows


@pytest.fixture(scope="session")
def fakes() -> SimpleNamespace:
    """Fabricated runs: of a treatment, of a study, and their parts.

    `run(workdir, n, size, lambdas, films, study)`, `films(rng, n, size)`,
    `study(workdir, classes, exclusive, films, size)`, `predictions(workdir, member, films, classes, skill, ...)`,
    and `modes` and `warning` of a treatment run.
    """
    parts = {"films": fake_films, "study": make_study, "predictions": save_predictions}
    return SimpleNamespace(run=make_run, modes=MODES, warning=WARNING, **parts)


@pytest.fixture(scope="session")
def study_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = make_study(tmp_path_factory.mktemp("study"))
    write(workdir)
    return workdir


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = make_run(tmp_path_factory.mktemp("run"))
    write(workdir)
    return workdir


@pytest.fixture(scope="session")
def page(run_dir: Path) -> str:
    return (run_dir / "report.html").read_text()
