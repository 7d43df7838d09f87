"""Every leaf of a score against scikit-learn or a property, and differences that are paired."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, calibration, scoring, thresholds

LEAF = {"value", "low", "high", "n", "unit"}
FOUR = ("COVID19", "NORMAL", "PNEUMONIA", "TUBERCULOSIS")


def exclusive_films(n: int = 240, k: int = 4, seed: int = 0, gain: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.eye(k)[rng.integers(0, k, n)]
    return label, rng.normal(gain * label, 1.0)


def findings(n: int = 300, k: int = 3, seed: int = 0, gain: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = (rng.uniform(size=(n, k)) < 0.3).astype(float)
    return label, rng.normal(gain * label - 1.5, 1.0)


def leaves(tree: dict) -> list[dict]:
    if set(tree) == LEAF:
        return [tree]
    return [leaf for value in tree.values() if isinstance(value, dict) for leaf in leaves(value)]


def test_exclusive_values_equal_scikit_learns():
    label, logits = exclusive_films()
    probability = special.softmax(logits, axis=1)
    found = scoring.exclusive(label, probability, np.arange(240), FOUR, draws=50)
    truth, predicted = label.argmax(axis=1), probability.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "macro_precision": sk.precision_score(truth, predicted, average="macro"),
        "macro_recall": sk.recall_score(truth, predicted, average="macro"),
        "macro_f1": sk.f1_score(truth, predicted, average="macro"),
        "auroc": sk.roc_auc_score(truth, probability, multi_class="ovr"),
        "average_precision": sk.average_precision_score(label, probability),
        "brier": np.mean((probability - label) ** 2),
        "ece": calibration.ece(*calibration.confidence(label, probability)),
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert found[name]["low"] <= value <= found[name]["high"], name
    for c, name in enumerate(FOUR):
        leaf = found["per_class"][name]
        assert leaf["auroc"]["value"] == pytest.approx(sk.roc_auc_score(label[:, c], probability[:, c]), abs=1e-12)
        assert leaf["auroc_delong"]["value"] == pytest.approx(leaf["auroc"]["value"], abs=1e-12)
        assert leaf["auroc_delong"]["low"] == pytest.approx(leaf["auroc"]["low"], abs=0.03)
        assert leaf["n_positive"]["value"] == label[:, c].sum()
    assert found["confusion"] == sk.confusion_matrix(truth, predicted).tolist()
    assert sum(row["count"] for row in found["reliability"]) == 240
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == bootstrap.wilson(
        int((truth == predicted).sum()), 240
    )[1:]
    assert all(set(leaf) == LEAF for leaf in leaves(found))
    json.dumps(found, allow_nan=False)


def test_disease_is_what_is_not_normal_or_the_second_of_two():
    label, logits = exclusive_films()
    probability = special.softmax(logits, axis=1)
    four = scoring.exclusive(label, probability, np.arange(240), FOUR, draws=20)
    pair = (
        np.stack([label[:, 1], 1 - label[:, 1]], axis=1),
        np.stack([probability[:, 1], 1 - probability[:, 1]], axis=1),
    )
    two = scoring.exclusive(*pair, np.arange(240), ("healthy", "ill"), draws=20)
    for name in ("sensitivity_at_95_specificity", "triage_share", "triage_sensitivity"):
        assert four[name] == two[name]
    assert two["auroc"]["value"] == sk.roc_auc_score(pair[0][:, 1], pair[1][:, 1])
    assert two["auroc_delong"]["value"] == pytest.approx(two["auroc"]["value"])
    assert "triage_share" not in scoring.exclusive(label, probability, np.arange(240), tuple("abcd"), draws=20)


def test_validation_gives_the_temperature_and_the_triage_threshold():
    label, logits = exclusive_films(1500)
    other, other_logits = exclusive_films(1500, seed=1)
    hot = 6 * logits
    probability = special.softmax(hot, axis=1)
    arguments = label, probability, np.arange(1500), FOUR
    found = scoring.exclusive(*arguments, validation=(other, 6 * other_logits), logits=hot, draws=20)
    assert found["temperature"]["value"] == pytest.approx(4.0, rel=0.15)  # these logits want a gain of 1.5
    assert found["ece_after_temperature"]["value"] < 0.05 < found["ece"]["value"]
    assert found["brier_after_temperature"]["value"] < found["brier"]["value"]
    assert found["triage_sensitivity"]["low"] < 0.99 < found["triage_sensitivity"]["high"]
    assert any("validation films" in note for note in found["notes"])
    alone = scoring.exclusive(*arguments, draws=20)
    assert "temperature" not in alone
    assert any("films themselves" in note for note in alone["notes"])
    given = scoring.exclusive(
        *arguments, validation=(other, other_logits, special.softmax(6 * other_logits, axis=1)), draws=20
    )
    assert given["triage_share"] == found["triage_share"]


def test_unknown_films_take_no_part():
    label, logits = exclusive_films(60, 2)
    probability = special.softmax(logits, axis=1)
    masked = label.copy()
    masked[::3] = np.nan
    known = ~np.isnan(masked[:, 0])
    patients = np.arange(60) // 2
    expected = scoring.exclusive(label[known], probability[known], patients[known], ("Normal", "Pneumonia"), draws=20)
    assert scoring.exclusive(masked, probability, patients, ("Normal", "Pneumonia"), draws=20) == expected
    assert "auroc_delong" not in expected  # a patient has two films
    several, scores = findings(60)
    hidden = several.copy()
    hidden[::3, 1] = np.nan
    scores = special.expit(scores)
    found = scoring.multilabel(hidden, scores, np.arange(60), tuple("abc"), draws=20)["per_class"]
    whole = scoring.multilabel(several, scores, np.arange(60), tuple("abc"), draws=20)["per_class"]
    assert found["a"] == whole["a"]
    assert found["b"]["auroc"]["n"] == 40
    rows = ~np.isnan(hidden[:, 1])
    assert found["b"]["auroc"]["value"] == pytest.approx(sk.roc_auc_score(hidden[rows, 1], scores[rows, 1]), abs=1e-12)


def test_multilabel_values_equal_scikit_learns():
    label, logits = findings()
    other, other_logits = findings(seed=1)
    stated, patients = special.expit(logits), np.arange(300)
    found = scoring.multilabel(
        label, stated, patients, tuple("abc"), validation=(other, other_logits), logits=logits, draws=50
    )
    cut = [thresholds.best_f1_threshold(other[:, c], special.expit(other_logits[:, c])) for c in range(3)]
    called = stated >= np.array(cut)[None]
    expected = {
        "auroc": sk.roc_auc_score(label, stated),
        "average_precision": sk.average_precision_score(label, stated),
        "f1_at_half": sk.f1_score(label, stated >= 0.5, average="macro"),
        "f1": sk.f1_score(label, called, average="macro"),
        "macro_precision": sk.precision_score(label, called, average="macro"),
        "macro_recall": sk.recall_score(label, called, average="macro"),
        "micro_precision": sk.precision_score(label, called, average="micro"),
        "micro_recall": sk.recall_score(label, called, average="micro"),
        "micro_f1": sk.f1_score(label, called, average="micro"),
        "brier": np.mean((stated - label) ** 2),
        "ece": calibration.ece(stated, label),
        "temperature": calibration.temperature(other, other_logits, "sigmoid"),
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-12), name
    assert set(found["per_class"]["a"]) >= {
        "auroc", "auroc_delong", "average_precision", "f1_at_half", "f1", "sensitivity_at_95_specificity", "positives",
    }  # fmt: skip
    assert found["left_out"] == []
    json.dumps(found, allow_nan=False)


def test_a_finding_of_one_class_is_named_and_left_out():
    label, logits = findings()
    stated = special.expit(logits)
    label[:, 1] = 0
    found = scoring.multilabel(label, stated, np.arange(300), ("a", "Hernia", "c"), draws=20)
    assert found["left_out"] == ["Hernia"]
    assert any("Hernia" in note for note in found["notes"])
    assert set(found["per_class"]["Hernia"]) == {"positives"}
    rest = scoring.multilabel(label[:, [0, 2]], stated[:, [0, 2]], np.arange(300), ("a", "c"), draws=20)
    for name in ("auroc", "f1", "f1_at_half", "micro_precision", "macro_recall"):
        assert found[name]["value"] == rest[name]["value"]


def test_thresholds_without_validation_come_from_other_patients():
    rng = np.random.default_rng(0)
    label = (rng.uniform(size=(400, 1)) < 0.2).astype(float)
    noise = rng.uniform(size=(400, 1))  # a threshold chosen on its own films would find more in noise
    patients = np.arange(400) // 4
    found = scoring.multilabel(label, noise, patients, ("a",), draws=20)
    own = thresholds.f1(label[:, 0], noise[:, 0], thresholds.best_f1_threshold(label[:, 0], noise[:, 0]))
    assert found["f1"]["value"] < own
    assert any("other patients" in note for note in found["notes"])


def test_films_of_one_patient_widen_every_interval():
    label, logits = exclusive_films(60)
    label, probability = np.repeat(label, 4, axis=0), np.repeat(special.softmax(logits, axis=1), 4, axis=0)
    alone = scoring.exclusive(label, probability, np.arange(240), FOUR, draws=300)
    together = scoring.exclusive(label, probability, np.arange(240) // 4, FOUR, draws=300)
    for name in ("accuracy", "auroc", "macro_f1", "brier"):
        width = [found[name]["high"] - found[name]["low"] for found in (alone, together)]
        assert alone[name]["value"] == pytest.approx(together[name]["value"])
        assert width[1] > 1.5 * width[0]


def test_perfection_claims_no_interval():
    label, _ = exclusive_films(40)
    found = scoring.exclusive(label, 0.9 * label + 0.025, np.arange(40) // 2, FOUR, draws=20)
    for name in ("accuracy", "auroc", "macro_f1"):
        assert (found[name]["value"], found[name]["low"]) == (1.0, None)


def test_differences_are_paired_and_turn_round():
    label, logits = findings()
    stated = special.expit(logits)
    near = special.expit(logits + np.random.default_rng(1).normal(0, 0.3, logits.shape))
    patients = np.arange(300)
    same = scoring.difference(label, stated, stated, patients, exclusive=False, draws=100)["auroc"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    there, back = (
        scoring.difference(label, *pair, patients, exclusive=False, draws=200)["auroc"]
        for pair in ((stated, near), (near, stated))
    )
    assert (there["value"], there["low"], there["high"]) == pytest.approx((-back["value"], -back["high"], -back["low"]))
    mean = [sk.roc_auc_score(label, scores) for scores in (stated, near)]
    assert there["value"] == pytest.approx(mean[0] - mean[1], abs=1e-12)
    one = scoring.multilabel(label, stated, patients, tuple("abc"), draws=200)["auroc"]
    assert there["high"] - there["low"] < 0.5 * (one["high"] - one["low"])  # pairing takes out what the films share


def test_exclusive_differences_have_the_accuracy_too():
    label, logits = exclusive_films(200, 2, gain=2.5)
    good, dull = special.softmax(logits, axis=1), special.softmax(logits + 2 * exclusive_films(200, 2, 9)[1], axis=1)
    found = scoring.difference(label, good, dull, np.arange(200), exclusive=True, draws=200)
    assert set(found) == {"auroc", "accuracy"}
    right = [np.mean(p.argmax(axis=1) == label.argmax(axis=1)) for p in (good, dull)]
    assert found["accuracy"]["value"] == pytest.approx(right[0] - right[1])
    assert found["auroc"]["low"] > 0
    alone = scoring.difference(label, good, dull, np.zeros(200), exclusive=True, draws=20)["auroc"]
    assert alone["low"] is None  # one patient


def test_bad_input_is_told():
    label, logits = exclusive_films(20)
    probability = special.softmax(logits, axis=1)
    with pytest.raises(UserError, match="throughout"):
        scoring.exclusive(label, probability[:, :3], np.arange(20), FOUR)
    with pytest.raises(UserError, match="one-hot"):
        scoring.exclusive(np.ones((20, 4)), probability, np.arange(20), FOUR)
    with pytest.raises(UserError, match="no film"):
        scoring.multilabel(np.full((20, 4), np.nan), probability, np.arange(20), FOUR)
    with pytest.raises(UserError, match="not finite"):
        scoring.exclusive(label, np.full((20, 4), np.nan), np.arange(20), FOUR)
