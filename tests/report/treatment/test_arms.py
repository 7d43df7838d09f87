"""Many arms stay readable: their order and looks, which of them stand first, and what is said of the best."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.report import write
from cxrjax.report.draw.style import COLORS, arm_look, color_of
from cxrjax.report.faces import read
from cxrjax.report.read.treatment import MODE_ORDER, Films, Treated, Treatment
from cxrjax.report.summary import grouped
from cxrjax.report.treatment import arms, curves, ranking, strips
from cxrjax.report.treatment.headline import headline
from cxrjax.studies.treatment import ranking as study

STUDY: dict[str, Any] = {
    "name": "progress",
    "modes": [*MODE_ORDER, "time_gated_wide", "time_gated_anomaly", "time_gated_cam", "anoddpm_simplex"],
    "arms": {
        "time_gated_wide": {"mode": "time_gated", "hard": True},
        "time_gated_anomaly": {"mode": "time_gated", "source": "anomaly"},
        "time_gated_cam": {"mode": "time_gated", "source": "cam"},
        "anoddpm_simplex": {"mode": "uniform", "diffusion_phase": "simplex"},
    },
    "solvers": {"mode": "time_gated", "lambda": 400, "evaluations": [5, 10], "reference": 40},
}
# The arms beside the known modes, and the mode whose films and figures each of them borrows.
BORROWED = {"time_gated_wide": "time_gated_hard", "time_gated_anomaly": "time_gated", "time_gated_cam": "time_gated"}
BORROWED |= {"anoddpm_simplex": "uniform", "pixel_uniform": "uniform", "pixel_time_gated": "time_gated"}
MANY = [*MODE_ORDER, *(f"arm_{i}" for i in range(12))]


def _leaf(value: float, spread: float = 0.01) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "n": 6, "unit": ""}


def _rank(results: dict[str, Any]) -> None:
    """The tables that the study makes of the results."""
    names = tuple(name for name in results["progress"] if name != "untreated")
    results["tables"] = study.tables(results, names, "independent", (0.5, 0.7), truth=True)


def make_arms(fakes: SimpleNamespace, workdir: Path) -> Path:
    """A treatment run of eleven arms, with masks, distances, solvers and a ranking."""
    fakes.run(workdir, n=8, size=16, lambdas=(100, 300))
    results = json.loads((workdir / "results.json").read_text())
    for arm, source in BORROWED.items():
        for lam in (100, 300):
            path = workdir / "progress" / f"{source}_{lam:04d}.npz"
            (workdir / "progress" / f"{arm}_{lam:04d}.npz").write_bytes(path.read_bytes())
        for tree in (results["progress"], results["control"], *results["equal_rate"]["independent"].values()):
            tree[arm] = json.loads(json.dumps(tree[source]))
    del results["equal_rate"]["cam_network"]
    for arm in STUDY["modes"]:
        for lam in ("100", "300"):
            results["progress"][arm][lam]["fdd"] = _leaf(20.0 - int(lam) / 50)
    results["progress"]["untreated"]["fdd"], results["realism"] = _leaf(22.0), {"floor": _leaf(1.5)}
    results["solvers"] = {
        name: {
            str(n): {
                "network_evaluations": _leaf(n, 0), "normal_rate": _leaf(0.8 - 1 / n),
                "change_against_reference": _leaf(0.0 if n == 40 else 1 / n),
            }
            for n in ((5, 10, 40) if name == "ancestral" else (5, 10))
        }
        for name in ("ancestral", "ddim")
    }  # fmt: skip
    _rank(results)
    (workdir / "results.json").write_text(json.dumps(results))
    manifest = json.loads((workdir / "manifest.json").read_text())
    manifest["config"]["study"] = STUDY
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    with np.load(workdir / "progress" / "films.npz") as films:
        soft = films["cam"].astype(np.float32)
    hard = {"time_gated_hard": soft > 0.3, "time_gated_wide": soft > 0.15, "time_gated_anomaly": soft > 0.6}
    masks = {arm: hard.get(arm, soft).astype(np.float32) for arm in STUDY["modes"]}
    np.savez(workdir / "progress" / "masks.npz", **masks)
    np.savez(workdir / "progress" / "pixel_masks.npz", pixel_uniform=soft, pixel_time_gated=soft)
    return workdir


@pytest.fixture(scope="module")
def arms_dir(fakes: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_arms(fakes, tmp_path_factory.mktemp("arms"))


@pytest.fixture(scope="module")
def arms_run(arms_dir: Path) -> Treatment:
    return read(arms_dir)[1]


def _changed(run: Treatment, workdir: Path, arm: str, change: dict[str, Any]) -> Treatment:
    """The same run, where one arm's change outside the mask at equal rate is another."""
    results = json.loads((run.workdir / "results.json").read_text())
    results["equal_rate"]["independent"]["0.5"][arm]["mae"]["outside"] |= change
    _rank(results)
    workdir.mkdir(exist_ok=True)
    (workdir / "results.json").write_text(json.dumps(results))
    (workdir / "manifest.json").write_text((run.workdir / "manifest.json").read_text())
    return read(workdir)[1]


def test_arms_are_in_the_order_of_the_config(arms_run: Treatment) -> None:
    assert arms_run.modes == [*STUDY["modes"], "pixel_uniform", "pixel_time_gated"]
    assert list(arms_run.treated) == arms_run.modes


def test_twenty_five_arms_look_different_and_pixel_arms_like_their_own() -> None:
    modes = [*MANY, *(f"pixel_{name}" for name in MANY[:8])]
    assert len({arm_look(mode, modes) for mode in modes}) == len(modes) == 25
    assert len({color_of(mode, modes) for mode in MANY}) == len(MANY)
    assert {mode: color_of(mode, modes) for mode in MODE_ORDER} == COLORS
    for name in MANY[:8]:
        assert color_of(f"pixel_{name}", modes) == color_of(name, modes)
        assert arm_look(f"pixel_{name}", modes).line == "--"


def test_every_arm_has_a_panel_with_few_others_and_the_baseline() -> None:
    groups = arms.panels([*MANY, "pixel_uniform", "pixel_arm_3"])
    assert {name for group in groups for name in group} == {*MANY, "pixel_uniform", "pixel_arm_3"}
    for group in groups:
        assert len({name.removeprefix("pixel_") for name in group}) <= arms.MOST_IN_A_PANEL
        assert group[:2] == ["uniform", "pixel_uniform"]
    assert arms.panels(list(MODE_ORDER)) == [list(MODE_ORDER)]


def test_ranking_is_that_of_the_study(arms_run: Treatment, tmp_path: Path) -> None:
    run = _changed(arms_run, tmp_path, "time_gated_hard", {"value": {"value": None}})
    ranked = [row["name"] for row in run.results["tables"][0]["rows"]]
    assert run.ranking == ("0.5", ranked)
    assert ranked[-1] == "time_gated_hard"
    assert sorted(ranked) == sorted(run.modes)
    assert arms.at_first(run, run.modes) == [*MODE_ORDER, "time_gated_anomaly"]


def test_a_run_without_a_ranking_keeps_the_order_of_its_arms(arms_run: Treatment) -> None:
    run = replace(arms_run, results={})
    assert run.ranking == ("", [])
    assert arms.ranked(run) == run.modes
    assert ranking.ranking(run) is None


def test_headline_names_the_best_arm_that_a_map_guides(arms_run: Treatment, tmp_path: Path) -> None:
    """The smallest change of all is that of mask_blend, then of a residual's mask, then of the pixel run's."""
    changes = {"mask_blend": 0.001, "time_gated_anomaly": 0.002, "pixel_time_gated": 0.003, "time_gated_cam": 0.004}
    run = arms_run
    for arm, change in changes.items():
        run = _changed(run, tmp_path, arm, {"value": _leaf(change, 0.0005)})
    assert run.ranking[1][:4] == list(changes)
    said = headline(run)
    assert "time_gated_cam leaves the rest of the film better preserved" in said
    assert "best of 5 guided arms, chosen on these films" in said
    for arm in run.ranking[1]:
        run = _changed(run, tmp_path, arm, {"value": {"value": None}})
    results = json.loads((tmp_path / "results.json").read_text())
    for entry in results["progress"].values():
        for lam in set(entry) & {"100", "300"}:
            entry[lam]["normal_rate"]["independent"] = _leaf(int(lam) / 1000)
    (tmp_path / "results.json").write_text(json.dumps(results))
    said = headline(read(tmp_path)[1])
    assert "No guided arm brings the independent judge to call 50 %" in said
    assert "0.300 [0.290, 0.310] at λ = 300" in said
    results["progress"]["untreated"]["normal_rate"]["independent"] = _leaf(0.7)
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert "Before any treatment, the independent judge already calls" in headline(read(tmp_path)[1])


@pytest.mark.parametrize(("count", "shown"), [(5, 16), (17, 7), (25, 5), (60, 5)])
def test_films_of_many_arms_stay_large_and_within_the_pages_budget(count: int, shown: int) -> None:
    n, size = 40, 64
    zeros = np.broadcast_to(np.float32(0), (n, size, size))
    films = Films(np.arange(n).astype(str), np.arange(n) < 30, np.linspace(0, 1, n), zeros, zeros, None, None, {})
    treated = {f"arm_{i:02d}": {lam: Treated({}, {}) for lam in range(100, 700, 100)} for i in range(count)}
    planned = strips.plan(Treatment(Path("run"), {}, [], [], films=films, treated=treated), films)
    assert len(planned.films) == shown
    assert planned.tile == (size, size)
    assert len(planned.modes) == min(count, 25)
    assert 2 * 7 * len(planned.films) * len(planned.modes) * size**2 <= strips._BUDGET


def test_arms_that_share_a_mask_share_its_column(arms_run: Treatment, arms_dir: Path, tmp_path: Path) -> None:
    figure = ranking.masks(arms_run)
    rows, distinct = 4, 4  # soft, and three that are thresholded; uniform noise has no mask
    assert len(figure.axes[0].images) == rows * (1 + distinct)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"noise_matrix", "time_gated_wide", "film"} <= set(words)
    assert not {"uniform", "anoddpm_simplex", "pixel_time_gated"} & set(words)
    (tmp_path / "progress").mkdir()
    for name in ("manifest.json", "results.json", "progress/films.npz"):
        (tmp_path / name).write_bytes((arms_dir / name).read_bytes())
    np.savez(tmp_path / "progress" / "masks.npz", time_gated=np.zeros((8, 4, 4)))
    with pytest.raises(UserError, match=r"masks\.npz: time_gated has shape \(8, 4, 4\)"):
        read(tmp_path)[1]


def test_solvers_stand_beside_the_reference_and_its_five_percent(arms_run: Treatment) -> None:
    change, rate = ranking.solvers(arms_run).axes
    assert [axes.get_xscale() for axes in (change, rate)] == ["log", "log"]
    lines = {line.get_label(): line for line in change.get_lines()}
    assert set(lines) == {"ancestral, 40 evaluations", "ancestral", "ddim"}
    assert set(lines["ancestral, 40 evaluations"].get_ydata()) == {0.0}
    assert lines["ancestral"].get_xdata().tolist() == [5, 10]  # its reference is the level
    assert lines["ancestral"].get_ydata().tolist() == [0.2, 0.1]
    assert change.patches[0].get_height() == pytest.approx(0.1)
    assert set(rate.get_lines()[0].get_ydata()) == {0.8 - 1 / 40}
    assert rate.patches[0].get_height() == pytest.approx(0.1 * (0.8 - 1 / 40))


def test_realism_is_drawn_with_its_floor_where_there_is_a_distance(arms_run: Treatment, run_dir: Path) -> None:
    axes = curves.realism(arms_run).axes[0]
    levels = {line.get_label(): set(line.get_ydata()) for line in axes.get_lines()}
    assert levels["floor"] == {1.5}
    assert levels["untreated"] == {22.0}
    assert curves.realism(read(run_dir)[1]) is None


def test_page_of_many_arms_ranks_them_once_and_folds_the_rest(arms_dir: Path) -> None:
    page = write(arms_dir).read_text()
    heads = re.findall(r'<th class="treated([^"]*)" data-mode="([^"]*)"', page)
    assert len(heads) == 11
    assert [mode for off, mode in heads if not off] == [*MODE_ORDER, "time_gated_anomaly"]
    assert "At equal normal rate</h2>" not in page
    order = ['id="strips"', 'id="figure-ranking"', "Arms ranked at normal rate 0.5</h2>", "Key numbers</h2>"]
    assert [page.index(text) for text in order] == sorted(page.index(text) for text in order)
    assert '<b class="better">−0.0300</b>' in page
    for name in ("ranking", "rate", "tradeoff", "twin_error", "realism", "solvers", "control", "cam", "masks"):
        assert f'id="figure-{name}"' in page
    marked = {p.stem for p in (arms_dir / "figures").glob("*.png") if Image.open(p).text.get("Synthetic") == "true"}
    assert marked == {"strips"}
    progress = grouped(read(arms_dir)[1])["progress"]
    assert all(len(leaves) <= 300 for leaves in progress.values())
