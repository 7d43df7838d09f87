"""Generated films as files: one PNG each, and a contact sheet of all of them, every file marked as synthetic."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cxrjax.files import name_of
from cxrjax.report import dicom
from cxrjax.report.draw.png import MARKS, save_synthetic_png
from cxrjax.report.draw.style import STYLE, across

ACROSS = 8


def write_films(folder: Path, films: np.ndarray, finding: str, source: str, seed: int, as_dicom: bool = False) -> Path:
    """Writes `FINDING-00000.png`, ... and `contact_sheet.png`.

    Args:
      folder: made if absent.
      films: (n, s, s) uint8.
      finding: what was asked for; in the names, as far as a name can hold it, and in the text of every file.
      source: the run that made them.
      seed: of their noise.
      as_dicom: whether to write them as Secondary Capture too, in `dicom/`.

    Returns:
      The path of the contact sheet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{name_of(finding)}-{i:05d}" for i in range(len(films))]
    for i, (name, film) in enumerate(zip(names, films, strict=True)):
        text = {"Finding": finding, "Source": source, "Seed": str(seed), "Number": str(i)}
        save_synthetic_png(folder / f"{name}.png", film / 255.0, **text)
    if as_dicom:
        named = {name: film / 255.0 for name, film in zip(names, films, strict=True)}
        dicom.write_captures(folder / "dicom", named, dicom.study_of(), finding, dicom.FIRST)
    path = folder / "contact_sheet.png"
    with matplotlib.rc_context(STYLE):
        sheet(films, finding).savefig(path, dpi=130, metadata=MARKS)
    return path


def sheet(films: np.ndarray, finding: str) -> Figure:
    """All films (n, s, s) uint8 in rows, under a title that says that they are synthetic."""
    columns = across(len(films), ACROSS)
    rows = -(-len(films) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.25 * rows + 0.4))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, film in zip(grid.ravel(), films, strict=False):
        axes.imshow(film, cmap="gray", vmin=0, vmax=255)
    figure.suptitle(f"{finding.replace('_', ' ')}: synthetic films, no patients; not for diagnosis", fontsize=9)
    return figure
