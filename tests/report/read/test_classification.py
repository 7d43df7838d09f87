"""Predictions are read into systems: folds are pooled, seeds stand side by side, the floor comes last."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxrjax import defaults, manifest
from cxrjax.errors import UserError
from cxrjax.report.read.classification import read_systems, system_of, titled

CLASSES = ("a", "b", "c")


def test_folds_are_pooled_and_seeds_are_not(fakes: SimpleNamespace, tmp_path: Path) -> None:
    fakes.predictions(tmp_path, "logreg32", range(30), CLASSES, 1.0)
    for i in range(11):
        fakes.predictions(tmp_path, f"fold_{i}", range(i, 33, 11), CLASSES, 1.0)
    for i in range(2):
        fakes.predictions(tmp_path, f"seed_{i}", range(30), CLASSES, 1.0, seed=i)
    fakes.predictions(tmp_path, "seed_0.val", range(40, 50), CLASSES, 1.0)
    systems = {system.name: system for system in read_systems(tmp_path / "predictions", [])}
    assert list(systems) == ["fold", "seed", "logreg32"]
    assert [(s.films, len(s.members), s.trained) for s in systems.values()] == [(33, 1, 11), (30, 2, 2), (30, 1, 1)]
    assert sorted(systems["fold"].members[0].key) == [f"films/{i:05d}.png" for i in range(33)]
    label, probability = systems["seed"].pooled()
    assert label.shape == probability.shape == (60, 3)
    assert systems["seed"].exclusive


def test_systems_take_the_titles_of_their_config(fakes: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("cnn5", "resnet18", "logreg32"):
        fakes.predictions(tmp_path, name, range(9), CLASSES, 1.0)
    systems = read_systems(tmp_path / "predictions", [])

    def names(*titles: tuple[str, str]) -> list[str]:
        study = manifest.plain(defaults.comparison(dict(titles)))  # as a workdir holds it
        return [system.name for system in titled(systems, study)]

    assert names(("cnn5", "CNN-5")) == ["CNN-5", "resnet18", "logreg32"]
    assert names(("cnn5", "same"), ("resnet18", "same")) == names() == ["cnn5", "resnet18", "logreg32"]
    assert titled(systems, {}) == systems


def test_a_number_at_the_end_of_a_name_is_a_member_only_beside_its_first() -> None:
    names = {"fcn_0", "fcn_1", "head_1024", "head_64", "logreg32"}
    assert [system_of(name, names) for name in sorted(names)] == ["fcn", "fcn", "head_1024", "head_64", "logreg32"]


def test_a_diverged_member_is_left_out_and_told(fakes: SimpleNamespace, tmp_path: Path) -> None:
    fakes.predictions(tmp_path, "good", range(9), CLASSES, 1.0)
    fakes.predictions(tmp_path, "bad", range(9), CLASSES, float("nan"))
    notes: list[str] = []
    assert [system.name for system in read_systems(tmp_path / "predictions", notes)] == ["good"]
    assert len(notes) == 1
    assert "predictions/bad.npz" in notes[0]


def test_disagreeing_arrays_are_told_with_the_file(fakes: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "m.npz"
    fakes.predictions(tmp_path, "m", range(9), CLASSES, 1.0)
    with np.load(path) as arrays:
        whole = dict(arrays)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"m\.npz: cannot be read as \.npz .*run the study again"):
        read_systems(path.parent, [])
    np.savez(path, **{**whole, "probability": whole["probability"][:, :2]})
    with pytest.raises(UserError, match=r"m\.npz: probability has shape \(9, 2\), expected .* where n = 9, k = 3"):
        read_systems(path.parent, [])
    np.savez(path, **{**whole, "key": whole["key"][:4]})
    with pytest.raises(UserError, match=r"m\.npz: key has shape \(4,\)"):
        read_systems(path.parent, [])
    np.savez(path, **whole)
    fakes.predictions(tmp_path, "n_0", range(9), CLASSES, 1.0)
    fakes.predictions(tmp_path, "n_1", range(9), ("a", "b"), 1.0)
    with pytest.raises(UserError, match="members of n have different classes"):
        read_systems(path.parent, [])
