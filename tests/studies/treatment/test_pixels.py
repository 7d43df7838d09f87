"""A latent study beside a finished run in pixel space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.infer import finished
from cxrjax.studies.treatment import pixels


def test_a_pixel_run_of_other_films_is_refused_by_key(tmp_path: Path, monkeypatch):
    def config(size: int, root: str = "") -> ConfigDict:
        c = defaults.run()
        c.data = defaults.data("phantom", ("Normal", "Pneumonia"), size)
        c.phases = ("diffusion",)
        c.diffusion = defaults.diffusion({"name": "unet_tiny"}, defaults.optim("adamw", 1e-3), 10, 2, t_max=500)
        c.study = defaults.treatment(pixel_run=root, lambdas=(100, 400))
        return c

    def write(size: int) -> None:
        record = {"finished": True, "config": json.loads(json.dumps(config(size).to_dict()))}
        (tmp_path / "manifest.json").write_text(json.dumps(record))

    ours = config(64, str(tmp_path))
    write(32)
    with pytest.raises(UserError, match=r"data\.size is 32 there and 64 here"):
        pixels.check(ours)
    write(64)
    pixels.check(ours)
    ours.study.lambdas = (100, 600)
    with pytest.raises(UserError, match=r"600.*1 \.\.\. 500"):
        pixels.check(ours)
    ours.diffusion.net.base = 32
    with pytest.raises(UserError, match="net is"):
        finished.check_same(str(tmp_path), "diffusion", ours)
