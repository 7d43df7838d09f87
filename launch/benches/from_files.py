"""The cases that answer films from files: from PNG or DICOM on disk to a table of predictions.

Both sides have DenseNet-121 at 224 px with random weights, as many threads, the same files, and write the same table;
ours also writes its JSON and its page. Torch decodes in as many worker processes as there are cores.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cores

from benches.timing import Case, Row, Timed, rates

SIZE, BATCH = 224, 32
CLASSES = ("Normal", "Pneumonia")


def case(kind: str, count: int) -> Case:
    """The case of files of a kind."""

    def measure(
        repeats: int, *, peer: str = "", count: int = count, side: int = 1024, net: str = "densenet121"
    ) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            paths = write(Path(folder), kind, count, side)
            ours = _ours(paths, Path(folder) / "ours", net)
            theirs = {f"torch, {count} {kind}": _theirs(paths, Path(folder) / "theirs.csv")} if peer else {}
            return rates({**theirs, f"cxrjax, {count} {kind} of {side} px": ours}, repeats, "films/s")

    words = f"{count} {kind} of 1024 px on disk to predictions.csv by DenseNet-121; --peer puts torch beside."
    return Case(measure, words, {"count": 3, "side": 64}, "torch", ("peer",))


def write(folder: Path, kind: str, count: int, side: int) -> list[Path]:
    """Files of drawn films with grain, which compress like films; eight of them, again and again."""
    import numpy as np
    from PIL import Image

    from cxrjax.data.phantom.render import render

    rng, out = np.random.default_rng(0), []
    for i in range(count):
        path = folder / f"{i:04d}.{'png' if kind == 'PNG' else 'dcm'}"
        if i < 8:
            film = render(i, 256).image.astype(np.float32)
            film = np.asarray(Image.fromarray(film).resize((side, side), Image.Resampling.BICUBIC))
            film = np.clip(film + rng.normal(0, 4, film.shape), 0, 255).astype(np.uint8)
            _png(path, film) if kind == "PNG" else _dicom(path, film)
        else:
            path.write_bytes(out[i % 8].read_bytes())
        out.append(path)
    return out


def _png(path: Path, film: Any) -> None:
    from PIL import Image

    Image.fromarray(film).save(path)


def _dicom(path: Path, film: Any) -> None:
    import numpy as np
    import pydicom
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = "CR", 1, "MONOCHROME2", 0
    ds.Rows, ds.Columns = film.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.WindowCenter, ds.WindowWidth = 16, 12, 11, 2048, 4096
    ds.PixelData = (film.astype(np.uint16) * 16).tobytes()
    ds.save_as(path, enforce_file_format=True)


def _ours(paths: list[Path], folder: Path, name: str) -> Timed:
    import jax
    import jax.numpy as jnp

    from cxrjax import models
    from cxrjax.infer.classifier import Classifier
    from cxrjax.infer.predict import Operating, Predictor
    from cxrjax.report import predictions
    from cxrjax.tasks import classify
    from cxrjax.train import mesh as meshes

    net, mesh = models.build(name, num_classes=len(CLASSES)), meshes.make(1)  # as predict.py
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    options = classify.Options(channels=3, normalize="imagenet")
    network = Classifier(net, options, meshes.replicate(mesh, {"net": variables}), CLASSES, SIZE, mesh)
    predictor = Predictor(name, (network,), Operating(None, (), None, "nothing was chosen"))

    def call() -> None:
        _, failed = predictions.write(folder, predictor, predictor.films(paths, None, BATCH), "bench", "bench.py")
        if failed:
            raise RuntimeError(f"{failed} of {len(paths)} films were not answered, so that nothing was measured")

    return Timed(call, len(paths))


def gray(path: Path) -> Any:
    """A film as a torch script opens it: a PIL image of 8 bits."""
    import numpy as np
    from PIL import Image

    if path.suffix == ".dcm":
        import pydicom
        from pydicom.pixels import apply_voi_lut

        ds = pydicom.dcmread(path)
        film = np.asarray(apply_voi_lut(ds.pixel_array, ds), np.float32)
        low, high = film.min(), film.max()
        return Image.fromarray(((film - low) / (high - low) * 255).astype(np.uint8))
    return Image.open(path).convert("L")


def _read(path: Path) -> Any:
    """A film as a torch script has it: (3, 224, 224) float32."""
    import numpy as np
    import torch
    from PIL import Image

    film = np.asarray(gray(path).resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 255
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return torch.from_numpy((film[None] - mean) / std)


def _theirs(paths: list[Path], table: Path) -> Timed:
    import torch
    import torchvision

    torch.set_num_threads(cores.number())
    net = torchvision.models.densenet121(weights=None, num_classes=len(CLASSES)).eval()
    films = torch.utils.data.DataLoader(Items(paths, _read), BATCH, num_workers=cores.number())

    def call() -> None:
        with table.open("w", newline="") as file, torch.inference_mode():
            rows = csv.writer(file)
            rows.writerow(["film", *CLASSES])
            names = iter(paths)
            for batch in films:
                for one in torch.softmax(net(batch), 1).tolist():
                    rows.writerow([next(names), *one])

    return Timed(call, len(paths))


class Items:
    """A torch data set of `read(item)`, an item at a time."""

    def __init__(self, items: Sequence[Any], read: Callable[[Any], Any]) -> None:
        self.items, self.read = items, read

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.read(self.items[i])


CASES = {"predict_png": case("PNG", 256), "predict_dicom": case("DICOM", 64)}
