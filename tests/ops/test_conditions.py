"""One finding a film: the priority rule, and the paper's class counts from the benchmark's test list."""

import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax.data.labels import CHESTXRAY14
from cxrjax.data.sources import nih_lists
from cxrjax.errors import UserError
from cxrjax.ops import conditions

CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
RANK = conditions.ranks(CLASSES)


def label(*findings):
    return jnp.asarray([[float(name in findings) for name in CLASSES]])


def first(label):
    code = np.asarray(conditions.first_of(label, RANK))
    assert code.sum() == 1
    return CLASSES[int(code.argmax())]


def test_a_film_of_several_findings_is_that_of_the_first_in_priority():
    for i, name in enumerate(conditions.PRIORITY):  # with every finding after it
        assert first(label(*conditions.PRIORITY[i:])) == name
    assert first(label("Atelectasis", "Infiltration", "Pneumothorax")) == "Infiltration"
    assert first(label("Pneumothorax", "Atelectasis")) == "Atelectasis"


def test_the_order_is_the_one_that_is_given():
    rank = conditions.ranks(CLASSES, tuple(reversed(conditions.PRIORITY)))
    code = np.asarray(conditions.first_of(label(*CLASSES), rank))
    assert np.array_equal(code, label("Pneumothorax"))


def test_an_unknown_label_is_an_absent_one():
    unknown = label("Pneumonia", "Mass").at[0, CLASSES.index("Pneumonia")].set(jnp.nan)
    assert first(unknown) == "Mass"
    nothing = jnp.full((1, 8), jnp.nan)
    assert np.array_equal(conditions.first_of(nothing, RANK), np.zeros((1, 8)))


def test_a_film_without_a_finding_has_the_zero_condition_or_the_last_of_nine():
    code = conditions.first_of(jnp.concatenate([label(), label("Nodule", "Atelectasis")]), RANK)
    assert np.array_equal(code, np.concatenate([label(), label("Nodule")]))
    nine = np.asarray(conditions.with_normal(code))
    assert np.array_equal(nine.sum(axis=1), [1, 1])
    assert np.array_equal(nine.argmax(axis=1), [8, CLASSES.index("Nodule")])
    assert np.array_equal(conditions.number(code), [8, CLASSES.index("Nodule")])
    assert conditions.number(code).dtype == jnp.int32


def test_classes_may_be_some_of_the_order_but_none_beside_it():
    rank = conditions.ranks(("Pneumothorax", "Mass", "Effusion"))
    code = conditions.first_of(jnp.asarray([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), rank)
    assert np.array_equal(code, [[0, 1, 0], [0, 0, 1]])
    with pytest.raises(UserError, match="Hernia"):
        conditions.ranks(("Mass", "Hernia"))


def test_the_test_list_of_the_benchmark_gives_the_class_counts_of_the_paper(films_root):
    lists = nih_lists.benchmark([films_root / "nih" / "lists"], strict=True)
    test = lists.labels[np.asarray(lists.given) == "test"]
    chosen = test[:, [CHESTXRAY14.index(name) for name in CLASSES]]
    code = np.asarray(conditions.first_of(jnp.asarray(chosen), RANK))
    counts = code.sum(axis=0).astype(int)
    assert tuple(counts) == (1101, 575, 2494, 3013, 729, 774, 242, 539)
    assert tuple(np.minimum(counts, 1000)) == (1000, 575, 1000, 1000, 729, 774, 242, 539)
    assert int((np.asarray(conditions.number(jnp.asarray(code))) == 8).sum()) == 12_966
