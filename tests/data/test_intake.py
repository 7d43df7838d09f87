"""What is counted, left out or told while films come in: depth, blank films, edited files, boxes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxrjax.data import folders, pipeline
from cxrjax.data.preparation import materialize
from cxrjax.data.sources.base import Record, digest
from cxrjax.errors import UserError


def _on_disk(fake, folder, films: dict[str, np.ndarray]):
    """A source of PNG files: arrays by "split/key"."""
    folder.mkdir(exist_ok=True)
    records = []
    for i, (name, film) in enumerate(films.items()):
        split, key = name.split("/")
        path = folder / f"{key}.png"
        Image.fromarray(film).save(path)
        records.append(Record(key, split, f"{split}-p{i}", np.array([i % 2, 0], np.float32), path))
    stamps = folders.stamps(list(films), [record.film for record in records])
    return fake.source(records)._replace(fingerprint=digest({}, stamps))


def test_one_depth_for_all_16_bit_films_and_it_is_recorded(fake, tmp_path):
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 4096, (16, 16)).astype(np.uint16)
    bright[0, 0] = 4095
    films = {"train/bright": bright, "train/dark": bright // 5, "val/eight": (bright // 16).astype(np.uint8)}
    source = _on_disk(fake, tmp_path / "films", films)
    data = materialize(source, tmp_path / "cache", size=16, limit=0.0)
    assert data.bit_depth == 12
    read = pipeline.films(data, "train")["image"][..., 0]
    np.testing.assert_allclose(read, np.stack([bright, bright // 5]) / 4095, atol=0.003)
    assert any("12 bits" in warning and "10 bits for 1, 12 bits for 1" in warning for warning in data.warnings)
    given = materialize(source, tmp_path / "cache", size=16, limit=0.0, bit_depth=14)
    assert given.bit_depth == 14
    assert given.fingerprint != data.fingerprint
    np.testing.assert_allclose(pipeline.films(given, "train")["image"][0, ..., 0], bright / 16383, atol=0.003)
    narrow = materialize(source, tmp_path / "cache", size=16, limit=0.5, bit_depth=10)
    assert (narrow.quarantined, narrow.table("train")["key"].tolist()) == (1, ["dark"])


def test_films_of_8_bits_have_no_depth(fake, tmp_path):
    assert fake.prepared(tmp_path, train=4).bit_depth == 0


def test_blank_films_are_counted_by_class_and_left_out_on_demand(fake, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (6, 16, 16), np.uint8)
    clear = np.stack([noise[4]] * 3 + [np.zeros((16, 16), np.uint8)], -1)  # alpha 0 everywhere
    films = {
        "train/a": np.zeros((16, 16), np.uint8), "train/b": np.full((16, 16), 77, np.uint8), "train/c": noise[0],
        "train/d": clear, "val/e": noise[2], "test/f": np.zeros((16, 16), np.uint16),  "test/g": noise[3],
    }  # fmt: skip
    source = _on_disk(fake, tmp_path / "films", films)
    data = materialize(source, tmp_path / "cache", size=16, limit=0.0)  # and no twins, though some are alike
    (warning,) = (w for w in data.warnings if "blank" in w)
    assert "4 films are blank, one gray throughout: 3 of Effusion, 1 of Normal" in warning
    left = materialize(source, tmp_path / "cache", size=16, limit=0.9, blank="quarantine")
    assert (left.splits, left.quarantined) == ({"train": 1, "val": 1, "test": 1}, 4)
    assert "a,blank: every pixel is 0" in (left.directory / "quarantine.csv").read_text()


def test_a_film_edited_in_place_is_prepared_again_and_a_touched_one_is_the_same(fake, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
    films = {"train/a": noise[0], "val/b": noise[1]}

    def prepared():
        return materialize(_on_disk(fake, tmp_path / "films", films), tmp_path / "cache", size=16, limit=0.0)

    first = prepared()
    touched = prepared()  # the files were written anew
    assert (touched.directory != first.directory, touched.fingerprint) == (True, first.fingerprint)
    films["train/a"] = noise[0].T
    edited = prepared()
    np.testing.assert_allclose(pipeline.films(edited, "train")["image"][0, ..., 0], noise[0].T / 255, atol=1e-6)
    assert edited.fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "box", [(0.1, 0.1, 0.1, 0.5), (0.1, float("nan"), 0.5, 0.5), (0.5, 0.1, 0.2, 0.5), (0, 0, float("inf"), 1)]
)
def test_a_box_that_encloses_nothing_stops_before_a_film_is_read(fake, tmp_path, box):
    films = [r._replace(film=tmp_path / "missing.png") for r in fake.records({"train": 3})]
    films[1] = films[1]._replace(boxes=(("Mass", 0.1, 0.1, 0.5, 0.5), ("Mass", *box)))
    with pytest.raises(UserError, match=r"train1: the box of Mass has the corners .*table of boxes"):
        materialize(fake.source(films), tmp_path / "cache", size=16, limit=0.0)


def test_mending_a_box_leaves_the_fingerprint_of_a_run(fake, tmp_path):
    def prepared(corner: float):
        films = [r._replace(boxes=(("Mass", 0.1, 0.1, corner, 0.5),)) for r in fake.records({"train": 3})]
        changed = fake.source(films)._replace(fingerprint=str(corner))
        return materialize(changed, tmp_path, size=16, limit=0.0)

    first, mended = prepared(0.5), prepared(0.6)
    assert mended.boxes("train")[1] == [("Mass", 0.1, 0.1, 0.6, 0.5)] != first.boxes("train")[1]
    assert mended.fingerprint == first.fingerprint
    assert mended.boxes_digest() != first.boxes_digest() == prepared(0.5).boxes_digest()
    films = fake.records({"train": 3})
    films[0] = films[0]._replace(labels=1 - films[0].labels)
    relabeled = materialize(fake.source(films)._replace(fingerprint="x"), tmp_path, size=16, limit=0.0)
    assert relabeled.fingerprint != first.fingerprint
