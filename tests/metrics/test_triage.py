"""Films set aside: the promise of sensitivity, whose threshold it is, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from cxrjax.metrics import bootstrap, triage


def films(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=n) < 0.4).astype(float)
    return labels, np.round(rng.normal(2.5 * labels, 1.0), 2)


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 0.99, 1.0])
def test_the_threshold_is_the_highest_that_keeps_the_promise(sensitivity):
    labels, scores = films()
    cut = triage.threshold(labels, scores, sensitivity)
    assert np.mean(scores[labels == 1] >= cut) >= sensitivity
    higher = scores[(scores > cut) & (labels == 1)].min()
    assert np.mean(scores[labels == 1] >= higher) < sensitivity


def test_a_threshold_of_other_films_gives_wilsons_intervals():
    labels, scores = films()
    labels[:10] = np.nan
    cut = triage.threshold(*films(seed=1))
    found = triage.triage(labels, scores, chosen=cut)
    known = ~np.isnan(labels)
    aside = int((scores[known] < cut).sum())
    assert found.share == bootstrap.wilson(aside, 990)
    sick = labels == 1
    assert found.sensitivity == bootstrap.wilson(int((scores[sick] >= cut).sum()), int(sick.sum()))
    assert not found.own


def test_films_of_one_patient_widen_the_interval():
    labels, scores = (np.repeat(a, 5) for a in films(100))
    alone = triage.triage(labels, scores, chosen=0.5).share
    together = triage.triage(labels, scores, np.arange(500) // 5, chosen=0.5).share
    assert alone.value == together.value
    assert 1.6 < (together.high - together.low) / (alone.high - alone.low) < 3.0  # sqrt(5) in theory


def test_films_that_choose_for_themselves_say_so():
    labels, scores = films()
    found = triage.triage(labels, scores, draws=200)
    assert found.own
    assert found.threshold == triage.threshold(labels, scores)
    assert found.share.value == np.mean(scores < found.threshold)
    assert found.share.low < found.share.value < found.share.high
    assert found.sensitivity.value >= 0.99
    assert np.isnan(found.sensitivity.low)


def test_one_class_has_no_triage():
    found = triage.triage([0, 0, np.nan], [0.1, 0.2, 0.3])
    assert np.isnan(found.share).all()
    assert np.isnan(found.threshold)
