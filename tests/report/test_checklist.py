"""The reporting checklists: every published item, each answered by the run or left to the author, never by nothing."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from cxrjax.report import checklist
from cxrjax.report.guidelines import CLAIM, TRIPOD, Guideline
from cxrjax.report.read.workdir import read_run


def numbers(guideline: Guideline) -> list[str]:
    return [item.number for items in guideline.sections.values() for item in items]


def test_items_are_those_published() -> None:
    assert numbers(CLAIM) == [str(number) for number in range(1, 45)]  # Tejani et al. 2024: 44
    found = numbers(TRIPOD)  # Collins et al. 2024: 27, of which some have parts
    assert list(dict.fromkeys(int(re.sub(r"\D", "", number)) for number in found)) == list(range(1, 28))
    assert len(found) == len(set(found)) == 52


def test_every_fact_that_an_item_asks_for_is_one_that_a_run_can_tell(study_dir: Path) -> None:
    asked = {
        name for one in (CLAIM, TRIPOD) for items in one.sections.values() for item in items for name in item.facts
    }
    run = read_run(study_dir)
    run.manifest["data"] = {"splits": {}}
    run.manifest["config"] = {"data": {"size": 8}}
    assert asked == checklist.facts(run).keys()


@pytest.fixture
def page(tmp_path: Path) -> dict[str, str]:
    """The answer to each item of a run of one phase, by guideline and number."""
    entry = {"value": 0.9, "low": 0.85, "high": 0.94, "n": 50, "unit": "1"}
    optim = {"name": "adamw", "lr": 0.001}
    phase = {"task": "classify", "net": {"name": "densenet121"}, "optim": optim, "folds": 5}
    manifest = {
        "command": "python launch/main.py --config=a.py",
        "config": {"data": {"size": 224, "classes": ["Normal", "<b>"]}, "phases": ["net"], "net": phase,
                   "study": {"name": "comparison", "systems": [["net", "a network"]]}},
        "data": {"name": "kermany", "fingerprint": "f00d", "label_version": "v2", "quarantined": 3,
                 "splits": {"train": 4000, "test": 200}},
        "weights": {"net": "from scratch"}, "devices": ["cpu:cpu", "cpu:cpu"], "versions": {"jax": "0.10.2"},
        "warnings": ["3 films were left out", "one class is rare", "Smoke test."],
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "results.json").write_text(json.dumps({"systems": {"net": {"auroc": entry, "triage_share": entry}}}))
    text = checklist.write(read_run(tmp_path)).read_text()
    assert "<b>" not in text
    out = {}
    for part in text.split("<h2>")[1:]:
        name = part.partition("<")[0]
        rows = re.findall(r"<tr><td>(\w+)</td><td>[^<]*</td><td>(.*?)</td></tr>", part)
        out |= {f"{name} {number}": html.unescape(answer).strip() for number, answer in rows}
    return out


def test_what_a_run_knows_stands_beside_the_item_and_the_rest_is_the_authors(page: dict[str, str]) -> None:
    assert len(page) == 44 + 52
    assert page["CLAIM 2024 7"] == "kermany, labels v2, fingerprint f00d."
    assert page["CLAIM 2024 19"] == "Films: train 4,000, test 200. 5 folds."
    assert page["CLAIM 2024 23"] == "jax 0.10.2; commit unknown; 2 x cpu:cpu."
    assert page["CLAIM 2024 40"] == "3 films were left out. One class is rare. Smoke test."
    assert page["CLAIM 2024 24"] == "net: from scratch."
    assert "optim.name adamw, optim.lr 0.001" in page["CLAIM 2024 25"]
    assert "triage share 0.900 [0.850, 0.940]" in page["CLAIM 2024 38"]
    assert "3 films that could not be read" in page["TRIPOD+AI 7"]
    for theirs in ("CLAIM 2024 44", "CLAIM 2024 33", "TRIPOD+AI 13", "TRIPOD+AI 17", "TRIPOD+AI 3c"):
        assert "yours to answer" in page[theirs], theirs
    assert all(page.values())
