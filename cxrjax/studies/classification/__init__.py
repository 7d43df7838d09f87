"""Classifiers side by side: their figures beside the floor's and the paper's, and each paper's own questions."""

from cxrjax.studies.classification import comparison, external, phase_loss, pneumonia, predictions
from cxrjax.studies.study import Study

COMPARISON = Study(comparison.check, comparison.check_films, comparison.run, predictions.write, external.check)
PHASE_LOSS = Study(phase_loss.check, phase_loss.check_films, phase_loss.run, predictions.write, external.check)
PNEUMONIA = Study(comparison.check, comparison.check_films, pneumonia.run, predictions.write, external.check)
