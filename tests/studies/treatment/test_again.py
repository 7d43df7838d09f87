"""What is treated again: which films by which noise, and the figures of planted ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.infer import arms, treat
from cxrjax.ops import guidance
from cxrjax.studies.treatment import again

FILMS = np.random.default_rng(0).uniform(0.2, 0.6, (4, 8, 8))
SICK = np.array([True, True, False, False])
MASK = np.zeros(FILMS.shape, bool)
MASK[:, :4] = True


def value(found: Any, measure: str, where: str) -> float:
    return found[measure][where]["value"]


def test_composition_counts_healthy_films_and_repetition_diseased_ones():
    once, twice = FILMS + 0.1, FILMS + 0.15
    once[SICK] += 0.1
    found = again.measured(FILMS, SICK, MASK, np.stack([once, once]), twice)
    assert value(found, "composition", "once") == pytest.approx(0.1)
    assert value(found, "composition", "twice") == pytest.approx(0.15)
    assert value(found, "composition", "drift") == pytest.approx(0.05)
    assert found["composition"]["drift"]["n"] == 2
    assert value(found, "repeated", "whole") == pytest.approx(0.05)  # 0.2 and 0.15
    assert "reversed" not in found
    back = again.measured(FILMS, SICK, MASK, np.stack([once, once]), twice, back=FILMS - 0.02)
    assert value(back, "reversed", "whole") == pytest.approx(0.02)


def test_what_draws_nothing_has_no_spread_and_every_change_is_sure():
    treated = FILMS + 0.1 * MASK
    found = again.measured(FILMS, SICK, MASK, np.stack([treated] * 3), treated, twin=treated, lesion=MASK)
    assert value(found, "spread", "inside") == 0
    assert (value(found, "sure", "inside"), value(found, "sure", "outside")) == (1, 0)
    assert value(found, "covered", "inside") == 1


def test_the_seeds_spread_is_told_in_and_out_of_the_mask():
    a, b = FILMS + 0.1 * MASK, FILMS - 0.1 * MASK
    found = again.measured(FILMS, SICK, MASK, np.stack([a, b]), a)
    assert value(found, "spread", "inside") == pytest.approx(0.1 * np.sqrt(2))
    assert value(found, "spread", "outside") == pytest.approx(0)
    assert value(found, "sure", "inside") == 0  # the film is the seeds' mean


def test_other_seeds_treat_the_film_and_a_second_treatment_the_treated_one():
    plain = SimpleNamespace(name="uniform", mode="uniform", options=())
    keys = treat.keys_of(0, 4)
    found = {block.name: block for block in again.blocks(FILMS, keys, (plain,), lambda name: FILMS + 1, 3)}  # type: ignore[arg-type]
    assert list(found) == ["seed1", "seed2", "twice_uniform"]
    np.testing.assert_array_equal(found["seed2"].image, FILMS)
    np.testing.assert_array_equal(found["twice_uniform"].image, FILMS + 1)
    every = np.stack([keys, *(block.keys for block in found.values())]).reshape(-1, keys.shape[-1])
    assert len(np.unique(every, axis=0)) == len(every)  # no noise is drawn twice
    again_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(jax.random.wrap_key_data(keys))
    np.testing.assert_array_equal(found["seed1"].keys, jax.random.key_data(again_keys))


def test_a_mode_with_a_way_back_goes_it(monkeypatch):
    monkeypatch.setitem(guidance.MODES, "uniform", guidance.MODES["uniform"]._replace(back=(("toward", "diseased"),)))
    (arm,) = arms.of(defaults.treatment(modes=("uniform",)))
    arm = arm._replace(options=(("toward", "healthy"), ("weight", 3.0)))
    back = again.blocks(FILMS, treat.keys_of(0, 4), (arm,), lambda name: FILMS + 1, 2)[-1]
    assert back.name == "back_uniform"
    assert back.arms[0].options == (("toward", "diseased"), ("weight", 3.0))


@pytest.mark.parametrize(
    ("given", "words"),
    [({"lambda": 300}, "again.lambda = 300: expected one of study.lambdas, 200, 400"),
     ({"lambda": 200, "seeds": 1}, "seeds = 1"), ({"lambda": 200, "films": 0}, "films = 0")],
)  # fmt: skip
def test_what_cannot_be_done_again_is_refused(given: dict[str, Any], words: str):
    study = ConfigDict({"lambdas": (200, 400), "again": {"lambda": 0, "seeds": 3, "films": 16}})
    again.check(study)
    study.again.update(given)
    with pytest.raises(UserError, match=words):
        again.check(study)


def test_the_first_of_each_kind_are_chosen():
    assert again.chosen(np.array([True, True, True, False, False]), 2).tolist() == [0, 1, 3, 4]
    assert again.chosen(np.array([True, False]), 5).tolist() == [0, 1]


def test_results_read_each_arms_own_files(tmp_path: Path):
    root = tmp_path / again.FOLDER
    np.savez(tmp_path / "films.npz", image=FILMS, disease=SICK, cam=MASK * 0.9)
    for name, shift in (("a", 0.1), ("b", 0.2)):
        np.savez(tmp_path / f"{name}_0200.npz", image=FILMS + shift)
        for block, more in (("seed1", shift), (f"twice_{name}", 2 * shift)):
            (root / block).mkdir(parents=True, exist_ok=True)
            np.savez(root / block / f"{name}.npz", image=FILMS[[0, 2]] + more)
    two = tuple(SimpleNamespace(name=name) for name in "ab")
    found = again.results(tmp_path, root, two, 200, 2, np.array([0, 2]))  # type: ignore[arg-type]
    assert value(found["b"], "composition", "twice") == pytest.approx(0.4)
    (table,) = again.tables(found, 200, 2)
    cells = {row["name"]: dict(zip(table["columns"], row["cells"], strict=True)) for row in table["rows"]}
    assert cells["a"]["the second alone"]["value"] == pytest.approx(0.1)
    assert "there and back, error to the film" not in table["columns"]
