"""The blinded reading: one page of real and generated films in random order, its key and score only at the end."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from cxrjax.report import templates
from cxrjax.report.draw.png import NOTICE, data_uri


def write(path: Path, films: np.ndarray, key: list[dict[str, str]], title: str, seed: int = 0) -> Path:
    """Writes one HTML file on which a reader marks each film as real or generated, and then sees the key and the score.

    The page loads nothing and opens from a disk. Its PNGs are uncompressed, all of one length, and carry no mark of
    the synthetic ones: the text at the top says that there are some, and the key which. The key is in the page as
    base64: hidden from the eye, not from who decodes it.

    Args:
      path: where to write.
      films: (n, h, w) uint8.
      key: of each film its `truth`, "real" or "generated", its `name`, and its `finding`, which may be empty.
      title: the page's heading, shown before the reading: it must not name the films.
      seed: of the films' order.

    Returns:
      `path`.
    """
    order = np.random.default_rng(seed).permutation(len(key))
    pngs = [_encode(film) for film in films[order]]
    hidden = json.dumps([key[i] for i in order], ensure_ascii=False).encode()
    share = sum(entry["truth"] == "generated" for entry in key) / len(key)
    digest = hashlib.sha256(hidden + b"".join(pngs)).hexdigest()[:16]
    template = templates.environment().get_template("synthesis/blinded.html.j2")
    page = template.render(
        title=title,
        films=[data_uri(png) for png in pngs],
        share="About half" if 0.4 <= share <= 0.6 else "Some",
        notice=NOTICE,
        about={"id": digest, "title": title, "notice": NOTICE},
        key=base64.b64encode(hidden).decode("ascii"),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _encode(pixels: np.ndarray) -> bytes:
    """An uncompressed PNG without a text chunk: generated films are often smoother, and would compress to less."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()
