"""Batches: every film once an epoch, exact resume, shards that partition, evaluation that drops nothing."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

from cxrjax.data import pipeline
from cxrjax.data.labels import select
from cxrjax.errors import UserError

CLASSES = ("Normal", "Effusion", "Mass")
AUGMENT = ("flip", "crop", "rotate")


@pytest.fixture(scope="module")
def data(fake, tmp_path_factory):
    return fake.prepared(tmp_path_factory.mktemp("cache"), train=22, val=10)


def train(data, **options):
    return pipeline.batches(data, "train", **{"classes": CLASSES, "batch_size": 4, "seed": 3, **options})


def take(iterator, count):
    out = list(itertools.islice(iterator, count))
    iterator.close()
    return out


def same(a, b):
    for name in ("image", "label", "valid", "index"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_each_epoch_has_every_film_once_in_a_new_order(data):
    order = np.concatenate([b.index for b in take(train(data), 11)]).reshape(2, 22)
    np.testing.assert_array_equal(np.sort(order), [np.arange(22)] * 2)
    assert (order[0] != order[1]).any()
    other = np.concatenate([b.index for b in take(train(data, seed=4), 5)])
    assert (other != order[0, :20]).any()


def test_batch_holds_the_films_it_names(data):
    (batch,) = take(train(data), 1)
    stored = pipeline.films(data, "train", batch.index)
    np.testing.assert_array_equal(batch.image, stored["image"])
    np.testing.assert_array_equal(batch.label, select(stored["labels"], data.columns, CLASSES))
    assert (batch.image.dtype, batch.label.dtype, batch.index.dtype) == (np.float32, np.float32, np.int32)
    assert batch.image.shape == (4, 16, 16, 1)
    assert 0 <= batch.image.min() <= batch.image.max() <= 1
    assert batch.valid.all()


@pytest.mark.parametrize("stop", [3, 7])
@pytest.mark.parametrize("threads", [0, 2])
def test_resume_equals_the_uninterrupted_run_with_augmentation(data, stop, threads):
    whole = take(train(data, augment=AUGMENT, threads=threads), 12)
    first = train(data, augment=AUGMENT, threads=threads)
    head = list(itertools.islice(first, stop))
    state = json.loads(json.dumps(first.get_state()))
    first.close()
    second = train(data, augment=AUGMENT, threads=threads)
    second.set_state(state)
    for a, b in zip(whole, head + take(second, 12 - stop), strict=True):
        same(a, b)


def test_set_state_turns_a_running_iterator_back(data):
    iterator = train(data, augment=AUGMENT)
    state = iterator.get_state()
    first = next(iterator)
    next(iterator)
    iterator.set_state(state)
    same(first, next(iterator))
    iterator.close()


def test_state_of_other_data_is_refused(data):
    state = take_state(train(data))
    for other in (train(data, seed=4), train(data, keep=np.arange(8))):
        with pytest.raises(UserError, match="other data"):
            other.set_state(state)


def take_state(iterator):
    next(iterator)
    state = iterator.get_state()
    iterator.close()
    return state


def test_augmentation_changes_films_and_differs_between_epochs(data):
    plain, changed = (take(train(data, augment=a), 11) for a in ((), AUGMENT))
    seen: dict[int, list] = {}
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(a.index, b.index)
        for i, before, after in zip(a.index, a.image, b.image, strict=True):
            assert (before != after).any()
            seen.setdefault(int(i), []).append(after)
    assert all((first != second).any() for first, second in seen.values())


def test_shards_are_the_blocks_of_the_one_shard_batch_in_order(data):
    """As `mesh.put` places them, so that a film has the same row, and the same noise and warp, in any pod."""
    whole = take(train(data, augment=AUGMENT), 8)
    halves = [take(train(data, augment=AUGMENT, shard=(i, 2)), 8) for i in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(batch.index, np.concatenate([first.index, second.index]))
        np.testing.assert_array_equal(batch.image, np.concatenate([first.image, second.image]))
        np.testing.assert_array_equal(batch.label, np.concatenate([first.label, second.label]))


def test_one_shard_resumes_what_two_began(data):
    whole = take(train(data, augment=AUGMENT), 6)
    half = train(data, augment=AUGMENT, shard=(1, 2))
    list(itertools.islice(half, 3))
    one = train(data, augment=AUGMENT)
    one.set_state(half.get_state())
    half.close()
    for a, b in zip(whole[3:], take(one, 3), strict=True):
        same(a, b)


@pytest.mark.parametrize(("size", "count"), [(4, 3), (10, 1), (16, 1), (1, 10)])
def test_eval_gives_each_film_once_and_marks_padding(data, size, count):
    got = list(pipeline.eval_batches(data, "val", classes=CLASSES, batch_size=size))
    assert len(got) == count
    assert all(b.image.shape == (size, 16, 16, 1) for b in got)
    valid = np.concatenate([b.valid for b in got]).astype(bool)
    index = np.concatenate([b.index for b in got])
    np.testing.assert_array_equal(index[valid], np.arange(10))
    assert (index[~valid] == -1).all()
    assert np.isnan(np.concatenate([b.label for b in got])[~valid]).all()
    stored = pipeline.films(data, "val")
    np.testing.assert_array_equal(np.concatenate([b.image for b in got])[valid], stored["image"])
    expected = select(stored["labels"], data.columns, CLASSES)
    np.testing.assert_array_equal(np.concatenate([b.label for b in got])[valid], expected)


def test_eval_shards_are_the_blocks_of_every_batch(data):
    whole = list(pipeline.eval_batches(data, "val", classes=CLASSES, batch_size=8))
    shards = [list(pipeline.eval_batches(data, "val", classes=CLASSES, batch_size=8, shard=(i, 4))) for i in range(4)]
    for batch, *parts in zip(whole, *shards, strict=True):
        for name in ("image", "label", "valid", "index"):
            np.testing.assert_array_equal(getattr(batch, name), np.concatenate([getattr(p, name) for p in parts]))


def test_eval_keep_and_limit(data):
    options = {"classes": CLASSES, "batch_size": 4, "keep": np.array([7, 1, 5, 3, 2])}
    got = list(pipeline.eval_batches(data, "val", limit=3, **options))
    assert np.concatenate([b.index for b in got]).tolist() == [7, 1, 5, -1]


def test_keep_of_normals_gives_only_normals(data):
    normal = select(data.table("train")["labels"], data.columns, ("Normal",))[:, 0]
    keep = np.flatnonzero(normal == 1)
    assert 4 < len(keep) < 22
    got = take(train(data, keep=keep), 6)
    assert all((b.label[:, 0] == 1).all() for b in got)
    assert set(np.concatenate([b.index for b in got])) == set(keep)


def test_batch_may_be_larger_than_the_split(data):
    (batch,) = take(train(data, batch_size=50), 1)
    assert np.bincount(batch.index, minlength=22).min() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("Efusion",)}, "did you mean 'Effusion'"),
        ({"augment": ("flop",)}, "did you mean 'flip'"),
        ({"batch_size": 5, "shard": (0, 2)}, "batch_size 5"),
        ({"keep": np.array([], int)}, "no film"),
        ({"keep": np.array([22])}, "22 films"),
        ({"keep": np.ones(22, bool)}, "positions"),
    ],
)
def test_mistakes_are_told(data, options, message):
    with pytest.raises(UserError, match=message):
        train(data, **options)
    with pytest.raises(UserError, match="no split 'test'"):
        pipeline.films(data, "test")


def test_all_parts_are_one_split_and_an_alias_is_no_part(fake, tmp_path):
    films = fake.prepared(tmp_path, train=5, val=3, test=4)
    films = dataclasses.replace(films, splits={**films.splits, "again": 4}, aliases={"again": "test"})
    parts = ("train", "val", "test")
    assert films.count("all") == 12
    keys = np.concatenate([films.table(part)["key"] for part in parts])
    np.testing.assert_array_equal(films.table("all")["key"], keys)
    whole = pipeline.films(films, "all")["image"]
    np.testing.assert_array_equal(whole, np.concatenate([pipeline.films(films, part)["image"] for part in parts]))
    stream = pipeline.batches(films, "all", classes=("Effusion",), batch_size=12, seed=0, threads=0)
    batch = next(stream)
    assert sorted(batch.index) == list(range(12))
    np.testing.assert_array_equal(batch.image, whole[batch.index])
    np.testing.assert_array_equal(batch.label[:, 0], films.table("all")["labels"][batch.index, 0])
    stream.close()
