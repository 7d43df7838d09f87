"""Films of one's own go into every classifier and diffusion by flags alone: all that is checked before a training."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax import data, phases
from cxrjax.data import phantom
from cxrjax.studies import STUDIES
from cxrjax.train import mesh as meshes

FOLDER = Path(__file__).resolve().parents[2] / "configs"
EXCLUSIVE = ("kaggle4", "phase_loss", "pneumonia_study", "medmnist", "ddpm_cam", "latent_ddpm_cam", "anoddpm")


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, Path]:
    """A table of exclusive names, with boxes, and one of a column a finding."""
    root = tmp_path_factory.mktemp("own")
    rows, columns, boxes = ["path,patient,label"], ["path,patient,Effusion,Mass"], ["path,finding,x0,y0,x1,y1"]
    for i in range(90):
        sick, name = i % 3 == 0, f"{i}.png"
        Image.fromarray(phantom.render(4000 + i, 32, {"Mass": 0.8} if sick else {}).image).save(root / name)
        rows.append(f"{name},{i // 2},{'Mass' if sick else 'Normal'}")
        columns.append(f"{name},{i // 2},{i % 2},{int(sick)}")
        boxes += [f"{name},Mass,4,4,20,20"] if sick else []
    for name, lines in (("exclusive", rows), ("columns", columns), ("boxes", boxes)):
        (root / f"{name}.csv").write_text("\n".join(lines))
    return {name: root / f"{name}.csv" for name in ("exclusive", "columns", "boxes")}


QUICK = ("ddpm_cam", "fcn_densenet", "kaggle4")  # a config of each kind; the others take as long again


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted({*EXCLUSIVE, "fcn_densenet"})
    ],
)
def test_a_table_is_all_that_a_config_needs(name, tables, tmp_path) -> None:
    config = runpy.run_path(str(FOLDER / f"{name}.py"))["get_config"]("smoke").lock()
    flags = {
        "name": "csv", "table": str(tables["exclusive" if name in EXCLUSIVE else "columns"]), "classes": (),
        "cache": str(tmp_path), "boxes": str(tables["boxes"]),
    }  # fmt: skip
    config.data.update(flags | ({"carve": {"val": 0.2, "test": 0.3}}))
    config = data.with_classes(config)
    assert tuple(config.data.classes) == (("Normal", "Mass") if name in EXCLUSIVE else ("Effusion", "Mass"))
    STUDIES[config.study.name].check(config)
    mesh = meshes.make()
    phases.check(config, mesh)
    films = data.prepare(config.data)
    phases.check_films(config, films, mesh.size)
    assert STUDIES[config.study.name].check_films(config, films) is not None
    assert np.isfinite(films.table("train")["labels"]).all()
