"""One way in: sources are checked and written as records of a tfds data set, grain reads them."""

from cxrjax.data import labels
from cxrjax.data.pipeline import Field, batches, eval_batches, films
from cxrjax.data.preparation import Prepared, prepare
from cxrjax.data.sources import classes_of

__all__ = ["Field", "Prepared", "batches", "classes_of", "eval_batches", "films", "labels", "prepare"]
