"""The drawing of a page's figures to `figures/*.png`: those of every run, and those of its study's face."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image

from cxrjax.report import training
from cxrjax.report.draw.png import MARKS, data_uri
from cxrjax.report.draw.style import STYLE
from cxrjax.report.face import Face, Plot
from cxrjax.report.read.workdir import Run

OF_EVERY_RUN = {
    "losses": Plot(
        training.losses,
        "Training",
        "Training, phase by phase: the loss (thin: as logged; thick: centered running mean) and the evaluations.",
        place="last",
    ),
}


class Picture(NamedTuple):
    """A drawn figure as the page embeds it. `width` in CSS pixels makes its text as large as the page's small print."""

    name: str
    plot: Plot
    uri: str
    width: int


def save_all(run: Run, face: Face, folder: Path) -> list[Picture]:
    """Draws every figure that the run has data for to `folder/<name>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, plot in {**face.figures, **OF_EVERY_RUN}.items():
            path = folder / f"{name}.png"
            figure = plot.draw(run)
            if figure is None:
                path.unlink(missing_ok=True)  # a stale figure of an earlier report must not outlive its data
                continue
            figure.savefig(path, dpi=plot.dpi, metadata=MARKS if plot.generated else None)
            with Image.open(path) as picture:
                width = round(105 * picture.width / plot.dpi)
            written.append(Picture(name, plot, data_uri(path.read_bytes()), width))
    return written
