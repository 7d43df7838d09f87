"""Errors meant for people. Imports nothing, so that the report and the launcher can name them without loading jax."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the person at the keyboard can mend; the launcher prints it in one line and exits with 2.

    The message names the file, the key or the value, says what was expected and what to do.
    """
