"""Classifiers side by side: their figures beside the floor's and the paper's, and each paper's own questions."""

from cxrjax.studies.classification import comparison, phase_loss, pneumonia, predictions
from cxrjax.studies.study import Study

COMPARISON = Study(comparison.check, comparison.check_films, comparison.run, predictions.write)
PHASE_LOSS = Study(phase_loss.check, phase_loss.check_films, phase_loss.run, predictions.write)
PNEUMONIA = Study(comparison.check, comparison.check_films, pneumonia.run, predictions.write)
