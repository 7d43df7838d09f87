"""An anomaly study's page shows residuals beside true lesions, marked as taken from synthetic films."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.report import write
from cxrjax.report.faces import read
from cxrjax.report.read.treatment import Anomaly, read_anomaly
from cxrjax.report.read.workdir import read_run
from cxrjax.report.treatment import anomaly

ROWS = ("simplex, lambda 100", "simplex, lambda 200", "time_gated, lambda 100", "map of time_gated")


def _leaf(value: float) -> dict[str, float | int]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 9}


@pytest.fixture(scope="module")
def anomaly_run(fakes: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Anomaly:
    workdir = fakes.run(tmp_path_factory.mktemp("anomaly"), films=False)
    films = fakes.films(np.random.default_rng(0), 12, 16)
    residual = np.square(2 * (films["image"] - films["twin"]))
    (workdir / "anomaly").mkdir()
    np.savez(
        workdir / "anomaly" / "films.npz", image=films["image"], truth=films["lesion"], key=films["key"],
        names=np.array([ROWS[1], ROWS[2]]), scores=np.stack([residual, 5 * residual]),
    )  # fmt: skip
    results = {
        "anomaly": {
            name: {"pixel_auroc": _leaf(0.6 + 0.1 * i), "pixel_average_precision": _leaf(0.2)}
            for i, name in enumerate(ROWS)
        },
        "lesion_share": _leaf(0.04),
        "headline": "Pixel AUROC: 0.9.",
    }
    (workdir / "results.json").write_text(json.dumps(results))
    manifest = json.loads((workdir / "manifest.json").read_text())
    manifest["config"]["study"] = {"name": "anomaly", "modes": ["simplex", "time_gated"]}
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    return read(workdir)[1]


def test_residuals_stand_beside_films_each_arm_on_its_own_scale(anomaly_run: Anomaly) -> None:
    axes = anomaly.anomaly(anomaly_run).axes[0]
    maps = [picture for picture in axes.images if picture.get_cmap().name == "inferno"]
    assert len(maps) == 2 * 6
    assert len(axes.images) == 3 * 6
    top = np.percentile(anomaly_run.residuals.scores[0], 99.5)
    assert [picture.get_clim()[1] for picture in maps[::6]] == pytest.approx([top, 5 * top], rel=1e-5)
    words = {text.get_text() for text in axes.texts}
    assert {"simplex", "lambda 200", "time_gated", "lambda 100", anomaly.NOTICE} <= words


def test_every_row_is_a_dot_with_its_interval_and_guessing_is_marked(anomaly_run: Anomaly) -> None:
    auroc, precision = anomaly.anomaly_scores(anomaly_run).axes
    assert [tick.get_text() for tick in auroc.get_yticklabels()] == list(ROWS)
    dots = [line.get_xdata()[0] for line in auroc.get_lines() if line.get_marker() == "o"]
    assert dots == pytest.approx([0.6, 0.7, 0.8, 0.9])
    bars = [tuple(line.get_xdata()) for line in auroc.get_lines() if line.get_marker() == "None"]
    assert bars[0] == pytest.approx((0.55, 0.65))
    assert bars[-1] == (0.5, 0.5)
    assert precision.get_lines()[-1].get_xdata()[0] == 0.04


def test_page_looks_before_it_counts_and_says_what_is_synthetic(anomaly_run: Anomaly) -> None:
    page = write(anomaly_run.workdir).read_text()
    places = [page.index(text) for text in ("Pixel AUROC: 0.9.", 'id="figure-anomaly"', 'id="figure-anomaly_scores"')]
    assert places == sorted(places)
    assert "Residual maps on this page are taken from <strong>synthetic</strong> films" in page
    assert "not a prognosis" not in page
    folder = anomaly_run.workdir / "figures"
    marked = {path.stem for path in folder.glob("*.png") if Image.open(path).text.get("Synthetic") == "true"}
    assert marked == {"anomaly"}


def test_files_that_disagree_are_told(anomaly_run: Anomaly, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "anomaly").mkdir()
    path = tmp_path / "anomaly" / "films.npz"
    found = anomaly_run.residuals
    arrays = {"image": found.image, "truth": found.truth, "key": found.key, "names": found.names}
    np.savez(path, **arrays, scores=found.scores[:, :, :8])
    with pytest.raises(UserError, match=r"films\.npz: scores has shape \(2, 12, 8, 16\)"):
        read_anomaly(read_run(tmp_path))
    np.savez(path, **arrays, scores=np.full_like(found.scores, np.nan))
    with pytest.raises(UserError, match=r"simplex, lambda 200 of 12 of 12 films holds NaN"):
        read_anomaly(read_run(tmp_path))
