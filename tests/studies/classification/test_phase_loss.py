"""Seeds, effects, and two spellings of one loss."""

import numpy as np
import pytest

from cxrjax.metrics import entries
from cxrjax.studies.classification import phase_loss
from cxrjax.studies.classification.predictions import mean_of


def predictions(seed, n=40):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 3
    exponential = np.exp(logits)
    return {
        "label": np.eye(3)[rng.integers(0, 3, n)], "logits": logits, "key": np.arange(n).astype(str),
        "probability": exponential / exponential.sum(axis=1, keepdims=True),
    }  # fmt: skip


def test_the_two_losses_agree_on_any_logits_but_for_rounding():
    value, gradient = phase_loss.same_function([predictions(0), predictions(1)])
    assert value < 1e-6
    assert gradient < 1e-7


def test_a_t_interval_covers_the_mean_of_few_seeds_at_its_rate():
    rng = np.random.default_rng(0)
    leaves = [entries.t_mean(rng.normal(0.7, 0.05, 3), "fraction") for _ in range(2000)]
    covered = np.mean([leaf["low"] <= 0.7 <= leaf["high"] for leaf in leaves])
    assert 0.935 < covered < 0.965
    assert entries.t_mean(np.array([0.7]), "fraction")["low"] is None


def test_effects_are_paired_by_seed():
    noise = np.array([0.10, -0.10, 0.05])
    arms = {
        name: {"accuracy": level + noise, "loss": 1 - level - noise}
        for name, level in
        (("cxr_categorical", 0.7), ("cxr_sparse", 0.7), ("enh_categorical", 0.8), ("enh_sparse", 0.8))
    }  # fmt: skip
    found = phase_loss._effects(arms)
    leaf = found["ENH minus CXR"]["accuracy"]
    assert (leaf["value"], leaf["low"], leaf["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert found["sparse minus categorical, CXR"]["loss"]["value"] == pytest.approx(0)


def test_the_mean_of_seeds_is_one_system_whose_logits_give_its_probability():
    mean = mean_of([predictions(0), predictions(1)])
    expected = (predictions(0)["probability"] + predictions(1)["probability"]) / 2
    np.testing.assert_allclose(mean["probability"], expected)
    softmax = np.exp(mean["logits"]) / np.exp(mean["logits"]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, expected)
    odds = {**predictions(0), "probability": np.full((40, 3), 0.25)}
    np.testing.assert_allclose(1 / (1 + np.exp(-mean_of([odds, odds])["logits"])), 0.25)
