"""Treated films: how normal they look, how much of the patient is left, and where they differ from the patient's."""

from cxrjax.studies.study import Study
from cxrjax.studies.treatment import anomaly, study

PROGRESS = Study(study.check, study.check_films, study.run, external=study.check_external)
ANOMALY = Study(anomaly.check, anomaly.check_films, anomaly.run, external=anomaly.check_external, by_boxes=True)
