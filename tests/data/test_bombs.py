"""Files that promise or hold far more than a film are refused at once and cost no memory; lying headers are told."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

from cxrjax.data import codestream
from cxrjax.data.decode import CorruptFilm, decode

SIDE = 60_000


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(path: Path, side: int, body: bytes, *extra: bytes, depth: int = 8, color: int = 0) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", body)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + pixels + chunk(b"IEND", b""))


def zeros(megabytes: int, wbits: int = 15, first: bytes = b"") -> bytes:
    """Compressed: `first`, and so many megabytes of zeros."""
    packer = zlib.compressobj(9, wbits=wbits)
    head, million = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH), bytes(1 << 20)
    block = packer.compress(million) + packer.flush(zlib.Z_FULL_FLUSH)  # which stands alone, so that it can be repeated
    return head + block * megabytes + packer.flush()


def dicom(path: Path, rows: int, columns: int, pixels: bytes, syntax=pydicom.uid.ExplicitVRLittleEndian) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.PixelRepresentation = rows, columns, 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = pydicom.encaps.encapsulate([pixels]) if syntax.is_encapsulated else pixels
    ds["PixelData"].is_undefined_length = syntax.is_encapsulated
    ds.save_as(path, enforce_file_format=True)
    return ds


def deflated_bomb(path: Path) -> None:
    """A film of 64 x 64 pixels, followed by a gigabyte."""
    parts = []  # head and body, plain and deflated
    for syntax in (pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.DeflatedExplicitVRLittleEndian):
        dicom(path, 64, 64, bytes(64 * 64), syntax)
        start = 132 + 12 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
        parts += [path.read_bytes()[:start], path.read_bytes()[start:]]
    path.write_bytes(parts[2] + zeros(1024, -15, parts[1]))


def jpeg(side: int = 400) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8), np.uint8)
    Image.fromarray(noise).resize((side, side)).save(out, "JPEG", quality=60)
    return out.getvalue()


def of_side(data: bytes, side: int) -> bytes:
    """A JPEG whose header promises another side."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]


BOMBS = {
    "header.png": "header promises",
    "deep.png": "bytes are decoded",
    "header.tif": "header promises",
    "header.dcm": "header promises",
    "deflated.dcm": "inflates to more",
    "stream.dcm": "60000x60000 pixels under a header of 64x64",
    "zip.png": "holds more than",
    "zip16.png": "holds more than",
    "text.png": "damaged image data",
    "profile.png": "damaged image data",
    "lies.jpg": "bytes are too few",
}
READ = """
import json, resource, sys, time
from pathlib import Path
from cxrjax import data, defaults
from cxrjax.data import decode, survey
from cxrjax.infer import films
folder, bombs = Path(sys.argv[1]), sys.argv[2:]
def by_decode(name):
    try:
        decode.decode(folder / name, 16)
    except decode.CorruptFilm as fault:
        return fault.reason
def by_predict(name):
    ((found,),) = films.stream([folder / name], 16, 0, 1, shown=True)
    return found.fault
def section(table, names):
    rows = [f"{name},{i},{'ab'[i % 2]}" for i, name in enumerate(names)]
    (folder / table).write_text("\\n".join(["path,patient,label", *rows]))
    return defaults.data(
        "csv", (), 16, table=str(folder / table), cache=str(folder / "cache"), quarantine_limit=0.9, blank="keep"
    )
good = [f"film{i}.png" for i in range(20)]
def by_prepare(name):
    return data.prepare(section(f"{name}.csv", [*good, *[name] * bool(name)])).quarantined
def by_check(name):
    return len(survey.survey(section(f"{name}.csv", [*good, *[name] * bool(name)])).notes.get("unreadable", ()))
out = {}
for door in (by_decode, by_predict, by_prepare, by_check):
    for name in ("film0.png", "film.dcm") if door in (by_decode, by_predict) else ("",):
        assert not door(name), name  # what is imported, and what a whole film costs, is no bomb's
    for name in bombs:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        why = door(name)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        out[f"{door.__name__} {name}"] = why, time.process_time() - start, grown / 1024
print(json.dumps(out))
"""


def test_bombs_are_refused_at_once_in_little_memory(tmp_path):
    png(tmp_path / "header.png", SIDE, b"")
    png(tmp_path / "deep.png", 7000, zlib.compress(b""), depth=16, color=6)
    tifffile.imwrite(tmp_path / "header.tif", np.zeros((32, 32), np.uint8))
    wide = (tmp_path / "header.tif").read_bytes()
    for tag in (256, 257):  # width and height
        at = max(wide.find(struct.pack("<HHI", tag, kind, 1)) for kind in (3, 4))
        wide = wide[: at + 2] + struct.pack("<HII", 4, 1, SIDE) + wide[at + 12 :]
    (tmp_path / "header.tif").write_bytes(wide)
    dicom(tmp_path / "header.dcm", SIDE, SIDE, bytes(4096))
    deflated_bomb(tmp_path / "deflated.dcm")
    dicom(tmp_path / "stream.dcm", 64, 64, of_side(jpeg(64), SIDE), pydicom.uid.JPEGBaseline8Bit)
    png(tmp_path / "zip.png", 64, zeros(1024))
    png(tmp_path / "text.png", 64, zlib.compress(bytes(65 * 64)), chunk(b"zTXt", b"x\0\0" + zeros(512)))
    png(tmp_path / "profile.png", 64, zlib.compress(bytes(65 * 64)), chunk(b"iCCP", b"x\0\0" + zeros(512)))
    (tmp_path / "lies.jpg").write_bytes(of_side(jpeg(), 8000)[:2900] + b"\xff\xd9")
    png(tmp_path / "zip16.png", 64, zeros(1024), depth=16)
    for i in range(20):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32), np.uint8)).save(tmp_path / f"film{i}.png")
    dicom(tmp_path / "film.dcm", 32, 32, bytes(1024))
    read = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), *BOMBS], capture_output=True, text=True, check=True, timeout=300
    )
    for what, (why, seconds, megabytes) in json.loads(read.stdout).items():
        door, name = what.split()
        print(f"{what}: {why}; {seconds:.2f} s, {megabytes:.0f} MB")
        assert BOMBS[name] in why if door in ("by_decode", "by_predict") else why == 1, what
        assert seconds < 1, what
        assert megabytes < 200, what


@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_a_jpeg_whose_data_end_early_is_refused_and_a_gray_border_is_not(tmp_path, kind):
    bordered = np.random.default_rng(0).integers(0, 256, (100, 96), np.uint8)
    bordered[60:] = 128
    Image.fromarray(bordered).convert(kind).save(tmp_path / "a.jpg", quality=75)
    assert decode(tmp_path / "a.jpg", None).shape == (100, 96)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8)).convert(kind)
    noise.save(tmp_path / "b.jpg")
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(CorruptFilm, match="data end before the last of the 96x96 pixels"):
        decode(tmp_path / "b.jpg", None)
    Image.new("L", (64, 64), 128).save(tmp_path / "c.jpg")
    assert (decode(tmp_path / "c.jpg", None) == 128).all()


GROWN = """
import resource, sys
from cxrjax.data import decode
decode.decode(sys.argv[1], 32)  # what is imported
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
film = decode.film(sys.argv[2], 256)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, *film.shape, film.pixels.shape)
"""


def test_a_large_jpeg_is_decoded_at_the_scale_of_what_is_asked_for(tmp_path):
    """The film of the side that Pillow's filter makes of all pixels, to 3 grays; a turned one keeps its own shape."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(60, 200, (40, 50), np.uint8))
    large = coarse.resize((5000, 4000), Image.Resampling.BICUBIC)
    expected = np.asarray(large.resize((256, 256), Image.Resampling.BILINEAR)).astype(int)
    turned = Image.Exif()
    turned[0x0112] = 6
    large.convert("RGB").save(tmp_path / "large.jpg", quality=90, exif=turned)
    Image.new("L", (32, 32)).save(tmp_path / "small.jpg")
    read = subprocess.run(
        [sys.executable, "-c", GROWN, str(tmp_path / "small.jpg"), str(tmp_path / "large.jpg")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    megabytes, rest = read.stdout.split(maxsplit=1)
    assert rest.strip() == "5000 4000 (256, 256)"
    assert int(megabytes) < 40  # 80 and more of all pixels
    got = decode(tmp_path / "large.jpg", 256).astype(int)
    assert np.abs(got - np.rot90(expected, -1)).max() <= 3
    whole = (tmp_path / "large.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(CorruptFilm, match="data end before the last of the 5000x4000 pixels"):
        decode(tmp_path / "cut.jpg", 256)


def test_dicom_pixels_that_end_early_are_refused(tmp_path):
    whole = jpeg(64)
    dicom(tmp_path / "a.dcm", 64, 64, whole, pydicom.uid.JPEGBaseline8Bit)
    np.testing.assert_array_equal(decode(tmp_path / "a.dcm", None), np.asarray(Image.open(io.BytesIO(whole))))
    dicom(tmp_path / "a.dcm", 64, 64, whole[: len(whole) // 2] + b"\xff\xd9", pydicom.uid.JPEGBaseline8Bit)
    with pytest.raises(CorruptFilm, match="end before the last row"):
        decode(tmp_path / "a.dcm", None)


def test_the_size_of_a_stream(tmp_path):
    for name in ("JPEG", "JPEG2000"):
        out = io.BytesIO()
        Image.new("L", (40, 24)).save(out, name)
        assert codestream.size(out.getvalue()) == (40, 24)
        assert codestream.size(out.getvalue()[:10]) is None
    assert codestream.size(b"GIF89a") is None
