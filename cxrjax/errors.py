"""Errors meant for people. Imports nothing, so that the report and the launcher can name them without loading jax."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A mistake that the person at the keyboard can mend; the launcher prints it in one line and exits with 2.

    The message names the file, the key or the value, says what was expected and what to do.
    """

    told = False  # whether another process of the run prints it


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """The end of a message: `; did you mean 'x'?` for the nearest of `names`, or nothing where none is near."""
    near = difflib.get_close_matches(str(name), list(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`, or a UserError that says what was asked for, the nearest name and all of them."""
    if name in table:
        return table[name]
    raise UserError(f"{what} is {name!r}: expected one of {', '.join(table)}{did_you_mean(name, table)}")
