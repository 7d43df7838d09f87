"""A page of reporting guidelines' items, each with what the run itself can say of it, or left to the author."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxrjax.report import templates
from cxrjax.report.guidelines import CLAIM, TRIPOD
from cxrjax.report.read.workdir import Run, is_number
from cxrjax.report.summary import with_interval

PAGE = "checklist.html"
_MEASURES = ("auroc", "average_precision", "accuracy", "f1", "brier", "ece", "sensitivity_at_95_specificity")


def write(run: Run) -> Path:
    """Writes `checklist.html` beside the report: CLAIM 2024 and TRIPOD+AI."""
    known = {name: words for name, words in facts(run).items() if words}
    text = templates.environment().get_template("checklist.html.j2").render(
        run=run, guidelines=(CLAIM, TRIPOD), facts=known, written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    )  # fmt: skip
    path = run.workdir / PAGE
    path.write_text(text, encoding="utf-8")
    return path


def facts(run: Run) -> dict[str, str]:
    """What manifest and results say, in sentences by the names that `guidelines` uses; "" where they say nothing."""
    return {**_of_data(run), **_of_training(run), **_of_results(run)}


def _of_data(run: Run) -> dict[str, str]:
    about, config = run.manifest.get("data") or {}, run.config.get("data") or {}
    if not about or not config:
        return {}
    splits = ", ".join(f"{name} {count:,}" for name, count in (about.get("splits") or {}).items())
    folds = max((phase.get("folds", 0) for phase in _phases(run).values()), default=0)
    external = [
        f"{name}: {found['films']:,} films, labels {found['label_version']}, fingerprint {found['fingerprint'][:12]}"
        for name, found in (about.get("external") or {}).items()
    ]
    size = config.get("size")
    return {
        "source": f"{about.get('name')}, labels {about.get('label_version')}, fingerprint {about.get('fingerprint')}.",
        "excluded": f"{about.get('quarantined', 0):,} films that could not be read were left out.",
        "preprocessing": f"Each film as one channel of gray, squeezed to {size} x {size} pixels by an antialiased "
        "bilinear filter, in [0, 1].",
        "subsets": f"data.split {config.get('split') or 'as the set has it'}; films of several classes: "
        f"{config.get('others')}; blank films: {config.get('blank')}; films in two parts: {config.get('overlap')}.",
        "missing": f"An unknown label takes part in no loss and no figure; uncertain ones: {config.get('uncertain')}.",
        "labels": f"Labels {about.get('label_version')} of {', '.join(config.get('classes') or ())}.",
        "partitions": f"Films: {splits}." + (f" {folds} folds." if folds > 1 else ""),
        "disjoint": "Patients, as far as the set names them; a film of unknown patient counts as a patient of its own.",
        "predictors": "The film alone.",
        "external": f"{'; '.join(external)}." if external else "",
    }


def _phases(run: Run) -> dict[str, dict[str, Any]]:
    return {name: run.config[name] for name in run.config.get("phases") or () if isinstance(run.config.get(name), dict)}


def _each(run: Run, *keys: str) -> str:
    """The values that keys have in each phase, such as `optim.lr`; of those that do nothing nothing."""
    out = []
    for name, phase in _phases(run).items():
        found = []
        for key in keys:
            value: Any = phase
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value and (key, value) != ("seeds", 1):
                found.append(f"{key} {_words(value)}")
        out += [f"{name}: {', '.join(found)}."] if found else []
    return " ".join(out)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(
            f"{key} {_words(inner)}" for key, inner in sorted(value.items(), key=lambda kv: kv[0] != "name")
        )
    return f"({', '.join(map(str, value))})" if isinstance(value, list) else str(value)


def _sentence(warning: str) -> str:
    """A warning, of which some are lines of a log, as a sentence."""
    ended = warning if warning.endswith((".", "!", "?")) else f"{warning}."
    return ended[:1].upper() + ended[1:]


def _of_training(run: Run) -> dict[str, str]:
    manifest = run.manifest
    begun = {
        name: f"{value.get('file')} (sha256 {value.get('sha256', '')[:12]})" if isinstance(value, dict) else str(value)
        for name, value in (manifest.get("weights") or {}).items()
    }
    licenses = [value["license"] for value in (manifest.get("weights") or {}).values()
                if isinstance(value, dict) and value.get("license")]  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in (manifest.get("versions") or {}).items())
    commit = f"commit {manifest.get('commit') or 'unknown'}"
    return {
        "kind": "Deep learning on chest films." if _phases(run) else "",
        "model": _each(run, "net"),
        "software": f"{versions}; {commit}; {run.devices}." if versions else "",
        "initialization": " ".join(f"{name}: {value}." for name, value in begun.items()),
        "training": _each(
            run, "loss", "steps", "batch", "optim.name", "optim.lr", "optim.schedule", "optim.weight_decay",
            "optim.frozen", "augment", "degrees", "shift", "zoom", "crop", "seeds",
        ),
        "selection": _each(run, "select"),
        "ensembling": _each(run, "seeds", "folds", "tta"),
        "imbalance": _each(run, "balance", "class_weight"),
        "reproduce": f"{manifest.get('command')}, at {commit}; all keys in manifest.json."
        if manifest.get("command") else "",
        "licenses": f"Weights began under: {'; '.join(dict.fromkeys(licenses))}." if licenses else "",
        "limitations": " ".join(_sentence(str(warning)) for warning in manifest.get("warnings") or ()),
    }  # fmt: skip


def _of_results(run: Run) -> dict[str, str]:
    results, systems = run.results, run.children("systems")
    measured = [m for m in _MEASURES if any(run.entry("systems", name, m) for name in systems)]
    titles = dict(run.study.get("systems") or ())

    def said(*measures: str) -> str:
        shown = []
        for name in systems:
            found = [
                (m, entry) for m in measures if (entry := run.entry("systems", name, m)) and is_number(entry.value)
            ]
            if found:
                words = ", ".join(f"{m.replace('_', ' ')} {with_interval(entry)}" for m, entry in found)
                shown.append(f"{titles.get(name, name)}: {words}.")
        return " ".join(shown)

    notes = {str(table.get("title")): str(table.get("note") or "") for table in results.get("tables") or ()}
    groups = {attribute for one in (results.get("subgroups") or {}).values() for attribute in one}
    temperature = any(run.entry("systems", name, "temperature") for name in systems)
    kinds = (run.study.get("robustness") or {}).get("kinds") or {}
    return {
        "metrics": f"{', '.join(m.replace('_', ' ') for m in measured)}; ROC, precision-recall and reliability curves."
        if measured else "",
        "uncertainty": "95 % intervals by resampling patients; of a share Wilson's where each patient has one film; "
        "differences paired by patient." if systems else "",
        "robustness": f"Damaged films: {', '.join(kinds)}; see the report." if results.get("robustness") else "",
        "explainability": str((results.get("localization") or {}).get("note") or ""),
        "internal": notes.get("Systems", ""),
        "performance": str(results.get("headline") or ""),
        "operating": f"{said('sensitivity_at_95_specificity', 'triage_sensitivity', 'triage_share')} "
        f"{notes.get('Calibration and use', '')}".strip(),
        "failures": "The surest of the wrong calls: Failures in the report."
        if (run.workdir / "failures.npz").is_file() else "",
        "output": "A probability of each class." if systems else "",
        "updating": "A temperature fitted on validation films; figures before and after it." if temperature else "",
        "subgroups": f"By {', '.join(sorted(groups))}: Subgroups in the report." if groups else "",
        "demographics": f"Known of the records: {', '.join(sorted(groups))}; numbers of films under Subgroups."
        if groups else "",
        "clusters": "By site: Subgroups in the report." if "site" in groups else "",
    }  # fmt: skip
