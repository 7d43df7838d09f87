"""What a paper's table or figure needs after training: the studies, by the name that a config gives."""

from cxrjax.studies import classification, synthesis, treatment
from cxrjax.studies.study import Study

STUDIES: dict[str, Study] = {
    "progress": treatment.PROGRESS,
    "anomaly": treatment.ANOMALY,
    "comparison": classification.COMPARISON,
    "phase_loss": classification.PHASE_LOSS,
    "pneumonia": classification.PNEUMONIA,
    "synthesis": synthesis.SYNTHESIS,
}
