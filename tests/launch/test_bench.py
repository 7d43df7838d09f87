"""The benchmark: one table, ratios to the first variant, medians without warm-up, mistakes in a line, cases dry."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def bench(launcher: Callable[[str], ModuleType]) -> ModuleType:
    return launcher("bench")


def test_the_table_has_ratios_within_a_case(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def run(repeats: int, **options: object) -> list[object]:
        seen.append((repeats, options))
        return [bench.Row("theirs", 4.0, "films/s"), bench.Row("ours", 50.0, "films/s", 1.25, 3_000_000)]

    monkeypatch.setattr(bench, "CASES", {
        "fast": bench.Case(run, "", {"side": 8}, options=("dtype",)), "other": bench.Case(run, "", {})
    })  # fmt: skip
    assert bench.main(["bench.py", "--only=fast", "--repeats=3"]) == 0
    out = capsys.readouterr().out
    assert sum("films/s" in line for line in out.splitlines()) == 2
    ours = next(line for line in out.splitlines() if "ours" in line).split()
    assert ours == ["ours", "50", "films/s", "12.50", "1.2", "s", "3", "MB"]
    assert "other" not in out
    assert "jax" in out
    assert bench.main(["bench.py", "--only=fast", "--tiny", "--dtype=bfloat16"]) == 0
    assert seen == [(3, {"dtype": "float32"}), (5, {"side": 8, "dtype": "bfloat16"})]


def test_a_share_is_of_the_products_of_its_own_dtype(bench: ModuleType) -> None:
    rows = [
        bench.Row("a", 1.0, "films/s", None, None, 3e9),
        bench.Row("b", 1.0, "films/s", None, None, 3e9, "bfloat16"),
    ]
    lines = bench.table.cells("x", rows, {"float32": 4e9, "bfloat16": 3e10})
    assert [line[-1] for line in lines] == ["75%", "10%"]
    assert bench.table.cells("x", [bench.Row("a", 1.0, "films/s")], {"float32": 4e9})[0][-1] == ""


def test_what_fails_or_has_no_time_is_told_and_the_others_are_shown(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(repeats: int) -> list[object]:
        raise RuntimeError("no\nmemory")

    def works(repeats: int) -> list[object]:
        return [bench.Row("ours", 1.0, "films/s")]

    cases = {"a": bench.Case(fails, "", {}), "b": bench.Case(works, "", {}), "c": bench.Case(works, "", {}, card=True)}
    monkeypatch.setattr(bench, "CASES", cases)
    assert bench.main(["bench.py"]) == 2
    got = capsys.readouterr()
    assert got.err.splitlines() == [
        "bench: b ours 1 films/s 1.00", "a failed: RuntimeError: no memory",
        "c is for a GPU; --only=c measures it here all the same",
    ]  # fmt: skip
    assert "ours" in got.out
    assert bench.main(["bench.py", "--only=c"]) == 0
    clock = iter([0.0, 0.0])  # the first case takes until 5.0, and the next would take as long
    monkeypatch.setattr(bench.time, "monotonic", lambda: next(clock, 5.0))
    assert bench.main(["bench.py", "--only=b,c", "--seconds=9"]) == 0
    assert "c: no time was left" in capsys.readouterr().err


def test_a_case_is_told_and_written_before_the_next_begins(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "README.md"
    path.write_text("\n".join(bench.table.MARKS))
    monkeypatch.setattr(bench, "README", path)

    def killed(repeats: int) -> list[object]:
        assert "| a | ours | 1 films/s |" in path.read_text()
        assert "bench: a ours 1 films/s" in capsys.readouterr().err
        raise KeyboardInterrupt

    works = bench.Case(lambda repeats: [bench.Row("ours", 1.0, "films/s")], "", {})
    monkeypatch.setattr(bench, "CASES", {"a": works, "b": bench.Case(killed, "", {})})
    with pytest.raises(KeyboardInterrupt):
        bench.main(["bench.py", "--write"])


def test_rows_are_written_between_the_marks_and_other_cases_keep_theirs(bench: ModuleType, tmp_path: Path) -> None:
    path, (first, last) = tmp_path / "README.md", bench.table.MARKS
    path.write_text(f"# Before\n\n{first}\n{last}\n\nAfter.\n")

    def write(name: str, figure: float, where: str) -> list[str]:
        rows = [bench.Row("theirs | x", 2.0, "films/s"), bench.Row("ours", figure, "films/s", 1.0, 2_000_000, 1e9)]
        bench.table.write(path, {name: rows}, {"float32": 2e9}, where, ["a", "b"])
        return path.read_text().splitlines()

    write("b", 4.0, "here, load 1.0; then")
    lines = write("a", 6.0, "there")
    assert lines[:4] == ["# Before", "", first, ""]
    assert lines[6:10] == [
        "| a | theirs / x | 2 films/s | 1.00 |  |  |  | there |",
        "| a | ours | 6 films/s | 3.00 | 1.0 s | 2 MB | 50% | there |",
        "| b | theirs / x | 2 films/s | 1.00 |  |  |  | here, load 1.0; then |",
        "| b | ours | 4 films/s | 2.00 | 1.0 s | 2 MB | 50% | here, load 1.0; then |",
    ]
    assert lines[10:] == ["", last, "", "After."]
    again = write("b", 8.0, "elsewhere")
    assert [line.split(" | ")[0] for line in again[6:10]] == ["| a", "| a", "| b", "| b"]
    assert again[9].endswith("| elsewhere |")
    bench.table.write(path, {}, {}, "", ["b"])  # a case that is gone
    assert sum(line.startswith("| a ") for line in path.read_text().splitlines()) == 0
    path.write_text("no marks")
    with pytest.raises(ValueError, match="needs one line"):
        bench.table.write(path, {}, {}, "", [])


def test_the_table_of_the_readme_is_of_cases_that_there_are(bench: ModuleType) -> None:
    text = bench.README.read_text()
    assert all(text.count(mark) == 1 for mark in bench.table.MARKS)
    inside = text.partition(bench.table.MARKS[0])[2].partition(bench.table.MARKS[1])[0]
    names = [line.split(" | ")[0].removeprefix("| ") for line in inside.splitlines() if line.startswith("| ")]
    assert names[0] == "case"
    assert set(names[1:]) <= set(bench.CASES)


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--only=lwap", "did you mean lwpa?"), ("--only=,", "names no case"), ("--repeats=0", "at least 1"),
     ("--repeats=x", "invalid int"), ("--olny=enh", "unrecognized"),
     ("--repeat=1", "unrecognized arguments: --repeat=1"), ("--card", "needs a GPU"),
     ("--peer=numpy", "invalid choice"), ("--dtype=int8", "invalid choice"),
     ("--films=nowhere", "--films=nowhere is no folder"), ("--films=. --only=enh", "no case 'enh'")],
)  # fmt: skip
def test_a_mistake_is_one_line(bench: ModuleType, capsys: pytest.CaptureFixture[str], flag: str, words: str) -> None:
    assert bench.main(["bench.py", *flag.split()]) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err.startswith("error: ")
    assert words in got.err
    assert got.err.count("\n") == 1


def test_the_list_names_every_case(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["bench.py", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(bench.CASES)


def test_a_dry_run_is_not_written(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    before = bench.README.read_text()
    assert bench.main(["bench.py", "--tiny", "--write", "--only=matmul"]) == 2
    assert "leave out --write" in capsys.readouterr().err
    assert bench.README.read_text() == before


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
    assert bench.main(["bench.py", "--peer=torch", "--only=grid"]) == 2  # it stands beside nothing
    assert "no case 'grid'" in capsys.readouterr().err


def test_rates_are_medians_of_rounds_in_turn_without_the_warm_up(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, order = [0.0], []
    slow = {"a": iter([100.0, 1.0, 2.0, 9.0]), "b": iter([50.0, 4.0, 4.0, 4.0])}

    def call(name: str) -> None:
        order.append(name)
        clock[0] += next(slow[name])

    timing = sys.modules["benches.timing"]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    variants = {
        name: timing.Timed(lambda name=name: call(name), 8, seconds) for name, seconds in (("a", None), ("b", 3))
    }
    rows = timing.rates(variants, 3, "films/s")
    assert order == list("abababab")
    assert rows == [bench.Row("a", 4.0, "films/s", None), bench.Row("b", 2.0, "films/s", 3)]


def test_a_program_tells_its_memory_and_its_work(bench: ModuleType) -> None:
    import jax.numpy as jnp

    timing = sys.modules["benches.timing"]
    a = jnp.ones((32, 16))
    row, looped = timing.rates({
        "once": timing.compiled(lambda a: a @ a.T, a, items=1),
        "thrice": timing.stepped(lambda s, a: s + a @ a.T, jnp.zeros((32, 32)), a, items=3, calls=3),
    }, 1, "products/s")  # fmt: skip
    product = 2 * 32 * 16 * 32
    assert row.memory >= 4 * (32 * 16 + 32 * 32)
    assert row.work == pytest.approx(product * row.figure, rel=0.1)
    assert looped.work == pytest.approx((product + 32 * 32) * looped.figure, rel=0.1)


QUICK = ("matmul", "heads", "frechet", "simplex", "growth_bootstrap", "growth_frechet", "growth_nearest")
QUICK += ("growth_prepared", "input_prepared")
NAMES = {  # the first word of each variant
    "matmul": ["cxrjax:", "cxrjax:"], "lwpa": ["phasepack", "cxrjax:"], "attention": ["dense,", "blockwise,"],
    "heads": ["jax.nn:", "cxrjax", "blocks"], "cond": ["jax.lax:", "cxrjax:"],
    "kernel_gradient_64": ["jax.lax,", "by", "as"], "frechet": ["scipy", "cxrjax,"],
    "simplex": ["opensimplex", "cxrjax,"], "grid": ["24", "24"], "gan": ["cxrjax:"], "treat": ["cxrjax:"],
}  # fmt: skip


def dry(bench: ModuleType, name: str, **more: object) -> list[str]:
    """The first words of a case's variants, measured at its tiny size."""
    case = bench.CASES[name]
    rows = case.run(1, **case.tiny, **more)
    assert all(row.figure > 0 for row in rows)
    return [row.variant.split()[0] for row in rows]


@pytest.mark.parametrize("name", QUICK)
def test_a_case_runs_dry(bench: ModuleType, name: str) -> None:
    expected = NAMES.get(name, ["cxrjax,", "cxrjax,"])
    assert dry(bench, name) == expected


def test_films_of_a_folder_are_measured_and_those_that_are_cut_count(bench: ModuleType, tmp_path: Path) -> None:
    for i in range(3):
        film = np.random.default_rng(i).integers(0, 256, (40, 30), np.uint8)
        Image.fromarray(film).save(tmp_path / f"{i}.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "0.jpg").read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("no film")
    rows = bench.CASES["input_prepared"].run(2, films=str(tmp_path))
    assert [row.variant for row in rows] == ["cxrjax, 4 films decoded alone", "cxrjax, 4 films prepared as records"]


def test_the_cases_measure_both_sides(bench: ModuleType) -> None:
    pytest.importorskip("phasepack")
    case = bench.CASES["lwpa"]
    theirs, ours = case.run(1, **case.tiny)
    assert [row.variant.split()[0] for row in (theirs, ours)] == NAMES["lwpa"]
    assert theirs.compile_seconds is None
    assert ours.compile_seconds > 0


@pytest.mark.slow  # a minute or two each: some compile a whole network
@pytest.mark.parametrize("name", ["attention", "cond", "kernel_gradient_64", "grid", "gan", "treat", "unet_train"])
def test_a_case_that_compiles_runs_dry(bench: ModuleType, name: str) -> None:
    assert dry(bench, name) == NAMES.get(name, ["cxrjax,"])


@pytest.mark.parametrize("case", ["predict_png", "predict_dicom"])
def test_films_are_answered_from_files(bench: ModuleType, case: str) -> None:
    (row,) = bench.CASES[case].run(1, count=3, side=64, net="resnet_tiny")  # films that are not answered raise
    assert row.variant.startswith("cxrjax, 3 ")
    assert row.figure > 0


@pytest.mark.slow
def test_a_card_is_measured_in_one_call_here_in_a_dry_run(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PEERS", ("no_such_package",))  # torch's halves have their own tests
    assert bench.main(["bench.py", "--card", "--tiny", "--repeats=1", "--seconds=3600"]) == 0
    got = capsys.readouterr()
    assert [line for line in got.err.splitlines() if " failed: " in line or "no time" in line] == []
    assert [name for name in bench.CASES if f" {name} " not in got.out] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite0_train", "resnet50_infer", "unet_paper_train", "gan", "treat_paper"])
def test_a_case_runs_dry_beside_torch(bench: ModuleType, name: str) -> None:
    """As many parameters in both is asked by the case itself."""
    pytest.importorskip("efficientnet_lite_pytorch")
    words = dry(bench, name, peer="torch")
    assert words[0] == "torch"
    assert words[-1].startswith("cxrjax")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["input_png", "input_records", "predict_png", "predict_dicom"])
def test_films_are_read_beside_torch(bench: ModuleType, name: str) -> None:
    pytest.importorskip("torchvision")
    assert dry(bench, name, peer="torch") == ["torch,", "cxrjax,"]
