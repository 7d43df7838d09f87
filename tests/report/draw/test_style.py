"""Labels of a logarithmic axis are few enough to stand apart, and enough to read values off."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cxrjax.report.draw.style import STYLE, log_scale


def _labels(low: float, high: float, at: tuple[float, ...] = ()) -> list[tuple[str, float, float]]:
    """The labels of an axis as wide as a panel of the arms' chart, each with its left and right end."""
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2))
        axes = figure.subplots()
        axes.plot([low, high], [0, 1])
        axes.tick_params(labelsize=8)
        log_scale(axes, "x", at)
        FigureCanvasAgg(figure).draw()
        ticks = [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]
        boxes = [(tick.label1.get_text(), tick.label1.get_window_extent()) for tick in ticks if tick.label1.get_text()]
        left, right = axes.get_window_extent().intervalx
        return [(text, box.x0, box.x1) for text, box in boxes if left - 30 < box.x0 and box.x1 < right + 30]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.004, 0.05), (0.0021, 0.031), (0.02, 0.21), (0.001, 0.3), (1e-5, 0.9), (1e-9, 10.0), (0.031, 0.038), (1.0, 1.9)],
)
def test_labels_stand_apart_over_any_span(low: float, high: float) -> None:
    labels = _labels(low, high)
    assert 2 <= len(labels) <= 8
    assert all(one[2] < two[1] for one, two in pairwise(labels))
    assert all("e+" not in text and "10^" not in text for text, *_ in labels)


def test_given_values_are_labeled_as_far_as_they_stand_apart() -> None:
    assert [text for text, *_ in _labels(64, 4096, (64, 512, 4096))] == ["64", "512", "4096"]
    labels = _labels(10, 1000, (10, 11, 12, 100, 101, 1000))
    assert [text for text, *_ in labels] == ["10", "100", "1000"]
