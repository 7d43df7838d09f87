"""Films of one's own under treatment, as files: treated films, differences, masks, strips, animations, and a page."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw

from cxrjax.report import templates
from cxrjax.report.draw.canvas import Sheet
from cxrjax.report.draw.overlay import DIFFERENCE_SPAN, cam_overlay, difference_sheet, resized
from cxrjax.report.draw.png import MARKS, NOTICE, SHORT_NOTICE, encode_png, gray_to_uint8, save_synthetic_png
from cxrjax.report.draw.style import color_of
from cxrjax.report.read.treatment import Films, Treated, Treatment
from cxrjax.report.summary import pretty
from cxrjax.report.treatment import TREATED, strips

if TYPE_CHECKING:
    from cxrjax.infer.progress import Progress

SHOWN = 12  # films on the page
SIDE = 512  # pixels of an animation's longer side, at most
FRAME = 700  # milliseconds
TILE = 1.6  # inches of a film in a strip


def write(
    folder: Path, mode: str, lambdas: Sequence[int], films: Iterable[Progress], source: str, command: str,
    animation: str = "gif", as_dicom: Callable[..., None] | None = None,
) -> tuple[Path, int]:  # fmt: skip
    """Writes `films/`, `differences/`, `masks/`, `strips/`, `animations/`, `progress.csv` and `report.html`.

    Every picture says in its metadata that it is synthetic; films and differences are of the films' own sizes.

    Args:
      folder: made if absent.
      mode: the arm.
      lambdas: rising.
      films: each at every lambda.
      source: the run.
      command: that was given.
      animation: "gif", "webp" or "none".
      as_dicom: `dicom.write_film`, where DICOM files are wanted too.

    Returns:
      The page's path, and how many films could not be treated.
    """
    rows: list[dict[str, Any]] = []
    failed: list[tuple[str, str]] = []
    shown: list[Progress] = []
    total = 0
    for i, one in enumerate(films):
        total += 1
        if one.fault:
            failed.append((str(one.path), one.fault))
            rows.append({"film": one.path, "fault": one.fault})
            continue
        text = {"Mode": mode, "Run": source}
        name = f"{i:05d}-{one.path.stem}"
        rows += _write_film(folder, name, one, lambdas, text, animation)
        if as_dicom:
            treated = {f"{lam:04d}": film for lam, film in zip(lambdas, one.own, strict=True)}
            masks, words = {f"mask of {mode}": one.mask}, f"treatment progress, {mode}"
            as_dicom(folder / "dicom" / name, one.path, one.original, words, masks=masks, treated=treated)
        if len(shown) < SHOWN:
            shown.append(one._replace(original=one.film, own=one.treated))  # what the page shows, and no more
    folder.mkdir(parents=True, exist_ok=True)
    judges = list(shown[0].normal) if shown else []
    with (folder / "progress.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["film", "fault", "lambda", *map(_normal, judges), "treated"], restval="")
        table.writeheader()
        table.writerows(rows)
    page = templates.environment().get_template("treatment/own.html.j2").render(
        strips=_strips(folder, mode, lambdas, shown), mode=mode, source=source, failed=failed, total=total,
        notice=TREATED, colors={mode: color_of(mode, [mode])}, judges={judge: pretty(judge) for judge in judges},
        span=DIFFERENCE_SPAN, command=command, written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path, len(failed)


def _normal(judge: str) -> str:
    return f"normal, {judge}"


def _write_film(
    folder: Path, name: str, one: Progress, lambdas: Sequence[int], text: dict[str, str], animation: str
) -> list[dict[str, Any]]:
    """The files of one film; its rows of the table."""
    rows: list[dict[str, Any]] = [{"film": one.path, "lambda": 0}]
    save_synthetic_png(folder / "masks" / f"{name}.png", resized(one.mask, one.original.shape), What="mask", **text)
    for lam, film in zip(lambdas, one.own, strict=True):
        file = f"films/{name}-{lam:04d}.png"
        save_synthetic_png(folder / file, film, Lambda=str(lam), **text)
        _save(
            folder / "differences" / f"{name}-{lam:04d}.png", difference_sheet(film - one.original),
            What="difference to the original", Lambda=str(lam), **text,
        )  # fmt: skip
        rows.append({"film": one.path, "lambda": lam, "treated": file})
    for judge, values in one.normal.items():
        for row, value in zip(rows, values, strict=True):
            row[_normal(judge)] = round(float(value), 6)
    strip = folder / "strips" / f"{name}.png"
    strip.parent.mkdir(exist_ok=True)
    _strip(one, lambdas).figure.savefig(strip, dpi=130, metadata={**MARKS, **text})
    if animation != "none":
        _animate(folder / "animations" / f"{name}.{animation}", one, lambdas)
    return rows


def _save(path: Path, picture: Image.Image, **text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture, synthetic=True, **text))


def _strip(one: Progress, lambdas: Sequence[int]) -> Sheet:
    """The film, its mask and the treated films in a row, the differences below."""
    step, top = TILE + 0.08, 0.55
    sheet = Sheet(0.16 + step * (2 + len(lambdas)), top + 2 * step + 0.1)
    film = gray_to_uint8(one.film)
    pictures = [("original", film), ("mask", cam_overlay(one.film, one.mask))]
    pictures += [(f"λ = {lam}", gray_to_uint8(treated)) for lam, treated in zip(lambdas, one.treated, strict=True)]
    for i, (words, pixels) in enumerate(pictures):
        sheet.text(0.08 + i * step, top - 0.14, words)
        sheet.film(pixels, 0.08 + i * step, top, TILE)
    for i, treated in enumerate(one.treated):
        change = np.asarray(difference_sheet(treated - one.film).convert("RGB"))
        sheet.film(change, 0.08 + (2 + i) * step, top + step, TILE)
    sheet.text(0.08, top + step + 0.2, "difference to the original:")
    sheet.text(0.08, top + step + 0.4, "blue darker, orange brighter")
    return sheet


def _animate(path: Path, one: Progress, lambdas: Sequence[int]) -> None:
    """The film and its treated films, one after the other and over again, with words on each frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [_frame(one.original, "original")]
    frames += [_frame(film, f"lambda {lam}: {SHORT_NOTICE}") for lam, film in zip(lambdas, one.own, strict=True)]
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = NOTICE
    mark: dict[str, Any] = {"comment": NOTICE.encode()} if path.suffix == ".gif" else {"exif": exif, "lossless": True}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME, loop=0, **mark)


def _frame(film: np.ndarray, words: str) -> Image.Image:
    picture = Image.fromarray(gray_to_uint8(film))
    picture.thumbnail((SIDE, SIDE))
    below = Image.new("L", (max(picture.width, 320), picture.height + 16))
    below.paste(picture, ((below.width - picture.width) // 2, 0))
    ImageDraw.Draw(below).text((4, picture.height + 2), words, fill=255)
    return below


def _strips(folder: Path, mode: str, lambdas: Sequence[int], shown: list[Progress]) -> strips.Strips | None:
    """The strips of a page, as a study's are made."""
    if not shown:
        return None
    n, judges = len(shown), list(shown[0].normal)
    normal = {judge: np.stack([one.normal[judge] for one in shown]) for judge in judges}  # (n, 1 + lambdas)
    treated = {
        lam: Treated({k: one.treated[i] for k, one in enumerate(shown)}, {j: p[:, i + 1] for j, p in normal.items()})
        for i, lam in enumerate(lambdas)
    }
    films = Films(
        key=np.array([one.path.name for one in shown]), disease=np.ones(n, bool), severity=np.full(n, np.nan),
        image=np.stack([one.film for one in shown]), cam=np.stack([one.mask for one in shown]), twin=None, lesion=None,
        probability={judge: p[:, 0] for judge, p in normal.items()},
    )  # fmt: skip
    built = strips.build(Treatment(folder, {}, [], [], films=films, treated={mode: treated}))
    assert built is not None
    built.live["rates"] = {}  # of films whose truth nobody told
    return built
