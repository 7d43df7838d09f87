"""The faces of the studies, by the name that a config gives, and a workdir read through its study's."""

from __future__ import annotations

from pathlib import Path

from cxrjax.errors import lookup
from cxrjax.report import classification, synthesis, treatment
from cxrjax.report.face import Face
from cxrjax.report.read.workdir import Run, read_run

FACES: dict[str, Face] = {
    "progress": treatment.PROGRESS,
    "anomaly": treatment.ANOMALY,
    "comparison": classification.CLASSIFICATION,
    "phase_loss": classification.CLASSIFICATION,
    "pneumonia": classification.CLASSIFICATION,
    "synthesis": synthesis.SYNTHESIS,
}
_NO_STUDY = "manifest.json names no study: this page holds only what every run leaves."


def read(workdir: Path) -> tuple[Face, Run]:
    """The face of a run's study, and the run with what that study left.

    Raises:
      UserError: no manifest, a study without a face, or a file that cannot be read.
    """
    run = read_run(workdir)
    if "name" not in run.study:
        run.notes.append(_NO_STUDY)
        return Face({}), run
    face = lookup(FACES, str(run.study["name"]), f"{run.workdir / 'manifest.json'}: config.study.name")
    return face, face.read(run)
