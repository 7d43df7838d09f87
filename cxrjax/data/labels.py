"""The label contract, written once: 1 present, 0 absent, NaN unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxrjax.errors import UserError, did_you_mean

# The 14 findings in ChestX-ray14's usual order (Rajpurkar et al. 2017), so that columns line up with public lists.
CHESTXRAY14 = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
FINDINGS = (*CHESTXRAY14, "COVID-19", "Tuberculosis")
NORMAL = "Normal"


def select(labels: np.ndarray, columns: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Turns a data set's label columns into a task's classes.

    `Normal` is 1 where every column is 0, 0 where any is 1, and NaN where that cannot be known.

    Args:
      labels: (n, len(columns)) float; 1 present, 0 absent, NaN unknown.
      columns: the names of `labels`' columns.
      classes: the wanted names, each one of `columns` or `Normal`.

    Returns:
      (n, len(classes)) float32.

    Raises:
      UserError: a class is no column.
    """
    out = np.empty((len(labels), len(classes)), np.float32)
    for j, name in enumerate(classes):
        if name in columns:
            out[:, j] = labels[:, list(columns).index(name)]
        elif name == NORMAL:
            any_present = (labels == 1).any(axis=1)
            any_unknown = np.isnan(labels).any(axis=1)
            out[:, j] = np.where(any_present, 0.0, np.where(any_unknown, np.nan, 1.0))
        else:
            hint = did_you_mean(name, [*columns, NORMAL])
            raise UserError(f"class {name!r} is not a label of this data set (it has {', '.join(columns)}){hint}")
    return out
