"""The pneumonia study's own tables: each stage's gain, the grid, how the tangent kernel moves (ETRI deck)."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrjax import data
from cxrjax.infer import classifier
from cxrjax.phases import Context
from cxrjax.studies import tables
from cxrjax.studies.classification import comparison, ntk
from cxrjax.studies.published import PNEUMONIA
from cxrjax.tasks import classify
from cxrjax.types import Array, Results


def run(context: Context) -> Results:
    """The comparison of all networks, the stages beside the deck's, the grid's rows and the kernel diagnostics."""
    out = comparison.run(context)
    titles = dict(context.config.study.systems)
    deck = {"base": "base", "tuned": "hyper-parameters", "densenet": "DenseNet-121", "augmented": "augmentation",
            "head2048": "2048-wide head"}  # fmt: skip
    rows: list[tuple[str, list[Any]]] = []
    for name, title in titles.items():
        if name in (*deck, "head1024"):
            printed = tables.published(PNEUMONIA.columns[0].values.get(deck.get(name, "")))
            entry = out["systems"][name]
            rows.append((title, [entry["accuracy"], entry["auroc"], entry.get("triage_share"), printed]))
    note = f"The deck's column is accuracy on {PNEUMONIA.columns[0].films}. {PNEUMONIA.note}"
    columns = ["accuracy", "AUROC", "set aside at 99 % sensitivity", "accuracy in the deck"]
    out["tables"].insert(0, tables.table("Stages", note, columns, rows))
    for phase, found in context.found.items():
        out["grid"] = {"phase": phase, "rows": found["rows"], "best": found["best"]}
        out["tables"].append(_grid_table(found["rows"]))
    if context.config.study.ntk:
        out["ntk"] = diagnose(context)
        out["tables"].append(_ntk_table(out["ntk"]))
    return out


def _grid_table(rows: list[Results]) -> tables.Table:
    """The best ten cells, by validation accuracy."""
    finite = [row for row in rows if not row["diverged"]]
    best = sorted(finite, key=lambda row: float(row["accuracy"]), reverse=True)[:10]
    cells = [
        (
            f"{row['depth']}, {row['optimizer']}",
            [
                f"{row['lr']:g}",
                f"{row['momentum']:g}",
                f"{row['accuracy']:.3f}",
                f"{row['auroc']:.3f}",
                f"{row['steps']}",
            ],
        )
        for row in best
    ]
    note = (
        f"{len(rows)} cells, {len(rows) - len(finite)} of them diverged. Validation figures, without "
        "intervals: the best of many cells flatters itself."
    )
    columns = ["learning rate", "momentum", "validation accuracy", "validation AUROC", "steps"]
    return tables.table("Grid search, the ten best", note, columns, cells)


def diagnose(context: Context) -> Results:
    """The tangent kernel of heads of several widths on one network's pooled features of training films."""
    settings, config = context.config.study.ntk, context.config
    phase, classes = settings.features, context.classes
    label = data.labels.select(context.films.table("train")["labels"], context.films.columns, classes)
    known = np.flatnonzero(~np.isnan(label).any(axis=1))
    chosen = np.sort(np.random.default_rng(config.seed).permutation(known)[: settings.films])
    image = data.films(context.films, "train", chosen)["image"]
    seeing = classifier.of(config[phase], context.states[phase], classes, config.data.size, context.mesh)
    pooled = seeing.compiled(_pooled)
    features = np.concatenate([np.asarray(pooled(image[i : i + 64])) for i in range(0, len(image), 64)])
    return ntk.diagnose(
        features, label[chosen], widths=tuple(settings.widths), steps=settings.steps, lr=settings.lr, seed=config.seed
    )


def _pooled(seeing: classifier.Classifier, image: Array) -> Array:
    x = classify.shown(seeing.options, image)  # whole films, whatever evaluation crops
    return seeing.net.apply(seeing.variables["net"], x, train=False)[1]["pooled"]


def _word(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _ntk_table(found: Results) -> tables.Table:
    names = [
        ("change", "relative change of the kernel"),
        ("smallest_eigenvalue", "smallest eigenvalue"),
        ("condition", "condition number"),
        ("arc_cosine_error", "distance to the infinite-width kernel"),
    ]
    rows = [(f"width {width}", [_word(found[key][i]) for key, _ in names]) for i, width in enumerate(found["width"])]
    note = (
        "A diagnostic on one network's features, no claim about accuracy: wide heads whose kernel hardly moves train "
        "like a kernel machine (Jacot et al. 2018)."
    )
    return tables.table("Neural tangent kernel of the head", note, [words for _, words in names], rows)
