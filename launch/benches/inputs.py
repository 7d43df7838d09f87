"""The cases of what a network is fed with: films of 1024 px from PNG, and films of 224 px from records.

Ours decodes every PNG once, checks it and keeps it as a record; every epoch then reads records. A script in torch
decodes in every epoch, in as many worker processes as there are cores, or reads one array that was saved before. Crops
are of 224 px, shifted and mirrored by chance, as float32 in [0, 1].
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cores

from benches import from_files
from benches.timing import Case, Row, Timed, rates

SIZE, PADDED, BATCH = 224, 256, 32


def png(repeats: int, *, peer: str = "", count: int = 128, side: int = 1024) -> list[Row]:
    """An epoch of PNG: prepared by us, against a DataLoader that decodes them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = from_files.write(Path(folder), "PNG", count, side)

        def prepare() -> None:
            with tempfile.TemporaryDirectory() as cache:
                as_records(paths, Path(cache))

        variants = {}
        if peer:
            variants["torch, DataLoader of PNG"] = _loader(paths, _decoded)
        variants[f"cxrjax, {count} PNG of {side} px prepared as records"] = Timed(prepare, count)
        return rates(variants, repeats, "films/s")


def prepared(repeats: int, *, films: str = "", count: int = 128, side: int = 1024) -> list[Row]:
    """Files prepared, against decoding them alone in as many threads; `films`: a folder of one's own."""
    from cxrjax.data import decode, folders, stream

    with tempfile.TemporaryDirectory() as folder:
        paths = [path for path in folders.files(Path(films)) if folders.is_film(path)] if films else []
        paths = paths or from_files.write(Path(folder), "PNG", count, side)
        caches = (Path(folder) / f"cache{i}" for i in itertools.count())

        def one(path: Path) -> None:
            with contextlib.suppress(decode.CorruptFilm):  # which is left out of the records
                decode.film(path, SIZE)

        def decoding() -> None:
            with ThreadPoolExecutor(stream.DECODERS) as pool:
                list(pool.map(one, paths))

        of = f"{len(paths):,} films"
        variants = {
            f"cxrjax, {of} decoded alone": Timed(decoding, len(paths)),
            f"cxrjax, {of} prepared as records": Timed(lambda: as_records(paths, next(caches)), len(paths)),
        }
        return rates(variants, repeats, "films/s")


def records(repeats: int, *, peer: str = "", count: int = 1024, side: int = 64) -> list[Row]:
    """An epoch of films that were prepared before: grain on records, against a DataLoader on one saved array."""
    import numpy as np

    from cxrjax.data import pipeline

    with tempfile.TemporaryDirectory() as folder:
        paths = from_files.write(Path(folder), "PNG", count, side)
        prepared = as_records(paths, Path(folder) / "cache")
        size = min(BATCH, count)
        films = pipeline.batches(
            prepared,
            "train",
            classes=("Mass",),
            batch_size=size,
            seed=0,
            augment=("flip", "crop"),
            threads=cores.number(),
        )

        def epoch() -> None:
            for _ in range(count // size):
                next(films)

        variants = {}
        if peer:
            saved = Path(folder) / "films.npy"
            np.save(saved, np.random.default_rng(0).integers(0, 256, (count, PADDED, PADDED), np.uint8))
            variants["torch, DataLoader of one array"] = _loader(np.load(saved, mmap_mode="r"), _crop)
        variants[f"cxrjax, {count} records of {SIZE} px"] = Timed(epoch, count // size * size)
        rows = rates(variants, repeats, "films/s")
        films.close()
        return rows


def as_records(films: Any, cache: Path, size: int = SIZE, limit: float = 1.0) -> Any:
    """Films, paths or arrays, prepared as the records of one part of a data set."""
    import numpy as np

    from cxrjax.data import preparation
    from cxrjax.data.sources.base import Record, Source

    def every() -> Iterator[Record]:
        for i, film in enumerate(films):
            yield Record(f"{i:06d}", "train", f"{i:06d}", np.zeros(1, np.float32), film)

    digest = hashlib.sha256(str(len(films)).encode()).hexdigest()
    source = Source("bench", ("Mass",), "none", digest, every, False, {"train": len(films)})
    return preparation.materialize(source, cache, size=size, limit=limit)


def _loader(items: Any, read: Callable[[Any], Any]) -> Timed:
    import torch

    films = from_files.Items(items, read)
    loader = torch.utils.data.DataLoader(
        films, BATCH, shuffle=True, num_workers=cores.number(), persistent_workers=True
    )

    def epoch() -> None:
        for _ in loader:
            pass

    return Timed(epoch, len(films))


def _decoded(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    return _crop(np.asarray(from_files.gray(path).resize((PADDED, PADDED), Image.Resampling.BILINEAR)))


def _crop(film: Any) -> Any:
    """(256, 256) uint8 -> (1, 224, 224) float32."""
    import torch

    top, left = torch.randint(0, PADDED - SIZE + 1, (2,)).tolist()
    crop = torch.from_numpy(film[top : top + SIZE, left : left + SIZE].copy())[None].float() / 255
    return crop.flip(-1) if torch.rand(()) < 0.5 else crop


CASES = {
    "input_png": Case(
        png, "128 PNG of 1024 px to films of 224 px, prepared once; --peer puts a DataLoader that decodes beside.",
        {"count": 4, "side": 64}, "torch", ("peer",),
    ),
    "input_prepared": Case(
        prepared, "The same, beside decoding alone in as many threads; --films=DIR takes the files of a folder.",
        {"count": 4, "side": 64}, options=("films",),
    ),
    "input_records": Case(
        records, "An epoch of 1,024 records of 224 px, augmented; --peer puts a DataLoader of one array beside.",
        {"count": 4}, "torch", ("peer",),
    ),
}  # fmt: skip
