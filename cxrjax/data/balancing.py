"""Balanced epochs: every class as often as the largest, which films come once more drawn anew in every epoch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from cxrjax.errors import UserError


def groups(labels: np.ndarray, positions: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    """Parts positions by class.

    Args:
      labels: (n, k) float; each row has exactly one 1, or k is 1 and a row is 0 or 1.
      positions: (n,) int.
      names: (k,) what the columns are called.

    Returns:
      k arrays of positions, or two where k is 1: without and with the class.

    Raises:
      UserError: a film has no class, several or an unknown one; or a class has no film.
    """
    names = tuple(names)
    if labels.shape[1] == 1:
        labels = np.concatenate([1 - labels, labels], axis=1)
        names = (f"not {names[0]}", *names)
    exclusive = ((labels == 1).sum(axis=1) == 1) & ((labels == 0).sum(axis=1) == len(names) - 1)
    if not exclusive.all():
        raise UserError(
            f"balance needs classes of which a film has exactly one; {int((~exclusive).sum())} of {len(labels)} films "
            f"have none or several of {', '.join(names)}, or it is unknown"
        )
    out = [positions[labels[:, j] == 1] for j in range(len(names))]
    if lost := [name for name, group in zip(names, out, strict=True) if not len(group)]:
        raise UserError(f"balance: no film is {', '.join(lost)}")
    return out


def slots(parts: list[np.ndarray], seed: int) -> tuple[np.ndarray, Callable[[int, np.ndarray], np.int64]]:
    """The elements of a balanced epoch and what each is.

    Args:
      parts: k arrays of positions.
      seed: decides which films of a smaller part come once more.

    Returns:
      (k m, 2) int, part and place of each element, where m is the size of the largest part; and the function of an
      element's number over all epochs and its row that gives the film's position.
    """
    size = max(map(len, parts))
    table = np.stack(np.meshgrid(np.arange(len(parts)), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)

    @functools.lru_cache(maxsize=4 * len(parts))
    def order(epoch: int, part: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch, part]).permutation(parts[part])

    def pick(i: int, slot: np.ndarray) -> np.int64:
        part, place = (int(x) for x in slot)
        return order(i // len(table), part)[place % len(parts[part])]

    return table, pick
