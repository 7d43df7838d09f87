"""Tables: a quote left open, a row too wide or a cell over two lines is told with its line, never read as something."""

from __future__ import annotations

import pytest

from cxrjax.data.sources import tables
from cxrjax.errors import UserError

COLUMNS = ("path", "label")


def write(tmp_path, text, name="t.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path,label\na,x\nb,"y\nc,z\n', r"t\.csv, line 3: the row that begins there is no CSV .*quote"),
        ('path,label\n"a,x\n' + "b,y\n" * 50_000, r"t\.csv, line 2: .*field limit.*quote"),  # over csv's own limit
        ('path,label\na,"x"y\n', r"t\.csv, line 2: .*no CSV"),
        ('path,label,note\na,"x,1\nb,y,2\nc,z",3\n', r"t\.csv, line 2: a cell goes on over the end of its line"),
        # A quote in a column that nobody asked for swallows rows as well.
        ('path,label,note\na,x,"1\nb,y,2\nc,z,3"\nd,x,4\n', r"t\.csv, line 2: a cell goes on"),
        ('path,label\r\na,x\r\nb,"y\r\nc"\r\n', r"t\.csv, line 3: a cell goes on"),
        ("path,label\na,x\nfilms,b.png,y\n", r"t\.csv, line 3: 3 cells under a header of 2.*comma"),
        ("path,label,label\na,x,y\n", "has 2 columns 'label'"),
        ("path,labels\na,x\n", "no column 'label'.*did you mean 'labels'"),
    ],
)
def test_rows_that_would_go_in_wrong_are_told_with_their_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        list(tables.rows(write(tmp_path, text), COLUMNS))


def test_rows_that_are_right_are_read(tmp_path):
    text = 'path,label,note,\r\n"a,1",x,"seen at night,\nas ""before""",\r\n\r\n,,,\r\nb,y\r\n'
    found = list(tables.rows(write(tmp_path, text), COLUMNS))
    assert [(row["path"], row["label"], row["note"]) for row in found] == [
        ("a,1", "x", 'seen at night,\nas "before"'),
        ("b", "y", ""),
    ]


def test_other_encodings_are_told(tmp_path):
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "t.csv").write_bytes("path,label\ncaf\u00e9,x\n".encode(encoding))
        with pytest.raises(UserError, match=r"t\.csv is no UTF-8 .*save it as UTF-8"):
            list(tables.rows(tmp_path / "t.csv", COLUMNS))
    (tmp_path / "t.csv").write_bytes("path,label\ncaf\u00e9,x\n".encode("utf-8-sig"))
    assert [row["path"] for row in tables.rows(tmp_path / "t.csv", COLUMNS)] == ["caf\u00e9"]


def test_cells_are_as_strict(tmp_path):
    assert tables.cells(write(tmp_path, "film,box [x,y,\na,1,2\n\nb,3,4\n")) == [["a", "1", "2"], ["b", "3", "4"]]
    for text in ('film,x\na,"1\nb,2\nc,3\n', 'film,x\n"a\nb",2\n'):
        with pytest.raises(UserError, match=r"t\.csv, line 2"):
            tables.cells(write(tmp_path, text))


def test_what_is_listed_again_says_the_same(tmp_path):
    facts = [("a", (1, "x")), ("b", (0, "x")), ("a", (1, "x"))]
    assert tables.once(tmp_path / "t.csv", facts) == {"a": (1, "x"), "b": (0, "x")}
    with pytest.raises(UserError, match=r"t\.csv lists a twice and differently"):
        tables.once(tmp_path / "t.csv", [*facts, ("a", (0, "x"))])
