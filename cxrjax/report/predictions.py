"""What a trained classifier says of one's own films, as files: a table, JSON, maps over the films, and a page."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from cxrjax import files
from cxrjax.report import templates
from cxrjax.report.draw.overlay import cam_overlay
from cxrjax.report.draw.png import data_uri, encode_png

if TYPE_CHECKING:
    from cxrjax.infer.predict import Prediction, Predictor

SHOWN = 100  # films on the page, which is to stay under 10 MB
SIDE = 160  # pixels of a film on the page, at most
_NORMAL = ("normal", "no finding", "no_finding")  # as in metrics.operating, which needs jax
CAUTION = "For research. Not for diagnosis."


class Row(NamedTuple):
    """A film on the page: its name, what is said of it, pictures as data URIs with what they show, and what it is
    sorted by: the highest probability of a class but Normal."""

    name: str
    said: dict[str, Any]
    pictures: list[tuple[str, str]]
    highest: float


def write(
    folder: Path, predictor: Predictor, said: Iterable[Prediction], source: str, command: str,
    as_dicom: Callable[..., None] | None = None,
) -> tuple[Path, int]:  # fmt: skip
    """Writes `predictions.csv`, `predictions.json`, `maps/*.png` and `report.html`.

    A line of the table is on the disk as soon as its film is answered.

    Args:
      folder: made if absent.
      predictor: what answers, for its classes and operating point.
      said: of each film.
      source: the run.
      command: that was given.
      as_dicom: `dicom.write_film`, where maps are wanted as DICOM files too.

    Returns:
      The page's path, and how many films could not be answered.
    """
    point, classes = predictor.operating, predictor.classes
    films: list[dict[str, Any]] = []
    rows: list[Row] = []
    with ExitStack() as held:
        table: Any = None
        for i, one in enumerate(said):
            if table is None:  # not before the first answer: a mistake leaves nothing behind
                folder.mkdir(parents=True, exist_ok=True)
                file = held.enter_context((folder / "predictions.csv").open("w", newline="", encoding="utf-8"))
                table = csv.DictWriter(file, header(predictor), restval="")
                table.writeheader()
            paths = {name: f"maps/{i:05d}-{one.path.stem}-{files.name_of(name)}.png" for name in one.heat}
            entry = _entry(one, classes, paths)
            films.append(entry)
            table.writerow(_line(entry))
            file.flush()
            over = {name: _over(one.shown, heat) for name, heat in one.heat.items()}
            for name, picture in over.items():
                (folder / paths[name]).parent.mkdir(exist_ok=True)
                (folder / paths[name]).write_bytes(
                    encode_png(picture, synthetic=False, Notice=CAUTION, Map=name, Source=source)
                )
            if as_dicom and one.heat:
                words = f"map of {predictor.name}"
                masks = {f"{words}: {name}": heat for name, heat in one.heat.items()}
                as_dicom(folder / "dicom" / f"{i:05d}-{one.path.stem}", one.path, one.shown / 255.0, words, masks=masks)
            if not one.fault and len(rows) < SHOWN:
                pictures = [("film", one.shown), *(((f"map of {name}"), picture) for name, picture in over.items())]
                found = [p for name, p in entry["probability"].items() if name.lower() not in _NORMAL]
                small = [(what, _small(pixels)) for what, pixels in pictures]
                rows.append(Row(str(one.path), entry, small, max(found, default=0.0)))
    failed = [(film["film"], film["fault"]) for film in films if film["fault"]]
    about = {
        "notice": CAUTION, "run": source, "classifier": predictor.name, "classes": classes,
        "temperature": point.temperature, "set_aside_below": point.aside, "operating_point": point.words,
        "thresholds": dict(zip(classes, point.thresholds, strict=False)),
    }  # fmt: skip
    files.write_json(folder / "predictions.json", {**about, "films": films})
    page = templates.environment().get_template("predictions.html.j2").render(
        about=about, rows=rows, failed=failed, total=len(films), command=command,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path, len(failed)


def header(predictor: Predictor) -> list[str]:
    """The columns of `predictions.csv`."""
    calibrated = predictor.operating.temperature is not None
    return [
        "film", "fault", *predictor.classes, *(f"{name} calibrated" for name in predictor.classes if calibrated),
        "called", *(["set aside"] if predictor.operating.aside is not None else []), "maps", "gray by",
    ]  # fmt: skip


def _entry(one: Prediction, classes: tuple[str, ...], paths: dict[str, str]) -> dict[str, Any]:
    def of(values: np.ndarray) -> dict[str, float]:
        return {name: round(float(value), 6) for name, value in zip(classes, values, strict=True)}

    if one.fault:
        return {"film": str(one.path), "fault": one.fault}
    return {
        "film": str(one.path), "fault": "", "probability": of(one.probability),
        "calibrated": None if one.calibrated is None else of(one.calibrated), "called": list(one.called),
        "set_aside": one.set_aside, "maps": paths, "gray_by": one.by,
    }  # fmt: skip


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["fault"]:
        return entry
    calibrated = {f"{name} calibrated": value for name, value in (entry["calibrated"] or {}).items()}
    aside = {} if entry["set_aside"] is None else {"set aside": "yes" if entry["set_aside"] else "no"}
    return {
        "film": entry["film"], **entry["probability"], **calibrated, **aside, "called": "|".join(entry["called"]),
        "maps": "|".join(entry["maps"].values()), "gray by": entry["gray_by"],
    }  # fmt: skip


def _over(film: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A film (h, w) uint8 under a map of any size: (h, w, 3) uint8."""
    large = Image.fromarray(np.asarray(heat, np.float32)).resize(film.shape[::-1], Image.Resampling.BILINEAR)
    return cam_overlay(film / 255.0, np.asarray(large))


def _small(pixels: np.ndarray) -> str:
    """The data URI of a picture, made small."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return data_uri(encode_png(picture, synthetic=False))
