"""MedMNIST's chest sets from one .npz (Yang et al. 2023, CC BY 4.0): ready splits, no patient ids."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import splits
from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.sources.base import Record, Source, digest, existing
from cxrjax.errors import UserError

LABEL_VERSION = "medmnist-v2"
COLUMNS = {"pneumoniamnist": ("Pneumonia",), "chestmnist": CHESTXRAY14}
URL = "https://zenodo.org/records/10519652/files/{flavor}.npz"
# As listed in the medmnist package for the 28-pixel files.
MD5 = {"pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f", "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8"}


def source(data: Any) -> Source:
    """An .npz with `{train,val,test}_images` (n, h, w) uint8 and `{train,val,test}_labels` (n, k) 0/1.

    `data.flavor` names the set ("pneumoniamnist" or "chestmnist"). `data.root` is the file; where it is empty the
    28-pixel file is downloaded into `data.cache`. A missing val or test part is carved from train (`data.carve`).

    Raises:
      UserError: an unknown flavor, no file and no network, or arrays of another shape.
    """
    flavor = str(data.get("flavor", "pneumoniamnist"))
    if flavor not in COLUMNS:
        raise UserError(f"data.flavor is {flavor!r}: expected one of {', '.join(COLUMNS)}")
    path = (
        existing(data.root, f"the file {flavor}.npz")
        if data.root
        else _download(flavor, Path(os.path.expanduser(data.cache)))
    )
    labels, given = _labels(path, len(COLUMNS[flavor]))
    sizes = {part: int((given == part).sum()) for part in splits.ORDER if part in given}
    names = np.array([f"{part}-{i:06d}" for part in splits.ORDER for i in range(int((given == part).sum()))])
    fractions = {name: float(data.carve[name]) for name in ("val", "test") if name not in given}
    pool = np.flatnonzero(given == "train")
    # Without patient ids the rows' own names make the carving independent of their order.
    given[pool] = splits.carve(names[pool].tolist(), labels[pool], fractions, seed=int(data.seed))
    order = sorted(range(len(given)), key=lambda i: (splits.ORDER.index(given[i]), names[i]))

    def records() -> Iterator[Record]:
        images = _images(path, sizes)
        for i in order:
            yield Record(str(names[i]), str(given[i]), "", labels[i], images[i])

    options = {"flavor": flavor, "fractions": fractions, "seed": int(data.seed), "labels": LABEL_VERSION}
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    counts = {name: int((given == name).sum()) for name in splits.ORDER if name in given}
    fingerprint = digest({**options, "content": content})
    return Source("medmnist", COLUMNS[flavor], LABEL_VERSION, fingerprint, records, False, counts)


def _arrays(path: Path, kind: str) -> dict[str, np.ndarray]:
    """The arrays `{part}_{kind}` by part, in the order of the splits."""
    try:
        with np.load(path) as file:
            return {part: file[f"{part}_{kind}"] for part in splits.ORDER if f"{part}_{kind}" in file}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole MedMNIST .npz ({error}); download it again") from None


def _labels(path: Path, k: int) -> tuple[np.ndarray, np.ndarray]:
    arrays = _arrays(path, "labels")
    if "train" not in arrays:
        raise UserError(f"{path} has no train_labels; expected a MedMNIST .npz")
    for part, values in arrays.items():
        if values.ndim != 2 or values.shape[1] != k:
            raise UserError(
                f"{path}: {part}_labels has shape {values.shape}; expected (n, {k}) (does data.flavor fit the file?)"
            )
        if others := sorted({*np.unique(values).tolist()} - {0, 1}):
            raise UserError(
                f"{path}: {part}_labels holds {', '.join(map(str, others[:12]))} besides 0 and 1; expected absent (0) "
                "or present (1) in each column (does data.flavor fit the file?)"
            )
    given = np.array([part for part, values in arrays.items() for _ in values], dtype=object)
    return np.concatenate(list(arrays.values())).astype(np.float32), given


def _images(path: Path, sizes: dict[str, int]) -> np.ndarray:
    arrays = _arrays(path, "images")
    for part, count in sizes.items():  # part by part: two wrong parts may have the right sum
        if len(arrays.get(part, ())) != count:
            raise UserError(f"{path} has {len(arrays.get(part, ()))} {part} images and {count} {part} labels")
    for part, values in arrays.items():
        if values.ndim != 3 or values.dtype != np.uint8:
            raise UserError(f"{path}: {part}_images is {values.shape} {values.dtype}; expected (n, h, w) uint8")
    return np.concatenate([arrays[part] for part in sizes])


def _download(flavor: str, cache: Path) -> Path:
    import tensorflow_datasets as tfds

    url = URL.format(flavor=flavor)
    folder = cache / "downloads"
    try:
        path = Path(tfds.download.DownloadManager(download_dir=folder, dataset_name=flavor).download(url))
    except Exception as error:  # requests, urllib3 and tfds each raise their own kinds
        raise UserError(
            f"cannot download {url} ({type(error).__name__}); where there is no network, "
            f"fetch the file elsewhere and set data.root to it"
        ) from error
    if hashlib.md5(path.read_bytes()).hexdigest() != MD5[flavor]:
        raise UserError(f"{path} is not the published {flavor}.npz (its MD5 differs); delete it and try again")
    return path
