"""Labels of several findings as a condition of one: which finding a film is said to show."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cxrjax.errors import UserError

Array = jax.Array

# The only order, but for the second and third place, that gives the class counts of the paper's FDD table from the
# benchmark's test list.
PRIORITY = (
    "Pneumonia", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Atelectasis", "Pneumothorax",
)  # fmt: skip
NORMALS = ("zero_vector", "drop", "ninth_class")
NORMAL = "Normal"


def ranks(classes: Sequence[str], priority: Sequence[str] = PRIORITY) -> tuple[int, ...]:
    """The place of each class in the order of priority.

    Raises:
      UserError: a class has no place in it.
    """
    missing = [name for name in classes if name not in priority]
    if missing:
        raise UserError(f"priority has no place for {', '.join(missing)}; add it to the phase's priority")
    return tuple(tuple(priority).index(name) for name in classes)


def first_of(label: Array, rank: Sequence[int]) -> Array:
    """Labels (b, k), 1, 0 or NaN -> one-hot (b, k) of the present class of least rank; zero where none is present."""
    place = jnp.where(label == 1, jnp.asarray(rank)[None, :], len(rank) + max(rank))  # (b, k)
    first = jax.nn.one_hot(place.argmin(axis=-1), label.shape[-1])
    return first * (label == 1).any(axis=-1, keepdims=True)


def number(code: Array) -> Array:
    """One-hot (b, k) -> (b,) int32, k for a zero row."""
    return jnp.where(code.any(axis=-1), code.argmax(axis=-1), code.shape[-1]).astype(jnp.int32)


def with_normal(code: Array) -> Array:
    """(b, k) -> (b, k + 1), the last column 1 where all others are 0."""
    return jnp.concatenate([code, 1.0 - code.any(axis=-1, keepdims=True)], axis=-1)
