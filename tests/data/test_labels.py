"""The label contract: 1 present, 0 absent, NaN unknown."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.data.labels import select
from cxrjax.errors import UserError

COLUMNS = ("Effusion", "Mass")
NAN = np.nan
LABELS = np.array([[0, 0], [1, 0], [1, NAN], [0, NAN], [NAN, NAN], [1, 1]], np.float32)


def test_columns_are_picked_by_name_in_the_order_asked():
    np.testing.assert_array_equal(select(LABELS, COLUMNS, ("Mass", "Effusion")), LABELS[:, ::-1])


def test_normal_follows_where_it_can_be_known():
    out = select(LABELS, COLUMNS, ("Normal",))
    np.testing.assert_array_equal(out[:, 0], [1, 0, 0, NAN, NAN, 0])
    assert out.dtype == np.float32


def test_unknown_class_has_a_suggestion():
    with pytest.raises(UserError, match=r"'effusion' is not a label.*did you mean 'Effusion'"):
        select(LABELS, COLUMNS, ("effusion",))
