"""The model card: figures with intervals, the films' fingerprint, licenses as far as the manifest knows them."""

from __future__ import annotations

import json
from pathlib import Path

from cxrjax.report import card
from cxrjax.report.read.workdir import read_run


def test_a_card_tells_figures_films_and_licenses(tmp_path: Path) -> None:
    auroc = {"value": 0.9, "low": 0.85, "high": 0.94, "n": 50, "unit": "1"}
    other = {**auroc, "value": 0.6}
    own = {
        "auroc": auroc,
        "temperature": {"value": 1.5, "n": 50, "unit": "1"},
        "sensitivity_at_95_specificity": auroc,
        "per_class": {"Mass": {"auroc": other}},
    }
    systems = {"net": own, "rival": {"auroc": other}}
    manifest = {
        "config": {"name": "a study", "phases": ["net"]}, "warnings": ["Children of 1 to 5 years."],
        "data": {"name": "kermany", "fingerprint": "f00d"}, "command": "python launch/main.py",
        "weights": {"head": {"file": "a.pth", "license": "Apache-2.0"}, "net": "those of head"},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "results.json").write_text(json.dumps({"systems": systems}))
    text = card.card(read_run(tmp_path), "net", "net_3", "Do this.")
    assert text.startswith("# a study: net_3\n")
    assert "Not for diagnosis" in text
    assert "| AUROC | 0.900 [0.850, 0.940] | 50 |" in text
    assert "| sensitivity at 95 % specificity | 0.900" in text
    assert "| temperature | 1.500 | 50 |" in text
    assert "divides the logits" in text
    assert "0.600" not in text  # of another system, or of a class
    assert "of net as a whole, of which net_3 is one network" in text
    assert "* Children of 1 to 5 years." in text
    assert "* Of weights that the run began with: Apache-2.0" in text
    assert "no license of the films" in text
    assert "| data: fingerprint | f00d |" in text


def test_figures_are_the_networks_own_or_said_to_be_the_runs(tmp_path: Path) -> None:
    auroc = {"value": 0.9, "low": 0.85, "high": 0.94, "n": 50, "unit": "1"}
    results = {"classifier": {"test": {"auroc": {**auroc, "value": 0.6}}}, "judge": {"test": {"auroc": auroc}}}
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"name": "a study"}}))
    (tmp_path / "results.json").write_text(json.dumps(results))
    text = card.card(read_run(tmp_path), "judge", "judge", "Do this.")
    assert "Of films that it was not trained on" in text
    assert "| AUROC | 0.900 [0.850, 0.940] | 50 |" in text
    assert "0.600" not in text
    assert "divides" not in text
    assert "none of this network alone" in card.card(read_run(tmp_path), "locator", "locator", "Do this.")
