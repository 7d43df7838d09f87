"""A study's tables are checked, and reach the terminal in their own order."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cxrjax.errors import UserError
from cxrjax.report import papers, tables
from cxrjax.report.read import Run


def _run(*listed: object) -> Run:
    return Run(Path("run"), {}, [], [], None, {}, results={"tables": list(listed)})


def test_terminal_shows_the_tables_in_order_with_brackets_as_text(study_dir: Path) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=140).print(*tables(study_dir), sep="\n")
    text = buffer.getvalue()
    assert text.index("Systems beside the paper") < text.index("Paired differences to logreg32")
    for part in ("fcn [5 folds]", "[private]", "0.900 [0.870, 0.930]", "0.9412", "—"):
        assert part in text
    assert "nan" not in text.lower()
    assert "None" not in text


@pytest.mark.parametrize(
    ("cell", "figure"),
    [
        ({"value": 0.5}, True),
        (0.5, True),
        ("0.8413", True),
        ("94 %", True),
        ("3 hospitals", False),
        ("NIH", False),
        (None, False),
    ],
)
def test_printed_numbers_stand_with_numbers_and_words_with_words(cell: object, figure: bool) -> None:
    (table,) = papers.tables(_run({"columns": ["a"], "rows": [{"name": "x", "cells": [cell]}]}))
    assert table.figures == [figure]


def test_a_column_for_the_names_may_head_them() -> None:
    rows = [{"name": "x", "cells": [1.0]}]
    (table,) = papers.tables(_run({"columns": ["system", "AUROC"], "rows": rows}))
    assert (table.corner, table.columns) == ("system", ["AUROC"])


def test_a_malformed_table_is_told_with_its_place() -> None:
    good = {"columns": ["a", "b"], "rows": [{"name": "x", "cells": [1, 2]}, {"name": "y", "cells": [1]}]}
    with pytest.raises(UserError, match=r"results\.json, tables\[0\], row 'y': 1 cells for 2 columns"):
        papers.tables(_run(good))
    with pytest.raises(UserError, match=r"tables\[1\]: expected title, note, columns and rows"):
        papers.tables(_run({"columns": [], "rows": []}, {"title": "no rows"}))
    run = Run(Path("run"), {}, [], [], None, {}, results=json.loads('{"tables": {"a": 1}}'))
    with pytest.raises(UserError, match="tables is no list"):
        papers.tables(run)
