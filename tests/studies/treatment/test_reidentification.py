"""Who tells patients apart, of planted likenesses, and what is used where no network is named."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from cxrjax.errors import UserError
from cxrjax.studies.treatment import measures, reidentification

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "ddpm_cam.py"


def test_figures_pair_both_ways_on_the_same_patients():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 40))
    found = reidentification.figures({"network": 4 * np.eye(40) + noise, "pixels": np.eye(40) + noise})
    assert found["network"]["auroc"]["value"] > 0.95
    assert 0.6 < found["pixels"]["auroc"]["value"] < 0.9
    gap = found["network"]["minus_pixels"]
    assert gap["value"] == pytest.approx(found["network"]["auroc"]["value"] - found["pixels"]["auroc"]["value"])
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    (table,) = reidentification.tables(found, "identity")
    assert [row["name"] for row in table["rows"]] == ["trained network", "correlation of pixels"]
    assert "identity" in table["note"]
    assert reidentification.tables({}, "") == []


def test_a_treated_film_is_sought_by_embeddings_where_there_are_some_and_by_pixels_else():
    rng = np.random.default_rng(1)
    image = rng.uniform(size=(3, 8, 8))
    films = {"image": image, "cam": np.ones((3, 8, 8)), "pooled": image.reshape(3, -1)}
    run = {"image": image[[1, 0, 2]], "pooled": films["pooled"]}
    by_pixels = measures.measures(films, run)
    assert by_pixels["reidentified"]["first"].tolist() == [0, 0, 1]
    assert "embedding" not in by_pixels["cosine"]
    by_network = measures.measures(films | {"own_embedding": np.eye(3)}, run | {"embedding": np.eye(3)[[0, 1, 1]]})
    assert by_network["reidentified"]["first"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(by_network["cosine"]["embedding"], [1, 1, 0])


def test_a_phase_that_tells_no_patients_apart_is_refused():
    config = runpy.run_path(str(CONFIG))["get_config"]("rivals_smoke")
    reidentification.check(config)
    config.study.identity_phase = "judge"
    with pytest.raises(UserError, match=r"identity_phase = 'judge': expected a phase of task 'identify' \(identity\)"):
        reidentification.check(config)
