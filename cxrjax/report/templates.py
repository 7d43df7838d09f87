"""The templates that pages are made of, under one set of rules: what is undefined is an error, and text is escaped."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

_HERE = Path(__file__).parent


def environment() -> jinja2.Environment:
    """A fresh environment over this folder's templates; those of a study are named with its folder."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A style sheet or script of this folder, to stand in a page as it is.
    found.globals["file"] = lambda name: Markup((_HERE / name).read_text(encoding="utf-8"))
    return found
