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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cores

from benches import from_files
from benches.timing import Case, Row, Timed, rates

SIZE, PADDED, BATCH = 224, 256, 32


def png(repeats: int, *, peer: bool = False, count: int = 128, side: int = 1024) -> list[Row]:
    """An epoch of PNG: prepared by us, against a DataLoader that decodes them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = from_files.write(Path(folder), "PNG", count, side)

        def prepare() -> None:
            with tempfile.TemporaryDirectory() as cache:
                _prepared(paths, Path(cache))

        variants = {}
        if peer:
            variants["torch, DataLoader of PNG"] = _loader(_Decoded(paths), count)
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
            f"cxrjax, {of} prepared as records": Timed(lambda: _prepared(paths, next(caches)), len(paths)),
        }
        return rates(variants, repeats, "films/s")


def records(repeats: int, *, peer: bool = False, count: int = 1024, side: int = 64) -> list[Row]:
    """An epoch of films that were prepared before: grain on records, against a DataLoader on one saved array."""
    import numpy as np

    from cxrjax.data import pipeline

    with tempfile.TemporaryDirectory() as folder:
        paths = from_files.write(Path(folder), "PNG", count, side)
        prepared = _prepared(paths, Path(folder) / "cache")
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
            variants["torch, DataLoader of one array"] = _loader(_Saved(saved), count)
        variants[f"cxrjax, {count} records of {SIZE} px"] = Timed(epoch, count // size * size)
        rows = rates(variants, repeats, "films/s")
        films.close()
        return rows


def _prepared(paths: list[Path], cache: Path) -> Any:
    import numpy as np

    from cxrjax.data import preparation
    from cxrjax.data.sources.base import Record, Source

    def every() -> Iterator[Record]:
        for i, path in enumerate(paths):
            yield Record(f"{i:06d}", "train", f"{i:06d}", np.zeros(1, np.float32), path)

    digest = hashlib.sha256(str(len(paths)).encode()).hexdigest()
    source = Source("bench", ("Mass",), "none", digest, every, False, {"train": len(paths)})
    return preparation.materialize(source, cache, size=SIZE, limit=1.0)


def _loader(films: Any, count: int) -> Timed:
    import torch

    loader = torch.utils.data.DataLoader(
        films, BATCH, shuffle=True, num_workers=cores.number(), persistent_workers=True
    )

    def epoch() -> None:
        for _ in loader:
            pass

    return Timed(epoch, count)


def _crop(film: Any) -> Any:
    """(256, 256) uint8 -> (1, 224, 224) float32."""
    import torch

    top, left = torch.randint(0, PADDED - SIZE + 1, (2,)).tolist()
    crop = torch.from_numpy(film[top : top + SIZE, left : left + SIZE].copy())[None].float() / 255
    return crop.flip(-1) if torch.rand(()) < 0.5 else crop


class _Decoded:
    """A torch data set that decodes its files."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Any:
        import numpy as np
        from PIL import Image

        image = from_files.gray(self.paths[i]).resize((PADDED, PADDED), Image.Resampling.BILINEAR)
        return _crop(np.asarray(image))


class _Saved:
    """A torch data set of one array on disk."""

    def __init__(self, path: Path) -> None:
        import numpy as np

        self.films = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, i: int) -> Any:
        return _crop(self.films[i])


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
