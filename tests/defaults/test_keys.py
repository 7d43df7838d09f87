"""The sections of a config: changes reach known keys alone, and every key has a reader."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cxrjax import defaults

ROOT = Path(__file__).resolve().parents[2] / "cxrjax"


def test_a_change_is_of_known_keys_and_a_nested_one_leaves_its_neighbors():
    c = defaults.treatment(batch=7, guidance={"blur": 1.0})
    assert (c.batch, c.guidance.blur, c.guidance.source) == (7, 1.0, "gradcam")
    with pytest.raises(KeyError, match="bacth"):
        defaults.treatment(bacth=7)
    with pytest.raises(KeyError, match="blurr"):
        defaults.treatment(guidance={"blurr": 1.0})
    assert defaults.treatment(arms={"odd": {"mode": "uniform"}}).arms.odd.mode == "uniform"


def test_a_grid_begins_at_chance():
    phase = defaults.grid(({"name": "resnet_tiny"},), (0.1,), 3, 4, seeds=2)
    assert phase.seeds == 2
    assert not {"carry", "carry_opt", "weights", "weights_head", "optim_from", "from_run"} & set(phase)


def test_every_key_has_a_reader():
    keys, words = set(), set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.parent.name == "defaults":
                if path.stem in ("keys", "phases", "studies") and isinstance(node, ast.Dict):
                    keys |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
            elif isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant):
                words.add(node.value)
            elif isinstance(node, ast.AnnAssign):  # a field, or below a parameter, that a whole section is handed to
                words.add(ast.unparse(node.target))
            elif isinstance(node, ast.arg):
                words.add(node.arg)
    assert len(keys) > 150
    assert keys <= words, keys - words
