"""Phase features stored beside the films, and epochs in which every class is as frequent."""

from __future__ import annotations

import itertools
import json
import sys
from types import ModuleType

import numpy as np
import pytest

from cxrjax.data import balancing, pipeline
from cxrjax.data.preparation import materialize
from cxrjax.errors import UserError


@pytest.fixture
def stand_in(monkeypatch):
    """Three simple channels in place of the phase features, and the shapes that were asked for."""
    calls = []

    def enhance(images, gain=1.0):
        calls.append(images.shape)
        assert images.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
        out = np.stack([images * gain, 1 - images, images**2], -1)
        out[images[:, 0, 0] == 1] = np.nan  # a film that cannot be enhanced
        return out

    module = ModuleType("cxrjax.ops.enhance")
    module.enhance = enhance
    monkeypatch.setitem(sys.modules, "cxrjax.ops.enhance", module)
    return calls


def films(fake, count=11):
    return [r._replace(film=np.minimum(r.film, 200)) for r in fake.records({"train": count, "val": 3})]


def test_features_are_stored_beside_each_film(fake, tmp_path, stand_in):
    given = films(fake)
    plain = materialize(fake.source(given), tmp_path, size=16, limit=0.0)
    data = materialize(fake.source(given), tmp_path, size=16, limit=0.0, enh={})
    assert (plain.has_enh, data.has_enh) == (False, True)
    assert set(stand_in) == {(8, 16, 16)}  # one shape, one compilation
    for split in ("train", "val"):
        read = pipeline.films(data, split)
        image = read["image"][..., 0]
        np.testing.assert_allclose(read["enh"], np.stack([image, 1 - image, image**2], -1), atol=0.51 / 255)
        np.testing.assert_array_equal(image, pipeline.films(plain, split)["image"][..., 0])
    assert pipeline.films(plain, "train")["enh"] is None
    other = materialize(fake.source(given), tmp_path, size=16, limit=0.0, enh={"gain": 0.5})
    assert len({plain.fingerprint, data.fingerprint, other.fingerprint}) == 3
    halves = pipeline.films(other, "train")["enh"][..., 0]
    np.testing.assert_allclose(halves, pipeline.films(data, "train")["image"][..., 0] / 2, atol=0.51 / 255)


def test_film_without_finite_features_is_a_fault_and_its_neighbors_stay(fake, tmp_path, stand_in):
    given = films(fake)
    given[2] = given[2]._replace(film=np.full((16, 16), 255, np.uint8))
    given[4] = given[4]._replace(film=np.zeros((16, 16), np.float32))
    data = materialize(fake.source(given), tmp_path, size=16, limit=0.5, enh={})
    assert data.quarantined == 2
    assert data.table("train")["key"].tolist() == [f"train{i}" for i in range(11) if i not in (2, 4)]
    read = pipeline.films(data, "train")
    np.testing.assert_allclose(read["enh"][..., 0], read["image"][..., 0], atol=0.51 / 255)


def test_batches_of_features_are_augmented_and_resumed(fake, tmp_path, stand_in):
    data = materialize(fake.source(films(fake)), tmp_path, size=16, limit=0.0, enh={})
    options = {"classes": ("Effusion",), "batch_size": 4, "seed": 1, "field": "enh"}
    (batch,) = itertools.islice(pipeline.batches(data, "train", **options), 1)
    assert batch.image.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(batch.image, pipeline.films(data, "train", batch.index)["enh"])
    stream = pipeline.batches(data, "train", augment=("flip", "crop", "rotate"), **options)
    next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    expected = next(stream)
    again = pipeline.batches(data, "train", augment=("flip", "crop", "rotate"), **options)
    again.set_state(state)
    np.testing.assert_array_equal(next(again).image, expected.image)
    with pytest.raises(UserError, match="other data"):
        pipeline.batches(data, "train", **{**options, "field": "image"}).set_state(state)
    held = list(pipeline.eval_batches(data, "val", classes=("Effusion",), batch_size=2, field="enh"))
    assert [b.image.shape for b in held] == [(2, 16, 16, 3)] * 2
    assert not held[1].image[1].any()


def test_features_that_were_not_prepared_are_told(fake, tmp_path):
    data = fake.prepared(tmp_path, train=4)
    with pytest.raises(UserError, match=r"without phase features; set data\.enh=True"):
        pipeline.batches(data, "train", classes=("Effusion",), batch_size=2, seed=0, field="enh")
    with pytest.raises(UserError, match=r"field is 'ehn'.*did you mean 'enh'"):
        pipeline.eval_batches(data, "train", classes=("Effusion",), batch_size=2, field="ehn")


@pytest.fixture(scope="module")
def unequal(fake, tmp_path_factory):
    """12 normal films, 5 of Effusion, 3 of Mass."""
    labels = [(0, 0)] * 12 + [(1, 0)] * 5 + [(0, 1)] * 3
    given = [
        r._replace(labels=np.array(v, np.float32)) for r, v in zip(fake.records({"train": 20}), labels, strict=True)
    ]
    return materialize(fake.source(given), tmp_path_factory.mktemp("cache"), size=16, limit=0.0)


def index(data, batches, **options):
    base = {"classes": ("Normal", "Effusion", "Mass"), "batch_size": 6, "seed": 0, "balance": True}
    stream = pipeline.batches(data, "train", **{**base, **options})
    out = np.concatenate([b.index for b in itertools.islice(stream, batches)])
    stream.close()
    return out


def test_balanced_epochs_have_every_class_as_often(unequal):
    epochs = index(unequal, 12).reshape(2, 36)
    for epoch in epochs:
        times = np.bincount(epoch, minlength=20)
        assert [times[:12].sum(), times[12:17].sum(), times[17:].sum()] == [12, 12, 12]
        assert set(times[:12]) == {1}
        assert set(times[12:17]) == {2, 3}
        assert set(times[17:]) == {4}
    np.testing.assert_array_equal(epochs, index(unequal, 12).reshape(2, 36))
    often = {tuple(np.flatnonzero(np.bincount(e, minlength=20) == 3)) for e in index(unequal, 48).reshape(8, 36)}
    assert len(often) > 1  # which films come once more changes from epoch to epoch


def test_balance_by_names_over_kept_films_and_in_shards(unequal):
    got = index(unequal, 12, balance=("Mass",), keep=np.arange(10, 20), batch_size=2)
    assert np.bincount(got, minlength=20)[:10].sum() == 0
    assert np.isin(got[:14], (17, 18, 19)).sum() == 7
    halves = [index(unequal, 6, shard=(i, 2)) for i in (0, 1)]
    together = np.concatenate([half.reshape(6, 3) for half in halves], axis=1)  # a row a global batch
    np.testing.assert_array_equal(together.ravel(), index(unequal, 6))


def test_balance_needs_classes_that_exclude_each_other(fake, tmp_path, unequal):
    data = fake.prepared(tmp_path, train=12)
    with pytest.raises(UserError, match=r"exactly one; \d+ of 12 films"):
        index(data, 1, classes=("Effusion", "Mass"))
    with pytest.raises(UserError, match="no film is Mass"):
        index(unequal, 1, keep=np.arange(17))
    with pytest.raises(UserError, match="exactly one"):
        balancing.groups(np.array([[1.0], [np.nan]]), np.arange(2), ("Mass",))
