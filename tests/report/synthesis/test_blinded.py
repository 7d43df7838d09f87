"""The blinded page is whole and offline, shows every film once, and gives no answer away before its end."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrjax.report.synthesis import blinded

REAL, GENERATED, SIDE = 9, 8, 24


@pytest.fixture(scope="module")
def films() -> tuple[np.ndarray, np.ndarray]:
    """Noisy real films and smooth generated ones, `(n, h, w)`: compressed, the generated would be far shorter."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(0.0, 1.0, SIDE)
    smooth = np.stack([np.outer(ramp, np.roll(ramp, k)) for k in range(GENERATED)])
    return rng.integers(0, 256, (REAL, SIDE, SIDE), dtype=np.uint8), np.round(255 * smooth).astype(np.uint8)


def key_of(films: tuple[np.ndarray, np.ndarray]) -> list[dict[str, str]]:
    real = [{"truth": "real", "name": f"patient-{i}", "finding": "Ödema"} for i in range(len(films[0]))]
    findings = ["Cardiomegaly"] * (len(films[1]) - 1) + [""]
    return real + [{"truth": "generated", "name": f"sample-{i}", "finding": f} for i, f in enumerate(findings)]


def written(path: Path, films: tuple[np.ndarray, np.ndarray], seed: int = 0) -> str:
    assert blinded.write(path, np.concatenate(films), key_of(films), "Reading <1>", seed) == path
    return path.read_text(encoding="utf-8")


@pytest.fixture
def page(films: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> str:
    return written(tmp_path / "blinded.html", films)


def pngs(page: str) -> list[bytes]:
    return [b64decode(uri) for uri in re.findall(r"data:image/png;base64,([^\"]+)", page)]


def pixels(page: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(png))) for png in pngs(page)]


def key_text(page: str) -> str:
    return re.search(r'id="key">([^<]*)</script>', page)[1]


def chunks(png: bytes) -> list[bytes]:
    """The chunk types of a PNG, in order."""
    found, at = [], 8
    while at < len(png):
        found.append(png[at + 4 : at + 8])
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return found


def test_page_loads_nothing_from_outside(page: str) -> None:
    targets = re.findall(r"""(?:src|href|action|poster|srcset|data)\s*=\s*["']([^"']*)""", page)
    assert len(targets) == REAL + GENERATED
    assert {target.split(",")[0] for target in targets} == {"data:image/png;base64"}
    assert "default-src 'none'; img-src data:" in page
    assert not re.search(r"https?:|//[a-z]+\.|@import|<link|<iframe|url\(|fetch\(|XMLHttpRequest|import\(", page)


def test_decoded_key_tells_the_truth_of_each_shown_film(page: str, films: tuple[np.ndarray, np.ndarray]) -> None:
    key, shown = json.loads(b64decode(key_text(page))), pixels(page)
    given = {entry["name"]: (entry, film) for entry, film in zip(key_of(films), np.concatenate(films), strict=True)}
    assert len(key) == len(shown) == REAL + GENERATED
    assert {entry["name"] for entry in key} == set(given)
    for entry, film in zip(key, shown, strict=True):
        assert entry == given[entry["name"]][0]
        np.testing.assert_array_equal(film, given[entry["name"]][1])


def test_order_is_shuffled_by_the_seed(films: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    def order(seed: int) -> list[str]:
        page = written(tmp_path / f"{seed}.html", films, seed)
        return [entry["name"] for entry in json.loads(b64decode(key_text(page)))]

    first, again, other = order(1), order(1), order(2)
    assert first == again != other
    assert [entry["name"] for entry in key_of(films)] not in (first, other)
    assert first[:REAL] != sorted(first[:REAL])
    assert len({name.split("-")[0] for name in first[:REAL]}) == 2  # the kinds are mixed


def test_nothing_but_the_pixels_tells_films_apart(page: str) -> None:
    """Every picture has the same bytes about it: the same chunks, none of text, and the same length."""
    pictures = pngs(page)
    assert {tuple(chunks(png)) for png in pictures} == {(b"IHDR", b"IDAT", b"IEND")}
    assert len({len(png) for png in pictures}) == 1
    tags = re.findall(r"<img[^>]*>", page)
    bare = {re.sub(r'src="[^"]*"|Film \d+', "", tag) for tag in tags}
    assert len(tags) == REAL + GENERATED
    assert len(bare) == 1


def test_no_answer_is_legible_before_the_end(page: str) -> None:
    legible = page.replace(key_text(page), "")
    assert len(legible) < len(page)
    for answer in ("patient-", "sample-", "dema", "Cardiomegaly"):
        assert answer not in legible
        assert answer not in page
        assert all(answer.encode() not in png for png in pngs(page))
    assert all(b"Synthetic" not in png for png in pngs(page))


def test_page_says_that_films_are_synthetic(page: str) -> None:
    head = page.split('id="reading"')[0]
    assert "About half of the films on this page are <strong>synthetic</strong>" in head
    assert "Not for diagnosis" in head
    assert "the key at the end names each" in head
    assert "<noscript>" in head
    assert "<h1>Reading &lt;1&gt;</h1>" in page


def test_uneven_sets_are_not_called_half(films: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    page = written(tmp_path / "few.html", (films[0], films[1][:2]))
    assert "About half" not in page
    assert "Some of the films on this page are" in page
