"""Curves, reliability and confusion show what the predictions hold, in panels that stay few."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn import metrics as sk

from cxrjax.metrics import calibration
from cxrjax.report.classification import roc
from cxrjax.report.read.classification import Classification, Member, System, read_systems


def _run(systems: list[System]) -> Classification:
    return Classification(Path("run"), {}, [], [], systems=systems)


def _shown(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def _texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_panels_write_the_area_of_each_system_and_cap_their_points(fakes: SimpleNamespace, tmp_path: Path) -> None:
    for name, skill in (("cnn5", 2.0), ("logreg32", 0.5)):
        fakes.predictions(tmp_path, name, range(900), ("a", "b", "c"), skill)
    systems = read_systems(tmp_path / "predictions", [])
    for draw, area in (
        (roc.roc, sk.roc_auc_score),
        (roc.precision_recall, sk.average_precision_score),
    ):
        shown = _shown(draw(_run(systems)))
        assert [axes.get_title() for axes in shown] == ["macro average", "a", "b", "c"]
        expected = np.array(
            [[area(m.label[:, j], m.probability[:, j]) for j in range(3)] for m in (s.members[0] for s in systems)]
        )
        for j, axes in enumerate(shown[1:]):
            assert _texts(axes) == [f"{value:.3f}" for value in expected[:, j]]
        assert _texts(shown[0]) == [f"{value:.3f}" for value in expected.mean(axis=1)]
        assert max(len(line.get_xdata()) for axes in shown for line in axes.lines) <= 200


def test_two_exclusive_classes_are_one_panel_and_many_findings_are_at_most_sixteen(
    fakes: SimpleNamespace, tmp_path: Path
) -> None:
    fakes.predictions(tmp_path / "two", "net", range(40), ("normal", "pneumonia"), 2.0)
    two = _run(read_systems(tmp_path / "two" / "predictions", []))
    assert [axes.get_title() for axes in _shown(roc.roc(two))] == ["pneumonia"]
    names = tuple(f"finding_{i}" for i in range(20))
    fakes.predictions(tmp_path / "many", "net", range(400), names, 2.0, exclusive=False)
    many = _run(read_systems(tmp_path / "many" / "predictions", []))
    titles = [axes.get_title() for axes in _shown(roc.roc(many))]
    assert len(titles) == roc.MOST_PANELS
    assert titles[0] == "macro average"
    assert titles[-1] == "finding 19"  # the commonest stay; in this set they are the last
    assert roc.confusion(many) is None


def test_unknown_labels_and_classes_of_one_kind_take_no_part() -> None:
    label = np.array([[1.0, 0, np.nan], [0, 0, 1], [np.nan, 0, 0], [1, 0, 1]])
    probability = np.array([[0.9, 0.1, 0.5], [0.2, 0.1, 0.9], [0.99, 0.1, 0.1], [0.7, 0.2, 0.8]])
    system = System("net", ("a", "never", "c"), (Member(np.arange(4).astype(str), label, probability),), 1)
    shown = _shown(roc.roc(_run([system])))
    assert [axes.get_title() for axes in shown] == ["a", "c"]
    assert [_texts(axes) for axes in shown] == [["1.000"], ["1.000"]]
    label = np.where(np.arange(3)[None] == 1, label, np.nan)
    system = System("net", ("a", "never", "c"), (Member(np.arange(4).astype(str), label, probability),), 1)
    assert roc.roc(_run([system])) is None


def test_confusion_counts_every_film_in_its_true_row(fakes: SimpleNamespace, tmp_path: Path) -> None:
    fakes.predictions(tmp_path, "net", range(100), ("a", "b", "c"), 1.0)
    systems = read_systems(tmp_path / "predictions", [])
    (axes,) = _shown(roc.confusion(_run(systems)))
    counts = np.array([int(text) for text in _texts(axes)]).reshape(3, 3)
    member = systems[0].members[0]
    np.testing.assert_array_equal(counts.sum(axis=1), member.label.sum(axis=0))
    right = member.label.argmax(axis=1) == member.probability.argmax(axis=1)
    assert np.trace(counts) == right.sum()
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1.0)


def test_reliability_shows_the_bins_of_the_calibration_error_on_the_diagonal_where_it_is_small() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 20_000)
    label = (rng.uniform(0, 1, len(p)) < p).astype(float)
    member = Member(np.arange(len(p)).astype(str), label[:, None], p[:, None])
    (axes,) = _shown(roc.reliability(_run([System("net", ("a",), (member,), 1)])))
    _, points, *marks = (np.array(line.get_xydata()) for line in axes.lines)
    bars = np.array([patch.get_height() / 0.3 for patch in axes.patches])
    assert len(points) == len(bars) == calibration.BINS
    np.testing.assert_allclose(points[:, 1], points[:, 0], atol=0.05)
    # What is drawn adds up to the figure in the table.
    expected = calibration.ece(p, label)
    assert float(np.abs(points[:, 0] - points[:, 1]) @ bars) == pytest.approx(expected, rel=1e-9)
    for (x, y), whisker in zip(points, marks[::2], strict=True):
        assert whisker[0, 0] == whisker[1, 0] == x
        assert whisker[0, 1] < y < whisker[1, 1]
