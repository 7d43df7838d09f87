"""The blinded reading: one page of real and generated films in random order, its key and score only at the end."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cxrjax.errors import UserError
from cxrjax.report import templates
from cxrjax.report.draw.png import NOTICE, data_uri, gray_to_uint8

_SLACK = 1e-3  # by how much a resampled gray value may leave [0, 1]


def write(
    path: Path,
    real: np.ndarray,
    generated: np.ndarray,
    *,
    title: str,
    real_names: Sequence[str],
    generated_names: Sequence[str],
    finding_real: Sequence[str],
    finding_generated: Sequence[str],
    seed: int = 0,
) -> Path:
    """Writes one HTML file on which a reader marks each film as real or generated, and then sees the key and the score.

    The page loads nothing and opens from a disk. Its PNGs are uncompressed, all of one length, and carry no mark of
    the synthetic ones: the text at the top says that there are some, and the key which. The key is in the page as
    base64: hidden from the eye, not from who decodes it.

    Args:
      path: where to write; its folder is made.
      real: (n, h, w) float in [0, 1], films of patients.
      generated: (m, h, w) float in [0, 1], of the same height and width.
      title: the page's heading, shown before the reading: it must not name the films.
      real_names: n names for the key.
      generated_names: m names for the key.
      finding_real: n texts, what each film is labeled with; may be empty.
      finding_generated: m texts, what each film was asked to show; may be empty.
      seed: of the films' order.

    Returns:
      `path`.

    Raises:
      UserError: an empty set, another shape, gray values that are not finite floats in [0, 1], or names or findings
        that are not one a film.
    """
    films = {"real": _checked("real", real), "generated": _checked("generated", generated)}
    if films["real"].shape[1:] != films["generated"].shape[1:]:
        raise UserError(
            f"blinded page: real films are {films['real'].shape[1:]}, generated ones {films['generated'].shape[1:]}; "
            "their size would give them away: resize them to one"
        )
    key = _entries("real", len(real), real_names, finding_real)
    key += _entries("generated", len(generated), generated_names, finding_generated)
    order = np.random.default_rng(seed).permutation(len(key))
    pngs = [_encode(film) for film in np.concatenate(list(films.values()))[order]]
    hidden = json.dumps([key[i] for i in order], ensure_ascii=False).encode()
    page = _render(title, pngs, hidden, len(generated) / len(key))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _checked(which: str, films: np.ndarray) -> np.ndarray:
    """The films as uint8 `(n, h, w)`."""
    films = np.asarray(films)
    if films.ndim != 3 or 0 in films.shape[1:]:
        raise UserError(f"blinded page: {which} has shape {films.shape}; expected gray films (n, h, w)")
    if not len(films):
        raise UserError(f"blinded page: {which} holds no film; a reading needs at least one real and one generated")
    if films.dtype.kind != "f":
        raise UserError(f"blinded page: {which} has dtype {films.dtype}; expected float in [0, 1]: divide by 255 first")
    if not np.isfinite(films).all():
        raise UserError(f"blinded page: {which} holds NaN or infinite gray values; leave those films out")
    low, high = float(films.min()), float(films.max())
    if low < -_SLACK or high > 1.0 + _SLACK:
        raise UserError(f"blinded page: {which} has gray values in [{low:g}, {high:g}]; expected [0, 1]: rescale first")
    return gray_to_uint8(films)


def _entries(which: str, count: int, names: Sequence[str], findings: Sequence[str]) -> list[dict[str, str]]:
    """One set's part of the key, a film each."""
    for what, given in (("names", names), ("findings", findings)):
        if len(given) != count:
            raise UserError(f"blinded page: {len(given)} {what} for {count} films of {which}; give one a film")
    return [
        {"truth": which, "name": str(name), "finding": str(finding)}
        for name, finding in zip(names, findings, strict=True)
    ]


def _encode(pixels: np.ndarray) -> bytes:
    """An uncompressed PNG without a text chunk: generated films are often smoother, and would compress to less."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


def _render(title: str, pngs: list[bytes], key: bytes, share: float) -> str:
    digest = hashlib.sha256(key + b"".join(pngs)).hexdigest()[:16]
    return (
        templates.environment()
        .get_template("synthesis/blinded.html.j2")
        .render(
            title=title,
            films=[data_uri(png) for png in pngs],
            share="About half" if 0.4 <= share <= 0.6 else "Some",
            notice=NOTICE,
            about={"id": digest, "title": title, "notice": NOTICE},
            key=base64.b64encode(key).decode("ascii"),
        )
    )
