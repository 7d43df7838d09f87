"""Films of one's own: a table as people write it becomes labels, parts and boxes, or an error that names the cell."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxrjax import defaults
from cxrjax.data import classes_of, films, labels, prepare
from cxrjax.data.sources import SOURCES
from cxrjax.errors import UserError


def config(tmp_path, text: str, classes=(), films=(), **changes):
    (tmp_path / "films.csv").write_text(text)
    for i, name in enumerate(films):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (20, 40), np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    given = {"table": str(tmp_path / "films.csv"), "cache": str(tmp_path / "cache"), **changes}
    return defaults.data("csv", classes, 16, **given)


def read(tmp_path, text, classes=(), films=("a.png", "b.png", "c.png"), **changes):
    return SOURCES["csv"](config(tmp_path, text, classes, films, **changes))


def by_key(source):
    return {record.key: record for record in source.records()}


def test_names_joined_in_one_column(tmp_path):
    text = "Path,Patient,Split,Label\na.png,1,train,Effusion|mass\nb.png,2.0,train,No Finding\nc.png,2,Test,\n"
    found = read(tmp_path, text, carve={"val": 0.0})
    assert (found.columns, found.classes) == (("Effusion", "Mass"), ("Effusion", "Mass"))
    records = by_key(found)
    np.testing.assert_array_equal(records["a.png"].labels, [1, 1])
    np.testing.assert_array_equal(records["b.png"].labels, [0, 0])
    assert np.isnan(records["c.png"].labels).all()  # an empty cell says nothing
    assert {key: (r.split, r.patient) for key, r in records.items()} == {
        "a.png": ("train", "1"), "b.png": ("train", "2"), "c.png": ("test", "2"),
    }  # fmt: skip


def test_exclusive_names_are_learned_with_normal_and_spelled_as_the_config_has_them(tmp_path):
    text = "path,label\na.png,NORMAL\nb.png,covid19\nc.png,lung_opacity\n"
    assert read(tmp_path, text).classes == ("Normal", "COVID-19", "lung_opacity")
    found = read(tmp_path, text, ("Lung Opacity", "Normal"))
    assert found.columns == ("COVID-19", "Lung Opacity")
    with pytest.raises(UserError, match=r"data\.classes has 'Mass'.*it has COVID-19, lung_opacity: .*\"\(\)\""):
        classes_of(config(tmp_path, text, ("Normal", "Mass")))


@pytest.mark.parametrize(("policy", "value"), [("mask", np.nan), ("zero", 0), ("one", 1)])
def test_a_column_a_class_and_what_uncertain_is(tmp_path, policy, value):
    text = ",path,note,Edema,Mass\n0,a.png,7,1,-1\n1,b.png,1,0.0,\n2,c.png,0,nan,1.0\n"
    found = read(tmp_path, text, uncertain=policy)
    assert found.columns == ("Edema", "Mass")
    records = by_key(found)
    np.testing.assert_array_equal(records["a.png"].labels, np.float32([1, value]))
    np.testing.assert_array_equal(records["b.png"].labels, [0, np.nan])
    np.testing.assert_array_equal(records["c.png"].labels, [np.nan, 1])
    assert found.warnings == ("columns of films.csv that are not read: note",)
    assert policy in found.label_version


def test_a_column_of_normal_says_that_the_others_are_absent(tmp_path):
    text = "path,No Finding,Edema,Mass\na.png,1,,\nb.png,,1,\nc.png,0,0,0\n"
    found = read(tmp_path, text)
    values = {key: r.labels for key, r in by_key(found).items()}
    assert found.columns == ("Normal", "Edema", "Mass")
    np.testing.assert_array_equal(values["a.png"], [1, 0, 0])
    np.testing.assert_array_equal(values["b.png"], [0, 1, np.nan])
    np.testing.assert_array_equal(values["c.png"], [0, 0, 0])  # ill, of what the table does not name
    np.testing.assert_array_equal(
        labels.select(np.stack([*values.values()]), found.columns, ("Normal",))[:, 0], [1, 0, 0]
    )


def test_columns_by_other_names_and_what_is_known_of_patients_reaches_the_table(tmp_path):
    text = "file,who,years,gender,ViewPosition,clinic,d\na.png,x,058Y,Female,pa,,1\nb.png,y,30,M,AP,Here,0\n"
    text += "c.png,z,,,,,0\n"
    columns = {"path": "file", "patient": "who", "age": "years", "sex": "GENDER", "view": "ViewPosition",
               "site": "clinic", "findings": ("d",)}  # fmt: skip
    data = config(
        tmp_path, text, ("Normal", "d"), ("a.png", "b.png", "c.png"), columns=columns, carve={"val": 0.0, "test": 0.0}
    )
    table = prepare(data).table("train")
    np.testing.assert_array_equal(table["age"], np.float32([58, 30, np.nan]))
    assert [table[name].tolist() for name in ("patient", "sex", "view", "site")] == [
        ["x", "y", "z"], ["F", "M", ""], ["PA", "AP", ""], ["", "Here", ""],
    ]  # fmt: skip
    assert films(prepare(data), "train")["site"].tolist() == ["", "Here", ""]
    with pytest.raises(UserError, match=r"no column 'whom' \(data\.columns\.patient.*did you mean 'who'"):
        read(tmp_path, text, columns={**columns, "patient": "whom"})


def test_what_is_known_of_patients_leaves_the_fingerprint(tmp_path):
    def fingerprint(age):
        text = f"path,age,label\na.png,{age},Mass\nb.png,1,Normal\nc.png,1,Mass\n"
        data = config(tmp_path, text, (), ("a.png", "b.png", "c.png"), carve={"val": 0.0, "test": 0.0})
        found = prepare(data)
        return found.fingerprint, found.table("train")["age"][0]

    (one, first), (other, second) = fingerprint(40), fingerprint(50)
    assert (one, first, second) == (other, 40, 50)


def test_paths_start_from_the_table_or_the_root_and_a_film_listed_again_counts_once(tmp_path):
    text = "path,label\n./in/a.png,Mass\nb.png,Normal\nin\\a.png,Mass\n"
    (tmp_path / "root").mkdir()
    found = read(tmp_path, text, films=("root/in/a.png", "b.png"), root=str(tmp_path / "root"))
    assert set(by_key(found)) == {"in/a.png", "b.png"}
    assert found.warnings == ("films.csv lists 1 films a second time; each counts once",)


def test_all_faults_of_a_table_are_found_before_films_are_read(tmp_path):
    text = "path,patient,label\na.png,1,Mass\nb.png,2,Normal|Mass\nc.png,3,Normal\na.png,1,Normal\n"
    text += "gone1.png,4,Mass\nC.PNG,5,Mass\n"
    data = config(tmp_path, text, (), ("a.png", "b.png", "c.png"))
    found = SOURCES["csv"](data)
    assert found.faults["missing"] == ("gone1.png", "C.PNG")
    assert found.faults["listed twice and differently"] == ("a.png: label 'Mass' and 'Normal'",)
    assert found.faults["labeled Normal and with a finding"] == ("b.png",)
    with pytest.raises(UserError, match=r"2 missing \(gone1\.png; C\.PNG\), 1 listed twice .*, 1 labeled Normal"):
        prepare(data)
    here = SOURCES["csv"](config(tmp_path, "path,label\na.png,Mass\nx.png,Normal\n", present_only=True))
    assert not any(here.faults.values())
    assert here.warnings == ("1 of the 2 films listed are not there and were left out",)
    with pytest.raises(UserError, match=r"none of the 1 films listed .*'a\.png' is there, which differs in its suffix"):
        read(tmp_path, "path,label\na.jpg,Mass\n")


def test_missing_parts_are_carved_by_patient(tmp_path):
    names = [f"{i}.png" for i in range(40)]
    text = "path,patient,label\n" + "".join(
        f"{n},p{i // 2},{'Mass' if i % 4 < 2 else 'Normal'}\n" for i, n in enumerate(names)
    )
    records = by_key(read(tmp_path, text, films=names, carve={"val": 0.2, "test": 0.2}))
    parts = {split: {r.patient for r in records.values() if r.split == split} for split in ("train", "val", "test")}
    assert [len(parts[split]) for split in parts] == [12, 4, 4]
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,split\na.png,Mass,dev\n", "split of a.png is 'dev': expected train"),
        ("path,label,age\na.png,Mass,old\n", "age of a.png: 'old' is no age"),
        ("path,note\na.png,hello\n", r"has no labels: .*data\.columns\.label"),
        ("file,label\na.png,Mass\n", r"no column 'path' \(data\.columns\.path"),
        ("path,label\n", "lists no film"),
        ("path,Mass,mass\na.png,1,1\n", r"several columns of Mass: 'Mass', 'mass'.*data\.columns\.findings"),
    ],
)
def test_what_a_table_cannot_say_is_told(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_cell_of_a_named_column_is_checked(tmp_path):
    with pytest.raises(UserError, match=r"b\.png has '2' in Mass; expected 1, 0, -1 or nothing"):
        read(tmp_path, "path,Mass\na.png,1\nb.png,2\n", columns={"findings": ("mass",)})


@pytest.mark.parametrize(
    ("header", "cells"),
    [("path,finding,x0,y0,x1,y1", "10,5,30,20"), ("path,label,x,y,width,height", "10,5,20,15"),
     ("path,finding,x_min,y_min,x_max,y_max", "0.25,0.25,0.75,1")],
)  # fmt: skip
def test_boxes_of_any_common_form_are_fractions_of_the_film(tmp_path, header, cells):
    (tmp_path / "boxes.csv").write_text(f"{header}\na.png,mass,{cells}\n".replace("a.png,mass", "./a.png,mass"))
    text = "path,label\na.png,Mass\nb.png,Normal\nc.png,Normal\n"
    found = read(tmp_path, text, boxes=str(tmp_path / "boxes.csv"))
    assert by_key(found)["a.png"].boxes == (("Mass", 0.25, 0.25, 0.75, 1.0),)  # of 40 x 20 pixels
    (tmp_path / "boxes.csv").write_text(f"{header}\nz.png,Mass,{cells}\n")
    with pytest.raises(UserError, match=r"1 boxes of films that films\.csv does not list, as z\.png"):
        read(tmp_path, text, boxes=str(tmp_path / "boxes.csv"))


def test_open_classes_are_those_of_the_table(tmp_path):
    data = config(tmp_path, "path,label\na.png,Mass\nb.png,Normal\n", (), ("a.png", "b.png"))
    assert classes_of(data) == ("Normal", "Mass")
    data.classes = ("Mass",)
    assert classes_of(data) == ("Mass",)
