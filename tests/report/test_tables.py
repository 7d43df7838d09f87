"""A study's tables are checked, and reach the terminal in their own order."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cxrjax.errors import UserError
from cxrjax.report import rich_tables, tables
from cxrjax.report.read.workdir import Run


def _run(*listed: object) -> Run:
    return Run(Path("run"), {}, [], [], results={"tables": list(listed)})


def test_terminal_shows_the_tables_in_order_with_brackets_as_text(study_dir: Path) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=140).print(*rich_tables(study_dir), sep="\n")
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
    (table,) = tables.tables(_run({"columns": ["a"], "rows": [{"name": "x", "cells": [cell]}]}))
    assert table.figures == [figure]


def test_a_column_for_the_names_may_head_them() -> None:
    rows = [{"name": "x", "cells": [1.0]}]
    (table,) = tables.tables(_run({"columns": ["system", "AUROC"], "rows": rows}))
    assert (table.corner, table.columns) == ("system", ["AUROC"])


def test_a_unit_that_a_column_shares_is_told_once_in_its_head() -> None:
    cells = [{"value": 0.5, "unit": "s"}, {"value": 1.5, "unit": "1"}, {"value": 2.5, "unit": "mm"}]
    other = [{"value": 0.7, "unit": "s"}, None, {"value": 3.5, "unit": "cm"}]
    rows = [{"name": "x", "cells": cells}, {"name": "y", "cells": other}]
    (table,) = tables.tables(_run({"columns": ["time", "share", "size"], "rows": rows}))
    assert table.columns == ["time (s)", "share", "size"]
    assert [cell.text for cell in table.rows[0][1]] == ["0.500", "1.500", "2.500 mm"]


def test_paired_differences_of_errors_have_a_verdict() -> None:
    entries = [{"value": v, "low": v - 0.1, "high": v + 0.1} for v in (-0.2, 0.2, 0.05)]
    rows = [{"name": str(i), "cells": [entry, entry]} for i, entry in enumerate(entries)]
    (table,) = tables.tables(_run({"columns": ["AUROC", "change minus uniform, paired"], "rows": rows}))
    assert [[cell.verdict for cell in cells] for _, cells in table.rows] == [["", "better"], ["", "worse"], ["", ""]]
    assert [cells[1].text for _, cells in table.rows] == ["−0.200", "+0.200", "+0.050"]


def test_a_difference_of_what_is_better_when_more_has_the_other_verdict() -> None:
    entries = [{"value": v, "low": v - 0.1, "high": v + 0.1} for v in (-0.2, 0.2, 0.05)]
    rows = [{"name": str(i), "cells": [entry, entry]} for i, entry in enumerate(entries)]
    columns = ["re-identification, more is better", "change, less is better"]
    (table,) = tables.tables(_run({"columns": columns, "rows": rows}))
    verdicts = [[cell.verdict for cell in cells] for _, cells in table.rows]
    assert verdicts == [["worse", "better"], ["better", "worse"], ["", ""]]
    assert table.rows[1][1][0].text == "+0.200"


def test_terminal_shows_the_differences_of_a_treatments_wide_ranking(tmp_path: Path) -> None:
    columns = ["change", "second", "third", "fourth", "fifth", "sixth, paired", "seventh", "last"]
    ranking = {"title": "Ranked", "columns": columns, "rows": [{"name": "arm", "cells": [0.5] * 8}]}
    (tmp_path / "results.json").write_text(json.dumps({"tables": [ranking]}))
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"study": {"name": "progress"}}}))
    (table,) = rich_tables(tmp_path)
    assert [column.header for column in table.columns] == ["", "change", "second", "sixth, paired", "last"]


def test_a_malformed_table_is_told_with_its_place() -> None:
    good = {"columns": ["a", "b"], "rows": [{"name": "x", "cells": [1, 2]}, {"name": "y", "cells": [1]}]}
    with pytest.raises(UserError, match=r"results\.json, tables\[0\], row 'y': 1 cells for 2 columns"):
        tables.tables(_run(good))
    with pytest.raises(UserError, match=r"tables\[1\]: expected title, note, columns and rows"):
        tables.tables(_run({"columns": [], "rows": []}, {"title": "no rows"}))
    run = Run(Path("run"), {}, [], [], results=json.loads('{"tables": {"a": 1}}'))
    with pytest.raises(UserError, match="tables is no list"):
        tables.tables(run)
