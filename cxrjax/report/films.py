"""The page of a check of films, and its lines: what there is, what would stop a run, a contact sheet a class."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxrjax.report import templates
from cxrjax.report.draw.png import data_uri, encode_png

if TYPE_CHECKING:
    from cxrjax.data.survey import Survey

ACROSS = 8
SHOWN = 5
GAP = 2  # pixels between films


def write(folder: Path, found: Survey, command: str) -> Path:
    """Writes `report.html`, which opens offline, and `films.csv`, every film or sentence that is told of, by kind.

    Args:
      folder: made if absent.
      found: the survey.
      command: that was given.

    Returns:
      The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "films.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "stops a run", "film"])
        for stops, kinds in (("yes", found.faults), ("no", found.notes)):
            writer.writerows([kind, stops, what] for kind, items in kinds.items() for what in items)
    sheets = [(kind, len(sheet.keys), _tiled(sheet.films)) for kind, sheet in found.sheets.items()]
    page = templates.environment().get_template("films.html.j2").render(
        found=found, columns=columns(found), command=command, facts=facts(found), shown=SHOWN,
        sheets=[(kind, n, image.shape[1], data_uri(encode_png(image, synthetic=False))) for kind, n, image in sheets],
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def lines(found: Survey) -> list[str]:
    """The check in lines for a terminal."""
    out = [f"{found.name}: {found.total} films, labels {found.label_version}"]
    for part, kinds in found.counts.items():
        by = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        out.append(f"  {part}: {found.films[part]} films of {found.patients[part]} known patients: {by}")
    out += [f"  {name}: {said}" for name, said in facts(found)]
    out += [f"  note: {warning}" for warning in found.warnings]
    for what, told in (("look at", found.notes), ("would stop a run", found.faults)):
        for kind, items in told.items():
            out.append(f"{what}: {len(items)} {kind}: {'; '.join(items[:SHOWN])}{'; ...' * bool(items[SHOWN:])}")
    return out


def columns(found: Survey) -> list[str]:
    """The classes, and what else some film is."""
    return list(dict.fromkeys(kind for kinds in found.counts.values() for kind in kinds))


def facts(found: Survey) -> list[tuple[str, str]]:
    """Sizes, depths and people, as rows."""

    def said(count: dict[str, int]) -> str:
        shown = [f"{n} of {what}" for what, n in list(count.items())[:SHOWN]]
        return ", ".join([*shown, *([f"{len(count) - SHOWN} more"] if len(count) > SHOWN else [])])

    rows = [("sizes, height x width", said(found.sizes)), ("depth", said(found.bits))]
    rows += [("DICOM values became gray by", said(found.shown)), *found.who.items()]
    if found.nameless:
        rows.append(("films of unknown patient", f"{found.nameless}: each counts as a patient of its own"))
    return [(name, words) for name, words in rows if words]


def _tiled(films: np.ndarray) -> np.ndarray:
    """Films (n, s, s) uint8 beside and below one another."""
    across = min(ACROSS, len(films))
    rows, side = -(-len(films) // across), films.shape[1] + GAP
    out = np.zeros((rows * side - GAP, across * side - GAP), np.uint8)
    for i, film in enumerate(films):
        y, x = divmod(i, across)
        out[y * side : y * side + film.shape[0], x * side : x * side + film.shape[1]] = film
    return out
