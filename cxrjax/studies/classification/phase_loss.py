"""Raw against enhanced films, and two spellings of one loss: the effects over seeds (JKIICE 2021)."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.metrics import classification, entries
from cxrjax.ops import losses
from cxrjax.phases import Context
from cxrjax.studies import footing, tables
from cxrjax.studies.classification import comparison
from cxrjax.types import Arrays, Results

NOTE = "Mean over seeds with a t interval; the seeds are the units, the films are the same."
LOSSES = (
    " The two losses are one "
    "function (greatest differences of value and gradient on these networks' own logits: {value:.1e} and "
    "{gradient:.1e}), so that a difference between them is chance: with {n} seeds, one in twenty such intervals leaves "
    "out 0."
)

# Each the mean over its first arms less that over its second, arm by arm.
EFFECTS = {
    "sparse minus categorical, CXR": (("cxr_sparse",), ("cxr_categorical",)),
    "sparse minus categorical, ENH": (("enh_sparse",), ("enh_categorical",)),
    "ENH minus CXR": (("enh_categorical", "enh_sparse"), ("cxr_categorical", "cxr_sparse")),
    "label smoothing minus categorical, CXR": (("cxr_smoothed",), ("cxr_categorical",)),
    "focal minus categorical, CXR": (("cxr_focal",), ("cxr_categorical",)),
    "ENH minus CXR, ImageNet weights": (("enh_transfer",), ("cxr_transfer",)),
    "ENH minus CXR, random weights": (("enh_random",), ("cxr_random",)),
    "ImageNet minus random weights, CXR": (("cxr_transfer",), ("cxr_random",)),
    "ImageNet minus random weights, ENH": (("enh_transfer",), ("enh_random",)),
}


def same_function(found: list[Arrays]) -> tuple[float, float]:
    """Greatest differences of value and gradient of the two losses on networks' own test logits, in float32."""
    value, gradient = 0.0, 0.0
    for arrays in found:
        known = ~np.isnan(arrays["label"]).any(axis=1)
        logits, label = arrays["logits"][known].astype(np.float32), arrays["label"][known]
        valid = np.ones(len(label), np.float32)
        a, da = jax.value_and_grad(losses.softmax_cross_entropy)(logits, label, valid)
        b, db = jax.value_and_grad(losses.sparse_cross_entropy)(logits, label, valid)
        value = max(value, abs(float(a - b)))
        gradient = max(gradient, float(np.abs(np.asarray(da - db)).max()))
    return value, gradient


def check(config: Any) -> None:
    """As `comparison.check`, and refuses folds: this study repeats by seeds."""
    comparison.check(config)
    if any(config[name].folds > 1 for name, _ in config.study.systems):
        raise UserError("the phase_loss study repeats by seeds; set folds to 0")


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """As `comparison.check_films`, and tells whether the arms of an effect are trained alike."""
    arms = dict(config.study.systems)
    listed = [pair for a, b in EFFECTS.values() for pair in zip(a, b, strict=True) if arms.keys() >= set(pair)]
    told = footing.notes(comparison.sides(config, listed), by_seed=True)
    return comparison.check_films(config, films) + told


def run(context: Context) -> Results:
    """The comparison of all arms, then accuracy and loss over seeds and the two effects."""
    out = comparison.run(context)
    arms: dict[str, dict[str, np.ndarray]] = {}
    found: list[Arrays] = []
    for phase, _ in context.config.study.systems:
        seeds = comparison.seeds_of(context, phase)
        arms[phase] = {"accuracy": np.array([_accuracy(f) for f in seeds]), "loss": np.array([_loss(f) for f in seeds])}
        found += seeds
    value, gradient = same_function(found)
    pairs = [len(v["loss"]) for arm, v in arms.items() if arm.endswith(("categorical", "sparse"))]
    note = NOTE + (LOSSES.format(value=value, gradient=gradient, n=min(pairs)) if pairs else "")
    titles = dict(context.config.study.systems)
    rows = [
        (titles[arm], [entries.t_mean(v["accuracy"], "fraction"), entries.t_mean(v["loss"], "nat")])
        for arm, v in arms.items()
    ]
    out["tables"].insert(0, tables.table("Arms over seeds", note, ["test accuracy", "test loss"], rows))
    effects = _effects(arms)
    rows = [(name, [entry["accuracy"], entry["loss"]]) for name, entry in effects.items()]
    out["tables"].insert(1, tables.table("Effects, paired by seed", "", ["test accuracy", "test loss"], rows))
    out["effects"] = effects | {"same_function": {
        "value": entries.plain(value, len(found), "nat"),
        "gradient": entries.plain(gradient, len(found), "1"),
    }}  # fmt: skip
    out["seeds"] = {
        key: {"metric": words, "groups": {titles[arm]: v[key].tolist() for arm, v in arms.items()}}
        for key, words in (("accuracy", "test accuracy"), ("loss", "test loss"))
    }
    return out


def _accuracy(found: Arrays) -> float:
    known = ~np.isnan(found["label"]).any(axis=1)
    return classification.accuracy(found["label"][known].argmax(axis=1), found["probability"][known].argmax(axis=1))


def _loss(found: Arrays) -> float:
    label, logits = found["label"], found["logits"].astype(np.float64)
    known = ~np.isnan(label).any(axis=1)
    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return float(-(label[known] * log[known]).sum(axis=1).mean())


def _effects(arms: dict[str, dict[str, np.ndarray]]) -> Results:
    """Sparse minus categorical on each input, and enhanced minus raw over both losses, by seed."""
    out: Results = {}
    for name, (a, b) in EFFECTS.items():
        if all(arm in arms for arm in (*a, *b)):
            count = min(len(arms[arm]["loss"]) for arm in (*a, *b))
            out[name] = {
                key: entries.t_mean(
                    np.mean([arms[x][key][:count] - arms[y][key][:count] for x, y in zip(a, b, strict=True)], axis=0),
                    unit,
                )
                for key, unit in (("accuracy", "fraction"), ("loss", "nat"))
            }

    return out
