"""The templates that pages are made of, under one set of rules: what is undefined is an error, and text is escaped."""

from __future__ import annotations

from pathlib import Path

import jinja2

HERE = Path(__file__).parent


def environment() -> jinja2.Environment:
    """A fresh environment over this folder's templates."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
