"""Any films, a folder a class: the classes are the folders, parts are carved by patient where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cxrjax import data, defaults
from cxrjax.data import external
from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError


def write(root, *names):
    rng = np.random.default_rng(len(names))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8)).save(root / name)


def section(tmp_path, **changes) -> ConfigDict:
    options = {"root": str(tmp_path / "films"), "cache": str(tmp_path / "cache"), **changes}
    return defaults.data("folder", options.pop("classes", ()), 32, **options)


@pytest.fixture
def plain(tmp_path):
    """Two folders of twenty films, two of each patient."""
    names = [f"{kind}/p{i // 2}{kind[0]}_{i}.png" for kind in ("sick", "Well") for i in range(20)]
    write(tmp_path / "films", *names)
    rows = "\n".join(f"{name},{name.split('/')[1].split('_')[0]}" for name in names)
    (tmp_path / "films" / "who.csv").write_text(f"path,patient\n{rows}\n")
    return tmp_path


def test_classes_are_the_folders_and_parts_are_carved_of_both(plain):
    config = section(plain, carve={"val": 0.2, "test": 0.3})
    assert data.classes_of(config) == ("sick", "Well")
    films = data.prepare(config)
    assert films.columns == ("sick", "Well")
    assert films.splits == {"train": 20, "val": 8, "test": 12}
    for part in films.splits:
        table = films.table(part)
        assert (table["labels"].sum(axis=1) == 1).all()
        assert [films.columns[i] for i in table["labels"].argmax(axis=1)] == [key.split("/")[0] for key in table["key"]]
        assert abs(table["labels"].mean(axis=0) - 0.5).max() < 0.01
    assert any(
        "40 of 40 films have no patient id and count as patients of their own" in said for said in films.warnings
    )
    assert any(said == "1 files were left out: 1 .csv in ./" for said in films.warnings)


def test_a_table_tells_patients_who_then_stay_together(plain):
    films = data.prepare(section(plain, patients_csv=str(plain / "films" / "who.csv"), carve={"val": 0.2, "test": 0.2}))
    patients = [set(films.table(part)["patient"]) for part in films.splits]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 20
    assert any("who.csv: 40 of its 40 rows are of films here" in said for said in films.warnings)
    assert not any("no patient id" in said for said in films.warnings)


def test_parts_that_are_there_are_kept_and_what_is_missing_is_carved(tmp_path):
    write(tmp_path / "films", *(f"train/{kind}/{i}.png" for kind in "ab" for i in range(10)))
    write(tmp_path / "films", "test/A/x.jpg", "test/b/deep/y.bmp", "notes/z.png")
    source = SOURCES["folder"](section(tmp_path, carve={"val": 0.3, "test": 0.5}))
    assert source.splits == {"train": 14, "val": 6, "test": 2}
    assert {r.key for r in source.records() if r.split == "test"} == {"test/A/x.jpg", "test/b/deep/y.bmp"}
    assert source.columns == ("a", "b")  # whatever the case
    assert source.warnings == ("1 files were left out: 1 .png in notes/",)


def test_classes_are_spelled_as_the_config_does_and_others_are_told(plain):
    source = SOURCES["folder"](section(plain, classes=("Well", "Sick")))
    assert source.columns == ("Sick", "Well")
    assert data.classes_of(section(plain, classes=("Well", "Sick"))) == ("Well", "Sick")
    films = data.prepare(section(plain))
    with pytest.raises(UserError, match=r"class 'Ill' is not a label of this data set \(it has sick, Well\)"):
        data.labels.select(films.table("train")["labels"], films.columns, ("Ill", "Well"))


def test_what_is_no_folder_of_classes_is_told_with_what_was_expected(tmp_path):
    with pytest.raises(
        UserError, match=r"data\.root is empty: give the path of a folder with one folder of films a class"
    ):
        data.classes_of(section(tmp_path, root=""))
    (tmp_path / "films").mkdir()
    for call in (data.classes_of, SOURCES["folder"]):
        with pytest.raises(UserError, match=r"expected (two or more: )?one folder a class, or train/ and test/"):
            call(section(tmp_path))
    write(tmp_path / "films", "only/a.png")
    with pytest.raises(UserError, match=r"films in 1 folders \(only\)"):
        data.classes_of(section(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot read the films of folder: .*file: Not a directory"):
        data.classes_of(section(tmp_path, root=str(tmp_path / "file")))
    with pytest.raises(UserError, match=r"data\.classes is empty: name the classes; only folder"):
        data.classes_of(defaults.data("phantom", (), 32))


def test_films_from_elsewhere_may_be_folders_of_other_names(plain):
    write(plain / "there", *(f"test/{kind}/{i}.png" for kind in ("ILL", "well") for i in range(3)))
    config = defaults.run()
    config.data = section(plain, classes=("sick", "Well"))
    pairs = (("sick", "ILL"), ("Well", "Well"))
    config.data.external = {"there": {"name": "folder", "root": str(plain / "there"), "class_map": pairs}}
    films = external.prepare(config)["there"]
    taken = external.take(config, "there", films, exclusive=True)
    assert taken.label.sum(axis=0).tolist() == [3, 3]
