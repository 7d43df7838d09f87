"""Every kind of file becomes the gray film it shows, or a named fault; nothing wraps."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cxrjax.data.decode import CorruptFilm, decode, from_array


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
