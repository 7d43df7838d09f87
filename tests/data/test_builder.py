"""Records are written as they come, into files of bounded size, and read back in that order."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds

from cxrjax import data, defaults
from cxrjax.data import builder


def test_a_split_of_several_files_keeps_its_order(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD", 4 * 5 * 16 * 16)  # four phantoms, each a film, its twin and the truth
    num = {"train": 10, "val": 2, "test": 4}
    films = data.prepare(defaults.data("phantom", ("Normal", "Pneumonia"), 16, cache=str(tmp_path), num=num))
    names = [path.name for path in (films.directory / "films" / builder.VERSION).glob("films-train*")]
    assert len(names) == 3
    found = data.films(films, "train")
    assert found["key"].tolist() == films.table("train")["key"].tolist()
    assert len(np.unique(found["image"], axis=0)) == 10
    stored = builder.read(films.directory, "train")
    assert [record["position"] for record in (stored[i] for i in range(10))] == list(range(10))


def test_nothing_but_the_records_is_left(tmp_path, capsys):
    num = {"train": 3, "val": 2, "test": 2}
    films = data.prepare(defaults.data("phantom", ("Normal", "Pneumonia"), 16, cache=str(tmp_path), num=num))
    place = films.directory / "films" / builder.VERSION
    assert {path.name.partition(".")[0] for path in place.iterdir()} == {
        "dataset_info", "features", "films-train", "films-val", "films-test",
    }  # fmt: skip
    assert capsys.readouterr().out == ""


def test_a_record_is_the_same_bytes_in_every_process():
    """Protobuf orders a map's fields by a hash of each process; here by the alphabet."""
    names = [f"field_{i:02d}" for i in range(20)]
    features = tfds.features.FeaturesDict({name: tfds.features.Scalar(np.float32) for name in names})
    serializer = builder.Serializer(features.get_serialized_info())
    for order in (names, names[::-1]):
        raw = serializer.serialize_example({name: np.float32(i) for i, name in enumerate(order)})
        places = [raw.index(name.encode()) for name in names]
        assert places == sorted(places)
