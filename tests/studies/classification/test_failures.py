"""Which films a page shows as failures: those called wrong, the surest first."""

from __future__ import annotations

import numpy as np

from cxrjax.studies.classification import failures


def test_of_exclusive_classes_the_least_probable_truths_come_first() -> None:
    probability = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.0, 0.0, 1.0]])
    label = np.eye(3)[[1, 0, 0, 0, 2]]
    label[4] = np.nan
    rows, column, error = failures.worst(label, probability, exclusive=True)
    assert rows.tolist() == [1, 0, 3]  # the third is right, though it is unsure; the last is not known
    assert column.tolist() == [1, 0, 1]
    np.testing.assert_allclose(error, [0.95, 0.9, 0.7])


def test_of_findings_the_greatest_error_counts_and_an_unknown_label_is_none() -> None:
    probability = np.array([[0.2, 0.9], [0.99, 0.1], [0.6, 0.6], [0.4, 0.3]])
    label = np.array([[1, 1], [np.nan, 0], [1, 0], [0, 0]])
    rows, column, error = failures.worst(label, probability, exclusive=False)
    assert rows.tolist() == [0, 2]
    assert column.tolist() == [0, 1]
    np.testing.assert_allclose(error, [0.8, 0.6])
