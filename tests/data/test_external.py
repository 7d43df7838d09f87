"""Films from elsewhere: read whole as test films, their classes by our names, and none that the run has itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrjax import data, defaults
from cxrjax.data import external
from cxrjax.errors import UserError

CLASSES = ("Normal", "Pneumonia")
ADULTS = {"name": "covid3", "root": "there", "manifest": "films.csv"}


def config(cache: Path, classes: tuple[str, ...] = CLASSES, **sets: dict[str, Any]) -> Any:
    """Four phantoms of 16 px, tried on other films."""
    c = defaults.run()
    c.data = defaults.data("phantom", classes, 16, cache=str(cache), num={"train": 2, "val": 1, "test": 1})
    for name, values in sets.items():
        c.data.external[name] = {**values}
    return c


def film(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20), np.uint8)).save(path)


@pytest.fixture(scope="module")
def adults(tmp_path_factory):
    """Seven films of three classes, listed in a CSV: two normal, two of pneumonia, three of COVID-19."""
    root = tmp_path_factory.mktemp("adults")
    kinds = ("normal", "normal", "pneumonia", "pneumonia", "COVID-19", "COVID-19", "COVID-19")
    lines = ["path,label,patient", *(f"f{i}.png,{kind},p{i}" for i, kind in enumerate(kinds))]
    (root / "films.csv").write_text("\n".join(lines))
    for i in range(len(kinds)):
        film(root / f"f{i}.png", i)
    return root


def test_a_tree_with_nothing_but_a_test_folder_is_read_whole(tmp_path):
    for i in range(3):
        film(tmp_path / f"kids/test/NORMAL/IM-000{i}-0001.png", i)
        film(tmp_path / f"kids/test/PNEUMONIA/person{i}_virus_1.png", 9 + i)
    c = config(tmp_path / "films", kids={"name": "kermany", "root": str(tmp_path / "kids")})
    found = external.prepare(c)["kids"]
    assert found.splits == {"test": 6}
    taken = external.take(c, "kids", found, exclusive=True)
    assert taken.classes == CLASSES
    assert taken.label.tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert taken.words == ""


def test_every_part_of_a_set_is_test_films_and_none_is_dropped(tmp_path):
    other = {"name": "phantom", "seed": 5, "num": {"train": 3, "val": 2, "test": 4}, "gamma": (0.5, 0.7)}
    c = config(tmp_path, other=other)
    found = external.prepare(c)["other"]
    assert found.splits == {"test": 9}
    assert found.size == 16
    assert {key.split("-")[0] for key in found.table("test")["key"]} == {"train", "val", "test"}
    assert external.apart(c, data.prepare(c.data), {"other": found}) == []
    c.data.external.other.gamma = (1.0, 1.0)
    plain = external.prepare(c)["other"]
    dark, light = (data.films(films, "test")["image"].mean() for films in (plain, found))
    assert light > 1.2 * dark  # a power below 1 brightens


def test_films_of_classes_that_are_not_mapped_are_left_out_and_said(adults, tmp_path):
    c = config(tmp_path, adults={**ADULTS, "root": str(adults)})
    found = external.prepare(c)["adults"]
    taken = external.take(c, "adults", found, exclusive=True)
    assert taken.label.sum(axis=0).tolist() == [2, 2]
    assert taken.words == "left out: 3 of none of these classes (COVID-19)"
    kept = found.table("test")["key"][taken.keep]
    assert sorted(kept) == ["f0.png", "f1.png", "f2.png", "f3.png"]
    # Of findings that go together, a film without any of ours is a negative.
    whole = external.take(c, "adults", found, exclusive=False)
    assert len(whole.keep) == 7
    assert whole.label[:, 1].sum() == 2


def test_classes_go_by_the_map_and_one_that_is_absent_is_absent(adults, tmp_path):
    pairs = (("Healthy", "Normal"), ("Opacity", "Pneumonia"), ("Opacity", "COVID-19"), ("Tuberculosis", ""))
    c = config(tmp_path, ("Opacity", "Tuberculosis", "Healthy"), far={**ADULTS, "root": str(adults)})
    c.data.external.far.class_map = pairs
    found = external.prepare(c)["far"]
    taken = external.take(c, "far", found, exclusive=True)
    assert taken.classes == ("Opacity", "Healthy")
    assert taken.label.sum(axis=0).tolist() == [5, 0, 2]
    findings = external.take(c, "far", found, exclusive=False)
    assert np.isnan(findings.label[:, 1]).all()
    np.testing.assert_array_equal(findings.label[:, [0, 2]], taken.label[:, [0, 2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_map": (("Normal", "Normal"),)}, r"class_map says nothing of Pneumonia: add \('Pneumonia', what"),
        ({"class_map": (("Normal", "Normal"), ("Pneumona", "x"))}, "'Pneumona'.*did you mean 'Pneumonia'"),
        ({"class_map": (("Normal", "Normal"), ("Pneumonia", "Pneumona"))}, "'Pneumona', which 'Pneumonia' .*did you"),
        ({"class_map": (("Normal", "Pneumonia"), ("Pneumonia", "Pneumonia"))}, "gives 'Pneumonia' twice"),
        ({"class_map": (("Normal", ""), ("Pneumonia", ""))}, "every class of this run as absent"),
        ({"class_map": (("Normal", "Normal"), ("Pneumonia", ""), ("Pneumonia", "Pneumonia"))}, "both absent"),
        ({"class_map": ("Normal", "Pneumonia")}, r"expected pairs \(ours, theirs\)"),
        ({"name": "kermani"}, r"data\.external\.far\.name is 'kermani'.*did you mean 'kermany'"),
        ({"rot": "x"}, r"data\.external\.far\.rot: no key.*did you mean 'root'"),
        ({"carve": {"tset": 0.1}}, r"data\.external\.far: carve\.tset is none of"),
        ({"size": 32}, "size is 32, and the run's films have 16"),
        ({"root": "/no/such"}, r"data\.external\.far: data\.root '/no/such' does not exist"),
    ],
)
def test_mistakes_are_told_by_the_sets_name_before_any_film_is_read(adults, tmp_path, change, message):
    c = config(tmp_path, far={**ADULTS, "root": str(adults), **change})
    with pytest.raises(UserError, match=message):
        external.prepare(c)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_a_set_that_is_no_section_is_told(tmp_path):
    c = config(tmp_path)
    c.data.external.far = "/films"
    with pytest.raises(UserError, match=r"data\.external\.far is '/films': expected a section"):
        external.check(c)


def test_a_class_that_is_no_label_there_is_told(adults, tmp_path):
    c = config(tmp_path, ("Normal", "Effusion"), far={**ADULTS, "root": str(adults)})
    with pytest.raises(UserError, match=r"'Effusion'.*no label there: it has Pneumonia, COVID-19 and Normal"):
        external.prepare(c)


def test_a_set_of_which_no_film_is_left_is_refused(adults, tmp_path):
    pairs = (("Normal", ""), ("Tuberculosis", "Pneumonia"))
    c = config(tmp_path, ("Normal", "Tuberculosis"), far={**ADULTS, "root": str(adults), "class_map": pairs})
    found = external.prepare(c)["far"]
    none = SimpleNamespace(columns=found.columns, table=lambda part: {"labels": np.array([[0.0, 1.0]] * 4)})
    with pytest.raises(UserError, match=r"no film is left to test on \(4 of none of these classes \(COVID-19\)\)"):
        external.take(c, "far", none, exclusive=True)  # type: ignore[arg-type]


def test_a_film_that_is_in_both_sets_is_refused_and_a_like_one_is_told(adults, tmp_path):
    c = config(tmp_path / "films", far={**ADULTS, "root": str(adults)})
    outside = external.prepare(c)
    c.data.update({"name": "kermany", "root": str(tmp_path / "kids"), "carve": {"val": 0.0, "test": 0.0}})
    film(tmp_path / "kids/train/NORMAL/IM-0001-0001.png", 77)
    film(tmp_path / "kids/train/PNEUMONIA/person1_virus_1.png", 78)
    assert external.apart(c, data.prepare(c.data), outside) == []
    with Image.open(adults / "f2.png") as near:  # brighter: of the same signs, not of the same pixels
        near.point(lambda v: 40 + 0.8 * v).save(tmp_path / "kids/train/PNEUMONIA/person2_virus_1.png")
    (said,) = external.apart(c, data.prepare(c.data), outside)
    assert said.startswith("1 films of data.external.far look like one of the run's own")
    assert "person2_virus_1.png" in said
    film(tmp_path / "kids/train/PNEUMONIA/person3_virus_1.png", 2)
    with pytest.raises(UserError, match=r"1 films of data\.external\.far are among the run's own.*person3_virus"):
        external.apart(c, data.prepare(c.data), outside)


def test_patients_of_one_name_in_one_source_are_told(tmp_path):
    c = config(tmp_path, again={"name": "phantom", "num": {"train": 0, "val": 0, "test": 3}, "gamma": (0.5, 0.5)})
    (said,) = external.apart(c, data.prepare(c.data), external.prepare(c))
    assert said.startswith("1 patients of data.external.again are called as patients of the run's own films")
