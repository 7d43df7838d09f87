"""The tables of a generator's page, with the paper's figures beside ours."""

from __future__ import annotations

from typing import Any

from cxrjax.studies.published import SYNTHESIS_FDD
from cxrjax.studies.synthesis.fdd import ALL
from cxrjax.studies.synthesis.use import ARMS
from cxrjax.studies.tables import Table, published, table
from cxrjax.types import Results

WORDS = {"proposed": "proposed", "cdcgan": "cDCGAN", "untrained": "untrained"}
LAYER_WORDS = {"prob": "probabilities", "logit": "logits", "pool": "pooled features"}
FDD_NOTE = (
    "Fréchet distance between held-out films and as many generated ones, by class; smaller is nearer. Floor: what two "
    "sets of real films of this size are apart on average, which no model can be expected to go below. Distances of "
    "medical features need not follow what a radiologist would say."
)


def _models(results: Results) -> list[str]:
    return [name for name in WORDS if name in results["asked"]]


def make(results: Results, context: Any, names: tuple[str, ...]) -> list[Table]:
    """Every table of results.json, in the order of the page."""
    split = context.config.study.reference if context.config.study.reference == "train" else "held-out"
    films = f"{context.config.data.name} at {context.config.data.size} px, {split} films"
    found = [_fdd(results, layer, names, films) for layer in results["fdd"]]
    return [*found, _asked(results, names), _diversity(results), _use(results)] if found else []


def _fdd(results: Results, layer: str, names: tuple[str, ...], films: str) -> Table:
    entry, models = results["fdd"][layer], _models(results)
    columns = ["films", "floor"]
    for name in models:
        columns += [f"{WORDS[name]}: FDD", "times floor"]
    columns += ["without the bias of n", "KID"]
    first = layer == "prob"
    columns += ["paper: cDCGAN", "paper: proposed"] if first else []
    rows: list[tuple[str, list[Any]]] = []
    for finding in (*names, ALL):
        if finding not in entry["by_class"]:
            continue
        found = entry["by_class"][finding]
        cells: list[Any] = [str(found["floor"]["n"]), found["floor"]]
        for name in models:
            cells += [found[name]["fdd"], found[name]["ratio"]]
        cells += [found[models[0]]["debiased"], found[models[0]]["kid"]]
        if first:
            cells += [published(SYNTHESIS_FDD[name].get(finding)) for name in ("cdcgan", "proposed")]
        rows.append((finding, cells))
    mean: list[Any] = [None, None]
    for name in models:
        mean += [entry["mean"][name], None]
    rows.append(("mean of the classes", [*mean, *[None] * (len(columns) - len(mean))]))
    if "minus_baseline" in entry:
        gap: list[Any] = [None, None, entry["minus_baseline"]]
        rows.append(("mean of the classes, proposed minus cDCGAN", [*gap, *[None] * (len(columns) - len(gap))]))
    width = results["width"][layer]
    note = f"{FDD_NOTE} Ours: {films}; feature network: {results['feature_network']}, {width} {LAYER_WORDS[layer]}."
    if first:
        note += (
            " The paper's: ChestX-ray14 at 256 px, by its own DenseNet-121, it does not say in which layer: other "
            "films, another net."
        )
    lost = [text for text in results["notes"] if f"layer {layer};" in text]
    return table(f"FDD on {LAYER_WORDS[layer]}", " ".join([note, *lost]), columns, rows)


def _asked(results: Results, names: tuple[str, ...]) -> Table:
    """Whether generated films show what was asked for."""
    models = _models(results)
    ((split, scored),) = results["classifier"].items()
    rows: list[tuple[str, list[Any]]] = []
    for name in [*names[:-1], "macro"]:
        real = scored["auroc"] if name == "macro" else scored["per_class"].get(name, {}).get("auroc")
        rows.append((name, [real, *(results["asked"][model].get(name) for model in models)]))
    score = results["inception_score"]
    rows.append(("Inception Score", [score["real"], *(score[model] for model in models)]))
    note = (
        "AUROC of the feature network's probability of a finding: in films of patients, labeled with it or not; in "
        "generated films, asked to show it or not. The feature network stands beside no floor: what a logistic "
        "regression on 32x32 films would reach was not measured. The Inception Score is over its probabilities."
    )
    return table("Is the finding there?", note, [f"real films ({split})", *(WORDS[name] for name in models)], rows)


def _diversity(results: Results) -> Table:
    entry = results["memorization"]
    note = (
        "Distance of each generated film to the nearest training film, root mean square of gray levels at 32 px, "
        "against what held-out films have. About 1 % lie below their first percentile where nothing is copied."
    )
    rows = [
        (
            "generated films nearer to a training film than 99 % of held-out films",
            [entry["closer_than_1_percent_of_held_out"]],
        ),
        ("median distance of generated films", [entry["median_distance"]]),
        ("median distance of held-out films", [entry["median_distance_held_out"]]),
    ]
    return table("Copies of training films?", note, ["ours"], rows)


def _use(results: Results) -> Table:
    columns = ["AUROC", "minus films of patients", "each seed"]
    keys = ["auroc", "minus_real"]
    if any("pointing" in entry for entry in results["use"].values()):
        columns += [
            "detection: pointing game",
            "minus films of patients",
            "segmentation: IoU",
            "minus films of patients",
        ]
        keys += ["pointing", "pointing_minus_real", "iou", "iou_minus_real"]
    rows = []
    for arm, entry in results["use"].items():
        cells = [entry.get(key) for key in keys]
        cells.insert(2, ", ".join(f"{value:.3f}" for value in entry["seeds"].values() if value is not None))
        rows.append((ARMS[arm], cells))
    note = (
        "Classifiers of one kind, equal optimizer steps, judged on held-out films of patients by the mean probability "
        "of the seeds; what begins on generated films takes as many steps on films of patients after them. On phantoms "
        "their class activation maps are held against the masks of the findings, which no training saw: pointing game, "
        "and IoU where the map exceeds one half."
    )
    return table("What generated films are good for", note, columns, rows)


def headline(results: Results) -> str:
    """How near the films are and whether they show what was asked, in two sentences."""
    layer = next(iter(results["fdd"]), None)
    if layer is None:
        return ""
    own, entry = results["model"], results["fdd"][layer]
    mean = entry["mean"]
    asked = results["asked"][own]["macro"]
    ((_, scored),) = results["classifier"].items()
    parts = []
    if mean[own]["value"] is None:
        parts.append("No class has films enough for a distance between held-out and generated films.")
    else:
        ours, untrained = mean[own]["value"], mean["untrained"]["value"]
        parts.append(
            f"Films generated by the {WORDS[own]} generator are at a mean FDD of {ours:.3g} from held-out films, "
            f"against {untrained:.3g} of the same generator untrained."
        )
    gap = entry.get("minus_baseline")
    if gap and gap["value"] is not None:
        ends = f"[{gap['low']:.3g}, {gap['high']:.3g}]" if gap["low"] is not None else "(no interval)"
        verdict = "not distinguishable from"
        if gap["low"] is not None and gap["high"] < 0:
            verdict = "below"
        elif gap["low"] is not None and gap["low"] > 0:
            verdict = "above"
        parts.append(f"That is {verdict} the cDCGAN's: difference {gap['value']:.3g} {ends}.")
    parts.append(
        f"A classifier of real films (AUROC {scored['auroc']['value']:.3f} on them) finds the finding asked for with a "
        f"macro AUROC of {asked['value']:.3f}."
    )
    return " ".join(parts)
