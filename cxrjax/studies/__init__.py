"""What a paper's table or figure needs after training, by name: `context -> results`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cxrjax.studies import anomaly, comparison, phase_loss, pneumonia, predictions, synthesis, treatment


class Study(NamedTuple):
    """What a run asks of a study.

    Attributes:
      check: `config`; refuses what cannot work, before films are prepared.
      check_films: `(config, films) -> notes`; refuses films that will not do, before any training.
      run: `context -> results`.
      after: `(context, member)`, when a member of a phase is trained: what is kept of it is written.
      by_boxes: whether boxes decide what it keeps between two starts, so that other boxes are another run.
    """

    check: Callable[[Any], None]
    check_films: Callable[[Any, Any], list[str]]
    run: Callable[[Any], dict[str, Any]]
    after: Callable[[Any, Any], None] = lambda context, member: None
    by_boxes: bool = False


STUDIES: dict[str, Study] = {
    "progress": Study(treatment.check, treatment.check_films, treatment.run),
    "anomaly": Study(anomaly.check, anomaly.check_films, anomaly.run, by_boxes=True),
    "comparison": Study(comparison.check, comparison.check_films, comparison.run, predictions.write),
    "phase_loss": Study(phase_loss.check, comparison.check_films, phase_loss.run, predictions.write),
    "synthesis": Study(synthesis.check, synthesis.check_films, synthesis.run),
    "pneumonia": Study(comparison.check, comparison.check_films, pneumonia.run, predictions.write),
}
