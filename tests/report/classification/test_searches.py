"""The surface shows each cell's last rung and hatches what diverged; effects show each seed with its mean."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from cxrjax.report.classification import searches
from cxrjax.report.read.classification import Classification, read
from cxrjax.report.read.workdir import read_run


@pytest.fixture(scope="module")
def study(fakes: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Classification:
    return read(read_run(fakes.study(tmp_path_factory.mktemp("searches"), films=12, size=8)))


def test_surface_has_a_cell_for_each_run_and_hatches_what_diverged(study: Classification) -> None:
    figure = searches.grid(study)
    assert [axes.get_title() for axes in figure.axes] == ["resnet18: AUROC", "resnet50: AUROC"]
    for axes in figure.axes:
        assert len(axes.patches) == 12
        assert sum(patch.get_hatch() is not None for patch in axes.patches) == 2
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.001", "0.01", "0.1", "1"]
        texts = {tuple(np.round(text.get_position())): text.get_text() for text in axes.texts}
        assert texts[1, 2] == ".900\n40 steps"  # Adam at 0.01, of the last rung
        assert texts[0, 2].endswith("\n20 steps")  # stopped after the first
        assert (3, 0) not in texts
    sides = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert sides == ["sgd 0.5", "sgd 0.9", "adam"]


def test_curves_are_the_best_cells_at_every_step(study: Classification) -> None:
    (axes,) = searches.grid_curves(study).axes
    assert len(axes.lines) == 6
    assert all(line.get_xdata()[-1] == 40 for line in axes.lines)
    ends = [line.get_ydata()[-1] for line in axes.lines]
    assert ends == sorted(ends, reverse=True)


def test_a_search_that_diverged_everywhere_is_still_a_surface(tmp_path: Path) -> None:
    row = {"optimizer": "adam", "lr": 1.0, "momentum": None, "depth": "resnet18", "accuracy": None, "diverged": True}
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "rows.jsonl").write_text(json.dumps(row))
    (tmp_path / "manifest.json").write_text("{}")
    run = read(read_run(tmp_path))
    assert [patch.get_hatch() for patch in searches.grid(run).axes[0].patches] == ["////"]
    assert searches.grid_curves(run) is None


def test_effects_show_every_seed_and_the_t_interval_of_the_mean(study: Classification) -> None:
    (axes,) = searches.seeds(study).axes
    dots, bar, mean = axes.lines[:3]
    values = np.array([0.9, 0.91, 0.93])
    np.testing.assert_array_equal(dots.get_xdata(), values)
    ends = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(bar.get_xdata(), ends)
    assert mean.get_xdata()[0] == pytest.approx(values.mean())
    assert len(axes.lines[3].get_xdata()) == 2  # the seed without a figure is left out
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["CXR", "ENH"]


def test_kernel_panels_leave_out_what_a_logarithm_cannot_show(study: Classification) -> None:
    figure = searches.ntk(study)
    lengths = {axes.get_title(): len(axes.lines[0].get_xdata()) for axes in figure.axes}
    assert lengths["smallest eigenvalue"] == 4
    assert lengths["change of the kernel in training"] == 5
    change = next(axes for axes in figure.axes if axes.get_title().startswith("change"))
    measured, theory = change.lines
    np.testing.assert_allclose(measured.get_ydata(), theory.get_ydata())  # the fixture follows the theory
