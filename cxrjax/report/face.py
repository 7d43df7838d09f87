"""What the page and the terminal ask of a study: the face that each folder of the report shows for its studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from cxrjax.report.read.workdir import Entry, Run

# Under "Not for diagnosis", at the top of a page.
CAUTION = Markup(
    "The numbers describe one model on one set of films; they do not carry over to other hospitals, scanners or "
    "patients without a test."
)


@dataclass(frozen=True)
class Plot:
    """A figure: a pure function `Run -> Figure`, None where the run lacks what it draws.

    `place` is above the tables, below them, last, or in a file beside the page alone. `films` says that it shows films;
    `generated`, that some of them are generated, which marks its file.
    """

    draw: Callable[[Any], Figure | None]
    title: str
    caption: str
    dpi: int = 150
    place: Literal["above", "below", "last", "beside"] = "below"
    films: bool = False
    generated: bool = False


class Face(NamedTuple):
    """What the page shows of a study beside what it shows of every run.

    Attributes:
      figures: by the name of their file, in their order on the page.
      read: a run with what the study left in its workdir; the other functions are given it.
      headline: the main finding, where results.json has none.
      key_numbers: the numbers to read first, with their names; they follow those of classifiers.
      notices: said at the top of a page with generated films.
      beside: writes further files into the workdir; returns what `template` needs of the study, or nothing.
      template: the page's; one of the study's own extends `page.html.j2`.
      drawn: parts of results.json that figures draw, and that "All results" leaves out.
      narrow: whether a terminal shows the first and the paired columns alone of a table of many.
    """

    figures: Mapping[str, Plot]
    read: Callable[[Run], Run] = lambda run: run
    headline: Callable[[Any], str] = lambda run: ""
    key_numbers: Callable[[Any], list[tuple[str, Entry]]] = lambda run: []
    notices: tuple[Markup, ...] = (CAUTION,)
    beside: Callable[[Any], dict[str, Any]] = lambda run: {}
    template: str = "page.html.j2"
    drawn: tuple[str, ...] = ()
    narrow: bool = False
