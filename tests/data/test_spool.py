"""Records in order through one file, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from cxrjax import data, defaults
from cxrjax.data.spool import Spool


def test_records_come_back_in_order_and_leave_nothing(tmp_path):
    spool = Spool(dirpath=tmp_path / "new", hash_salt="x")
    records = [bytes([i]) * (i * 100) for i in range(20)]
    for i, record in enumerate(records):
        spool.add(i, record)
    assert (spool.num_examples, spool.size, spool.bucket_lengths) == (20, sum(map(len, records)), [20])
    assert list(spool) == list(enumerate(records))
    assert list((tmp_path / "new").iterdir()) == []


def test_a_record_out_of_its_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected number 0, got 3"):
        Spool(dirpath=tmp_path).add(3, b"")


def test_a_split_larger_than_the_shufflers_memory_needs_no_tensorflow(tmp_path, monkeypatch):
    """tfds spills a split of more than 1000 MiB through TensorFlow, which is not installed."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    num = {"train": 9, "val": 2, "test": 2}
    films = data.prepare(defaults.data("phantom", ("Normal", "Pneumonia"), 16, cache=str(tmp_path), num=num))
    found = data.films(films, "train")
    assert found["key"].tolist() == films.table("train")["key"].tolist()
    assert len(np.unique(found["image"], axis=0)) == 9
