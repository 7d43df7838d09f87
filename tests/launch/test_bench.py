"""The benchmark's front door: one table, ratios to the first variant, medians without warm-up, mistakes in a line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def bench(launcher: Callable[[str], ModuleType]) -> ModuleType:
    return launcher("bench")


def test_the_table_has_ratios_within_a_case(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def case(repeats: int) -> list[object]:
        seen.append(repeats)
        return [bench.Row("theirs", 4.0, "films/s"), bench.Row("ours", 50.0, "films/s", 1.25)]

    monkeypatch.setattr(bench, "CASES", {"fast": case, "other": case})
    assert bench.main(["bench.py", "--only=fast", "--repeats=3"]) == 0
    out = capsys.readouterr().out
    assert sum("films/s" in line for line in out.splitlines()) == 2
    ours = next(line for line in out.splitlines() if "ours" in line).split()
    assert ours == ["ours", "50", "films/s", "12.50", "1.2", "s"]
    assert "other" not in out
    assert "jax" in out
    assert seen == [3]


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--only=lwap", "did you mean lwpa?"), ("--only=,", "names no case"), ("--repeats=0", "at least 1"),
     ("--repeats=x", "invalid int"), ("--olny=enh", "unrecognized"),
     ("--repeat=1", "unrecognized arguments: --repeat=1")],
)  # fmt: skip
def test_a_mistake_is_one_line(bench: ModuleType, capsys: pytest.CaptureFixture[str], flag: str, words: str) -> None:
    assert bench.main(["bench.py", flag]) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err.startswith("error: ")
    assert words in got.err
    assert got.err.count("\n") == 1


def test_the_list_names_every_case(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["bench.py", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(bench.CASES)


@pytest.mark.parametrize(("case", "package"), [("lwpa", "phasepack"), ("simplex", "opensimplex")])
def test_a_missing_package_is_told(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert bench.main(["bench.py", f"--only={case}"]) == 2
    assert f"pip install {package}" in capsys.readouterr().err


def test_a_peer_that_is_not_there_is_told_before_anything_is_measured(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bench.main(["bench.py", "--peer=torch"]) == 2
    assert "--peer=torch needs torch; run: pip install -e '.[parity]'" in capsys.readouterr().err
    assert bench.main(["bench.py", "--peer=torch", "--only=enh"]) == 2
    assert "no case 'enh'" in capsys.readouterr().err


def test_rates_are_medians_of_rounds_in_turn_without_the_warm_up(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, order = [0.0], []
    slow = {"a": iter([100.0, 1.0, 2.0, 9.0]), "b": iter([50.0, 4.0, 4.0, 4.0])}

    def call(name: str) -> None:
        order.append(name)
        clock[0] += next(slow[name])

    timing = sys.modules["timing"]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    variants = {
        name: timing.Timed(lambda name=name: call(name), 8, seconds) for name, seconds in (("a", None), ("b", 3))
    }
    rows = timing.rates(variants, 3, "films/s")
    assert order == list("abababab")
    assert rows == [bench.Row("a", 4.0, "films/s", None), bench.Row("b", 2.0, "films/s", 3)]


def test_the_cases_measure_both_sides(bench: ModuleType) -> None:
    pytest.importorskip("phasepack")
    rows = bench.CASES["lwpa"](1, side=24, batch=2, alone=1)
    assert [row.variant.split()[0] for row in rows] == ["phasepack", "cxrjax:"]
    assert all(row.figure > 0 for row in rows)
    assert rows[0].compile_seconds is None
    assert rows[1].compile_seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", ["predict_png", "predict_dicom"])
def test_films_are_answered_from_files_beside_torch(bench: ModuleType, case: str) -> None:
    pytest.importorskip("torchvision")
    rows = bench.CASES[case](1, peer=True, count=3, side=64)
    assert [row.variant.split()[0] for row in rows] == ["torch,", "cxrjax,"]
    assert all(row.figure > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lite0_train", "lite0_infer", "unet_train"])
def test_a_network_is_measured_beside_torch(bench: ModuleType, case: str) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    rows = bench.CASES[case](1, peer=True, batch=2, side=64)
    assert [row.variant.split()[0] for row in rows] == ["torch", "torch", "cxrjax,"]
    assert all(row.figure > 0 for row in rows)


@pytest.mark.parametrize(
    ("case", "options", "names"),
    [
        ("attention", {"positions": 256, "batch": 1}, ["dense,", "blockwise,"]),
        ("cond", {"side": 8, "channels": 4, "batch": 2}, ["jax.lax:", "cxrjax:"]),
        ("kernel_gradient_64", {"side": 8, "batch": 2}, ["jax.lax,", "by", "as"]),
        ("frechet", {"films": 40, "features": 4}, ["scipy", "cxrjax,"]),
        ("simplex", {"side": 16, "octaves": 2}, ["opensimplex", "cxrjax,"]),
        pytest.param(  # two compilations each
            "grid", {"size": 8, "batch": 8}, ["24", "24"], marks=pytest.mark.slow
        ),
        pytest.param("gan", {"size": 32, "features": 8, "batch": 2}, ["float32:", "bfloat16:"], marks=pytest.mark.slow),
    ],
)
def test_the_generator_cases_measure_both_sides(
    bench: ModuleType, case: str, options: dict[str, int], names: list[str]
) -> None:
    rows = bench.CASES[case](1, **options)
    assert [row.variant.split()[0] for row in rows] == names
    assert all(row.figure > 0 for row in rows)
