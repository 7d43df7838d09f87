"""What the labels alone tell is told before the first phase is trained, with the phase that it would have stopped."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from cxrjax import data, defaults, phases
from cxrjax.data import pipeline, preparation
from cxrjax.data.sources.base import Record, Source
from cxrjax.errors import UserError

COLUMNS = ("Effusion", "Mass")
NET = {"name": "resnet_tiny", "blocks": (1, 1), "widths": (4, 8)}
MASS, EFFUSION, NORMAL, UNKNOWN = [0, 1], [1, 0], [0, 0], [0, np.nan]


def _films(folder, **labels: list[list[float]]) -> data.Prepared:
    rng = np.random.default_rng(0)
    records = [
        Record(f"{split}{i}", split, f"{split}{i}", np.array(row, np.float32), rng.integers(0, 256, (16, 16), np.uint8))
        for split, rows in labels.items()
        for i, row in enumerate(rows)
    ]
    splits = {split: len(rows) for split, rows in labels.items()}
    source = Source("fake", COLUMNS, "fake-1", str(labels), lambda: iter(records), False, splits)
    return preparation.materialize(source, folder, size=16, limit=0.0)


def _config(classes=COLUMNS, **changes: Any) -> Any:
    """Two phases, of which the second is the one that asks for more."""
    c = defaults.run()
    c.data = defaults.data("phantom", classes, 16)
    c.phases = ("first", "second")
    c.first = defaults.classify(NET, defaults.optim("adam", 0.1), 5, 4, loss="sigmoid")
    c.second = defaults.classify(NET, defaults.optim("adam", 0.1), 5, 4, **{"loss": "sigmoid", **changes})
    return c


GOOD = {"train": [MASS, EFFUSION, NORMAL, MASS], "val": [MASS, NORMAL], "test": [MASS]}


def test_films_that_do_are_let_pass(tmp_path):
    films = _films(tmp_path, **GOOD)
    bound = phases.check_films(_config(only="Mass"), films, 1)
    assert list(bound) == ["first", "second"]
    assert bound["first"].members[0].keep is None
    np.testing.assert_array_equal(bound["second"].members[0].keep, [0, 3])
    phases.check_films(_config(class_weight=("balanced",), only="Mass", folds=2), films, 1)
    phases.check_films(_config(("Normal", *COLUMNS), balance=True), films, 1)


@pytest.mark.parametrize(
    ("classes", "changes", "labels", "message"),
    [
        (COLUMNS, {"only": "Effusion"}, {"val": [MASS]}, "second: no film of the val part is labeled 'Effusion'"),
        (COLUMNS, {"only": "Effusion"}, {"train": [MASS, NORMAL]}, "second: no film of the .* is labeled 'Effusion'"),
        (COLUMNS, {"class_weight": ("balanced",)}, {"train": [MASS, NORMAL]}, "second: .*no training film is Effusion"),
        (COLUMNS, {"balance": True}, {}, "second: balance needs classes of which a film has exactly one"),
        (COLUMNS, {"folds": 3}, {"train": [MASS, NORMAL]}, "second: folds is 3: expected 2 to 2"),
        (COLUMNS, {}, {"train": [UNKNOWN, UNKNOWN]}, "first: class Mass is unknown on every film of split 'train'"),
        (COLUMNS, {"folds": 2}, {"train": [UNKNOWN, UNKNOWN, MASS]}, "class Mass is unknown on every film"),
    ],
)
def test_what_no_phase_could_train_on_is_told_with_the_phase(tmp_path, classes, changes, labels, message):
    with pytest.raises(UserError, match=message):
        phases.check_films(_config(classes, **changes), _films(tmp_path, **{**GOOD, **labels}), 1)


def test_a_grid_without_a_validation_part_is_told_before_the_phase_in_front_of_it(tmp_path):
    config = _config()
    config.second = defaults.grid((NET,), (0.1,), 5, 4)
    with pytest.raises(UserError, match="second: a grid compares cells on the validation part"):
        phases.check_films(config, _films(tmp_path, train=GOOD["train"], test=GOOD["test"]), 1)


def test_no_film_is_read_and_phases_of_other_runs_are_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.builder.Images, "__getitem__", lambda self, i: pytest.fail("a film was read"))
    films = _films(tmp_path, **GOOD)
    phases.check_films(_config(), films, 1)
    (tmp_path / "manifest.json").write_text(
        json.dumps({"finished": True, "config": {}, "data": {"fingerprint": "f00d"}})
    )
    taken = _config(only="Pneumothorax", from_run=str(tmp_path))
    phases.check_films(taken, dataclasses.replace(films, fingerprint="f00d"), 1)
    with pytest.raises(UserError, match=r"second: .*its films or their parts are others \(fingerprint f00d there"):
        phases.check_films(taken, films, 1)
