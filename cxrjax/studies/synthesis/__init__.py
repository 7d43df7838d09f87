"""Generated films: how far they are from patients', what they show, what they are good for."""

from cxrjax.studies.study import Study
from cxrjax.studies.synthesis import study

SYNTHESIS = Study(study.check, study.check_films, study.run)
