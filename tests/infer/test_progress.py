"""Films from files under treatment: as arrays are treated, with their own noise, at their own sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.infer.finished import Run


def test_films_from_files_are_treated_as_arrays_are_and_a_broken_one_stops_none(tiny_run: Run, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 32), np.uint8)).save(path)
    paths[1].write_text("no film")
    treatment = tiny_run.treatment("time_gated_hard")
    first, broken, last = treatment.films(paths, (100, 200), seed=3)
    assert "not a readable" in broken.fault
    for lam, treated, own in zip((100, 200), first.treated, first.own, strict=True):
        expected = tiny_run.treat(paths[0], "time_gated_hard", lam, seed=3, own_size=True)
        np.testing.assert_allclose(treated, expected.films[0], atol=1e-4)
        np.testing.assert_allclose(own, expected.own[0], atol=1e-4)
        np.testing.assert_allclose(first.mask, expected.mask[0], atol=1e-5)
    assert last.own.shape == (2, 40, 32)
    judge = tiny_run.classifier("independent")
    expected = [judge.predict(films[None])["Normal"][0] for films in (last.film, *last.treated)]
    np.testing.assert_allclose(last.normal["independent"], expected, atol=1e-5)
    with pytest.raises(UserError, match=r"lam is 601: expected 1 \.\.\. 600"):
        next(treatment.films(paths, (100, 601)))
