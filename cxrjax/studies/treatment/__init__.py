"""Treated films: how normal they look, how much of the patient is left, and where they differ from the patient's."""

from cxrjax.studies.study import Study
from cxrjax.studies.treatment import anomaly, study

PROGRESS = Study(study.check, study.check_films, study.run)
ANOMALY = Study(anomaly.check, anomaly.check_films, anomaly.run, by_boxes=True)
