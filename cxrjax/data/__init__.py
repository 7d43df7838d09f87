"""One way in: sources are checked and written as records of a tfds data set, grain reads them."""

from cxrjax.data import labels
from cxrjax.data.pipeline import Field, batches, eval_batches, films
from cxrjax.data.preparation import Prepared, begun, merge, prepare, prepare_shard, with_classes

__all__ = [
    "Field", "Prepared", "batches", "begun", "eval_batches", "films", "labels", "merge", "prepare", "prepare_shard",
    "with_classes",
]  # fmt: skip
