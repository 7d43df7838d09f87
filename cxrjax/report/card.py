"""The model card of an exported network: how to use it, what it was trained on, what was measured; Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from cxrjax.report import page
from cxrjax.report.face import CAUTION
from cxrjax.report.read.workdir import Run, is_number
from cxrjax.report.summary import key_numbers, number, pretty, with_interval

_UNKNOWN = "The manifest knows no license of {}; ask the data set's own terms before you share anything made of them."


def card(run: Run, phase: str, name: str, use: str) -> str:
    """The card as text.

    Args:
      run: finished.
      phase: of the network.
      name: its training in the phase: the phase's own, or a fold or seed.
      use: what goes in and out, in Markdown.
    """
    places = (("systems", phase), (phase, "test"), (phase, "val"))  # of a comparison, and of a study that treats films
    own = [(pretty(entry.path[-1]), entry) for entry in run.entries if entry.path[:-1] in places]
    figures = [(words, entry) for words, entry in own or key_numbers(run) if is_number(entry.value)]
    of = "Of films that it was not trained on" if own else "Of the whole run, none of this network alone"
    of += ", with 95 % intervals."
    if own and name != phase:
        of += f" They are of {phase} as a whole, of which {name} is one network."
    if any(entry.path[-1] == "temperature" for _, entry in figures):
        of += " The temperature divides the logits to calibrate them; what the file gives is not divided."
    begun = [value for value in (run.manifest.get("weights") or {}).values() if isinstance(value, dict)]
    licenses = dict.fromkeys(value["license"] for value in begun if value.get("license"))
    return "\n\n".join([
        f"# {run.name}: {name}",
        f"**For research. Not for diagnosis.** {CAUTION}",
        "## Use", use,
        "## Figures", of,
        _table(("measure", "value", "n"), ((words, with_interval(e), number(e.n)) for words, e in figures)),
        *(("## Warnings", "\n".join(f"* {line}" for line in warnings)) if (warnings := _warnings(run)) else ()),
        "## Licenses", f"* {_UNKNOWN.format('the films')}",
        *(f"* Of weights that the run began with: {license}" for license in licenses),
        "## Origin", _table(("what", "value"), page.facts(run)),
    ]) + "\n"  # fmt: skip


def _warnings(run: Run) -> list[str]:
    return [str(line) for line in run.manifest.get("warnings") or ()]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
