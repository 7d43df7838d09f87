"""Films prepared by several processes: the same bytes as by one, whatever came in between."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax import data, defaults
from cxrjax.data import decode, shards
from cxrjax.data.shards import Shard
from cxrjax.errors import UserError

PNGS = 12
LOST = 4  # which of them is cut
DEEP = {2: 10, 9: 14}  # 16-bit ones, with the bits that they need


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder a class of tiny films; one is cut, two have 16 bits of different depths."""
    root = tmp_path_factory.mktemp("films")
    for i in range(PNGS):
        path = root / ("ill" if i % 2 else "well") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        film = np.random.default_rng(i).integers(0, 256, (24, 20)).astype(np.uint16)
        deep = film << (DEEP[i] - 8) if i in DEEP else film.astype(np.uint8)
        Image.fromarray(deep).save(path)
        if i == LOST:
            path.write_bytes(path.read_bytes()[:150])
    return root


def config(root: Path, cache: Path, **more):
    return defaults.data(
        "folder", ("ill", "well"), 16, root=str(root), cache=str(cache), quarantine_limit=0.5,
        carve={"val": 0.3, "test": 0.3}, **more,
    )  # fmt: skip


def contents(directory: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    assert {"index.npz", "prepared.json", "quarantine.csv"} < set(found)
    assert any("array_record" in name for name in found)
    return found


@pytest.mark.parametrize(
    "more", [{}, {"enh": True}, {"bit_depth": 14}, {"overlap": "drop"}], ids=["plain", "enh", "depth", "overlap"]
)
def test_shards_in_any_order_give_the_bytes_of_one_process(root, tmp_path, more):
    one = data.prepare(config(root, tmp_path / "one", **more))
    assert one.quarantined == 1
    assert one.bit_depth == 14
    several = config(root, tmp_path / "several", **more)
    for i in (2, 0, 3, 1):
        data.prepare_shard(several, Shard(i, 4))
    merged = data.merge(several)
    assert contents(merged.directory) == contents(one.directory)
    assert merged.warnings == one.warnings
    assert [path.name for path in (tmp_path / "several").iterdir() if path.is_dir()] == [merged.directory.name]
    assert data.prepare_shard(several, Shard(0, 4)) is None


def test_drawn_films_in_shards_are_those_of_one_process(tmp_path):
    def films(cache):
        num = {"train": 5, "val": 3, "test": 4}
        return defaults.data("phantom", ("Normal", "Mass"), 32, cache=str(tmp_path / cache), num=num)

    several = films("several")
    for i in (1, 0, 2):
        data.prepare_shard(several, Shard(i, 3))
    assert contents(data.merge(several).directory) == contents(data.prepare(films("one")).directory)


def test_every_film_is_in_one_shard_and_phase_features_keep_their_batches(root, tmp_path):
    for more, unit in (({}, 1), ({"enh": True}, 8)):
        plan = data.preparation._plan(config(root, tmp_path, **more))
        for count in (1, 3, 4, 40):
            spans = [span for i in range(count) for span in shards.files_of(plan, Shard(i, count)).values()]
            assert [i for span in spans for i in span] == list(range(PNGS))
            assert all(span.start % unit == 0 for span in spans)


def _slow(films, seconds: float, limit: int) -> None:
    """A process that decodes shard 1/4 a film a file, and after `limit` films falls asleep."""
    shards.BYTES, film, calls = 1, decode.film, []

    def slow(*args):
        calls.append(args)
        if len(calls) > limit:
            time.sleep(seconds)
        return film(*args)

    decode.film = slow
    data.prepare_shard(films, Shard(1, 4))


def test_a_killed_shard_goes_on_after_the_films_that_it_has(root, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BYTES", 1)
    films = config(root, tmp_path / "killed")
    killed = multiprocessing.get_context("fork").Process(target=_slow, args=(films, 60, 2))
    killed.start()
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").rglob("1-of-4/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    for i in (3, 2, 0):
        data.prepare_shard(films, Shard(i, 4))
    with pytest.raises(UserError, match=r"1 of 4 shards are not done: 1/4 \(2 of 3 films\); run CMD --shard=1/4, then"):
        data.merge(films, "CMD")

    cut = min((tmp_path / "killed").rglob("1-of-4/*.npz"))
    cut.write_bytes(cut.read_bytes()[:-100])
    decoded = []
    film = decode.film
    monkeypatch.setattr(decode, "film", lambda *args: decoded.append(args[0]) or film(*args))
    assert data.prepare_shard(films, Shard(1, 4)).films == 3
    data.prepare_shard(films, Shard(0, 4))  # whole already
    assert len(decoded) == 2  # that file's and the third
    one = data.prepare(config(root, tmp_path / "one"))
    assert contents(data.merge(films).directory) == contents(one.directory)


def test_a_missing_a_cut_and_a_lost_file_are_named_with_the_command(root, tmp_path):
    films = config(root, tmp_path)
    with pytest.raises(UserError, match=r"no shard of these films.*run CMD --shard=I/N.*then --merge"):
        data.merge(films, "CMD")
    data.prepare_shard(films, Shard(0, 4))
    with pytest.raises(
        UserError,
        match=r"3 of 4 shards are not done: 1/4 \(0 of 3 films\), .*run CMD --shard=1/4 and so on, then CMD ",
    ):
        data.merge(films, "CMD")
    for i in (1, 2, 3):
        data.prepare_shard(films, Shard(i, 4))
    (path,) = tmp_path.rglob("2-of-4/*.npz")
    for damage in (lambda: path.write_bytes(path.read_bytes()[:-500]), path.unlink):
        damage()
        with pytest.raises(UserError, match=r"shard 2/4 has lost a file \(.*npz.*run CMD --shard=2/4, then CMD --m"):
            data.merge(films, "CMD")
        with pytest.raises(UserError, match=r"1 of 4 shards are not done: 2/4 \(0 of 3 films\)"):
            data.merge(films, "CMD")
        data.prepare_shard(films, Shard(2, 4))
    data.merge(films)


def test_what_cannot_be_read_is_counted_over_all_shards(root, tmp_path):
    films = config(root, tmp_path)
    films.quarantine_limit = 0.05
    left = [data.prepare_shard(films, Shard(i, 4)).left_out for i in range(4)]
    assert sorted(left) == [0, 0, 0, 1]
    with pytest.raises(UserError, match=rf"1 of {PNGS} films cannot be read.*{LOST:02d}.png.*quarantine.csv"):
        data.merge(films)
    films.quarantine_limit = 0.1
    assert data.merge(films).quarantined == 1
