"""Every kind of file becomes the gray film it shows, or a named fault; nothing wraps."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from cxrjax.data import decode as decoding
from cxrjax.data.decode import CorruptFilm, decode, from_array, own_depth


def _deep_png(path, planes: np.ndarray, color: int, *chunks: bytes) -> None:
    """A 16-bit PNG of (h, w, c) uint16, which Pillow cannot write; color type 2 is RGB, 4 gray + alpha, 6 RGBA."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", planes.shape[1], planes.shape[0], 16, color, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in planes))
    extra = b"".join(chunk(b"eXIf", data) for data in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def _deep(bits: int, side: int = 32) -> np.ndarray:
    return np.linspace(0, 2**bits - 1, side * side).round().astype(np.uint16).reshape(side, side)


@pytest.fixture
def gray() -> np.ndarray:
    ramp = np.add.outer(np.arange(32), 3 * np.arange(32))
    return (ramp * 2 % 256).astype(np.uint8)


def test_gray_png_is_unchanged(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 32), gray)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_gray_in_color_or_under_opaque_alpha_is_the_gray(tmp_path, gray, mode):
    Image.fromarray(gray).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 32), gray)


def test_transparent_pixels_are_black(tmp_path, gray):
    alpha = np.zeros_like(gray)
    alpha[:16] = 255
    Image.fromarray(np.stack([gray, gray, gray, alpha], -1)).save(tmp_path / "a.png")
    out = decode(tmp_path / "a.png", 32)
    np.testing.assert_array_equal(out[:16], gray[:16])
    assert not out[16:].any()


def test_palette_gives_the_colors_not_the_indices(tmp_path, gray):
    image = Image.fromarray(gray // 64).convert("P")
    image.putpalette([200, 200, 200, 150, 150, 150, 100, 100, 100, 50, 50, 50])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 32), 200 - 50 * (gray // 64))


def test_tinted_film_is_its_luma(tmp_path):
    Image.new("RGB", (32, 32), (100, 150, 200)).save(tmp_path / "a.png")
    expected = 0.299 * 100 + 0.587 * 150 + 0.114 * 200
    np.testing.assert_allclose(decode(tmp_path / "a.png", 32), expected, atol=1)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_is_scaled_by_its_depth_and_never_wraps(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    Image.fromarray(values).save(tmp_path / "a.png")
    out = decode(tmp_path / "a.png", 32)
    assert (np.diff(out.ravel().astype(int)) >= 0).all()
    np.testing.assert_allclose(out, values * (255.0 / (2**bits - 1)), atol=0.51)


def test_16_bit_shrinks_without_wrapping(tmp_path):
    values = np.linspace(0, 65_535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "a.png")
    out = decode(tmp_path / "a.png", 16)
    assert (np.diff(out.mean(axis=1)) > 0).all()


@pytest.mark.parametrize("color", [2, 4, 6])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_16_bit_png_of_several_channels_is_read_at_full_depth(tmp_path, color, bits):
    values = _deep(bits)
    planes = [values] * (1 if color == 4 else 3) + [np.full_like(values, 65_535)] * (color != 2)
    _deep_png(tmp_path / "a.png", np.stack(planes, -1), color)
    np.testing.assert_allclose(decode(tmp_path / "a.png", 32), values * (255.0 / (2**bits - 1)), atol=0.51)
    assert own_depth(tmp_path / "a.png") == bits


def test_16_bit_alpha_is_laid_over_black_and_tinted_is_luma(tmp_path):
    red, green, blue = (np.full((32, 32), value, np.uint16) for value in (1000, 3000, 4095))
    alpha = np.full((32, 32), 65_535, np.uint16)
    alpha[:16] = 0
    _deep_png(tmp_path / "a.png", np.stack([red, green, blue, alpha], -1), 6)
    out = decode(tmp_path / "a.png", 32, 12)
    assert not out[:16].any()
    np.testing.assert_allclose(out[16:], (0.299 * 1000 + 0.587 * 3000 + 0.114 * 4095) / 4095 * 255, atol=0.51)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_tiff_of_several_channels(tmp_path, byteorder, compression):
    values = _deep(12)
    options = {"photometric": "rgb", "byteorder": byteorder, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", np.stack([values] * 3, -1), **options)
    np.testing.assert_allclose(decode(tmp_path / "a.tif", 32), values * (255.0 / 4095), atol=0.51)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([values] * 3), planarconfig="separate", **options)
    with pytest.raises(CorruptFilm, match="separate planes"):
        decode(tmp_path / "b.tif", 32)


def test_one_depth_for_films_of_different_brightness(tmp_path):
    bright, dark = _deep(12), _deep(12) // 5
    for name, values in (("bright", bright), ("dark", dark)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        np.testing.assert_allclose(decode(tmp_path / f"{name}.png", 32, 12), values * (255.0 / 4095), atol=0.51)
    assert (own_depth(tmp_path / "bright.png"), own_depth(tmp_path / "dark.png")) == (12, 10)
    with pytest.raises(CorruptFilm, match=r"values up to 4,095 need more than data\.bit_depth, 10 bits"):
        decode(tmp_path / "bright.png", 32, 10)


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_white_is_zero_is_inverted(tmp_path, bits):
    values = _deep(12) if bits == 16 else (_deep(12) // 16).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values.max() - values, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="minisblack")
    np.testing.assert_allclose(decode(tmp_path / "a.tif", 32).astype(int), decode(tmp_path / "b.tif", 32), atol=1)


def test_exif_turns_16_bit_color_as_it_turns_8_bit(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = _deep(16)
    _deep_png(tmp_path / "a.png", np.stack([values] * 3, -1), 2, exif.tobytes().removeprefix(b"Exif\0\0"))
    Image.fromarray((values // 257).astype(np.uint8)).convert("RGB").save(tmp_path / "b.png", exif=exif)
    turned = decode(tmp_path / "b.png", 32)
    assert (turned[:, 0] > turned[:, -1]).all()
    np.testing.assert_allclose(decode(tmp_path / "a.png", 32).astype(int), turned, atol=1)
    tifffile.imwrite(tmp_path / "c.tif", np.stack([values] * 3, -1), photometric="rgb", extratags=[(274, "H", 1, 6)])
    np.testing.assert_allclose(decode(tmp_path / "c.tif", 32).astype(int), turned, atol=1)


def test_truncated_16_bit_color_is_a_named_fault(tmp_path):
    _deep_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 65_536, (64, 64, 3)), 2)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFilm, match="truncated"):
        decode(tmp_path / "a.png", 32)


def test_shrinking_averages(tmp_path):
    checker = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checker).save(tmp_path / "a.png")
    np.testing.assert_allclose(decode(tmp_path / "a.png", 16)[2:-2, 2:-2], 127.5, atol=8)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_truncated_file_is_a_named_fault(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFilm, match="truncated") as fault:
        decode(path, 32)
    assert fault.value.file == str(path)
    assert fault.value.reason


@pytest.mark.parametrize(("turn", "expected"), [(None, (32, 48)), (6, (48, 32))])
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_shape_is_read_of_the_header_alone(tmp_path, kind, turn, expected):
    exif, path = Image.Exif(), tmp_path / f"a.{kind}"
    if turn:
        exif[0x0112] = turn
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)).save(
        path, exif=exif if turn else b""
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # what follows cannot be decoded
    assert decoding.shape(path) == expected


def test_every_flipped_or_cut_file_is_a_film_or_a_fault(tmp_path, gray):
    path = tmp_path / "a.png"
    Image.fromarray(gray).save(path)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = whole.copy()
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged[: rng.integers(1, len(whole) + 1)])
        try:
            out = decode(path, 32)
        except CorruptFilm:
            continue
        assert out.shape == (32, 32)
        assert out.dtype == np.uint8


def test_no_image_no_file_empty_file(tmp_path):
    (tmp_path / "a.png").write_text("no image at all")
    (tmp_path / "b.png").touch()
    for name, reason in [("a.png", "not a readable"), ("b.png", "empty"), ("c.png", "No such file")]:
        with pytest.raises(CorruptFilm, match=reason):
            decode(tmp_path / name, 32)


@pytest.mark.parametrize("side", [9_000, 20_032, 60_000])
def test_bomb_is_refused_from_its_header(tmp_path, side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    # No pixel data follows: only a reader that stops at the header can name the size as the reason.
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(CorruptFilm, match="header promises"):
        decode(tmp_path / "a.png", 32)


def test_wrong_kinds_are_refused(tmp_path):
    Image.new("CMYK", (32, 32)).save(tmp_path / "a.jpeg")
    Image.fromarray(np.full((32, 32), 0.5, np.float32)).save(tmp_path / "b.tiff")
    Image.new("L", (4, 400)).save(tmp_path / "c.png")
    Image.new("L", (32, 32)).save(tmp_path / "d.tiff", save_all=True, append_images=[Image.new("L", (32, 32))])
    for name, reason in [("a.jpeg", "mode CMYK"), ("b.tiff", "mode F"), ("c.png", "at least"), ("d.tiff", "2 frames")]:
        with pytest.raises(CorruptFilm, match=reason):
            decode(tmp_path / name, 32)


def test_array_films_are_checked(gray):
    assert from_array("a", gray, 32) is gray
    assert from_array("a", gray, 16).shape == (16, 16)
    for wrong in (gray.astype(np.float32), gray[..., None]):
        with pytest.raises(CorruptFilm, match="2-D uint8"):
            from_array("a", wrong, 32)


@pytest.mark.parametrize(("limit", "together"), [(32 * 32, 2), (32 * 32 - 1, 1)])
def test_large_films_are_decoded_one_at_a_time(tmp_path, gray, monkeypatch, limit, together):
    Image.fromarray(gray).save(tmp_path / "a.png")
    load, lock, now, most = decoding._load, threading.Lock(), [0], [0]
    both = threading.Barrier(2)

    def slow(*args):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        if together == 2:
            both.wait(60)  # never comes where they wait for one another
        else:
            time.sleep(0.3)
        load(*args)
        with lock:
            now[0] -= 1

    monkeypatch.setattr(decoding, "_load", slow)
    monkeypatch.setattr(decoding, "LARGE", limit)
    with ThreadPoolExecutor(2) as pool:
        for film in pool.map(lambda _: decode(tmp_path / "a.png", 32), range(2)):
            np.testing.assert_array_equal(film, gray)
    assert most[0] == together
