"""The keys that every config has, with values that change nothing: a config file says what a paper says, and no more.

Imports ml_collections alone, so that a mistake on the command line is told before jax is imported.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict


def _dict(values: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """`values` with `changes`, none of which may be a new key; a nested dict is updated by its keys, except `net`."""
    out = ConfigDict(values)
    for key, value in changes.items():
        if key not in out:
            raise KeyError(f"{key!r} is none of {', '.join(out)}")
        if key != "net" and isinstance(value, dict | ConfigDict) and isinstance(out[key], ConfigDict):
            out[key].update(value)
        else:
            with out.ignore_type():
                out[key] = value
    return out


def run(**changes: Any) -> ConfigDict:
    """The keys of a run beside its data, phases and study."""
    return _dict(
        {
            "seed": 0,
            "compile_cache": "~/.cache/cxrjax/jax",
            "warnings": (),
            "mesh": {"devices": 0, "shard": (), "distributed": False},
        },
        changes,
    )


def data(name: str, classes: tuple[str, ...], size: int, **changes: Any) -> ConfigDict:
    """The keys of a data set; those that its source does not read are left as they are."""
    return _dict(
        {
            "name": name, "root": "", "cache": "~/.cache/cxrjax/films", "size": size, "seed": 0, "classes": classes,
            "quarantine_limit": 0.01, "carve": {"val": 0.1, "test": 0.1}, "enh": False, "split": "", "folds": 5,
            # phantom
            "num": {"train": 1500, "val": 120, "test": 256}, "findings": ("Pneumonia",), "normal_share": 0.6,
            "severity": (0.4, 1.0), "findings_per_film": 1,
            # nih, kaggle4, covid3, mimic_cxr, merged, medmnist
            "present_only": False, "strict_lists": True, "overlap": "stop", "manifest": "", "patients_csv": "",
            "images": "", "label_version": "", "labeler": "chexpert", "official_val": False, "enh_options": {},
            "limit": 0, "uncertain": "mask", "nih_root": "", "mimic_root": "", "flavor": "pneumoniamnist",
        },
        changes,
    )  # fmt: skip


def optim(name: str, lr: float, **changes: Any) -> ConfigDict:
    """The keys of an optimizer, see `train.optim.make`."""
    return _dict(
        {
            "name": name, "lr": lr, "schedule": "constant", "warmup": 0, "b1": 0.9, "b2": 0.999, "weight_decay": 0.0,
            "clip": 0.0, "frozen": (), "apart": (), "patience": 5, "factor": 0.1, "boundaries": (),
        },
        changes,
    )  # fmt: skip


def classify(net: dict[str, Any], optimizer: ConfigDict, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """The keys of a classification phase, see `tasks.classify.Options` and `run.train_phase`."""
    return _dict(
        {
            "task": "classify", "net": net, "optim": optimizer, "steps": steps, "batch": batch, "eval_batch": 128,
            "log_every": 20, "eval_every": 0, "save_every": 200, "select": "last", "metric": ("loss", "min"),
            "only": "", "carry": "", "carry_opt": False, "augment": (), "balance": False, "seeds": 1, "folds": 0,
            "weights": "", "weights_head": False, "optim_from": "",
            "loss": "softmax", "class_weight": (), "label_smoothing": 0.0, "focal_gamma": 2.0, "ema": 0.0,
            "input": "cxr", "channels": 1, "normalize": "film", "crop": 0, "ten_crop": False, "border": 0.0,
            "warp": 0, "optical_limit": 0.3, "noise": 0.0, "blur": 0.0,
        },
        changes,
    )  # fmt: skip


def grid(
    depths: tuple[dict[str, Any], ...], lrs: tuple[float, ...], steps: int, batch: int, **changes: Any
) -> ConfigDict:
    """The keys of a grid phase, see `studies.grid.train`: optimizer x learning rate x momentum x depth."""
    keys = classify({"name": depths[0]["name"]}, optim("sgd", 0.0), steps, batch)
    out = ConfigDict({
        **{key: keys[key] for key in keys if not key.startswith(("carry", "weights", "optim_from"))},
        "task": "grid", "depths": tuple(ConfigDict(d) for d in depths), "optimizers": ("sgd", "nag", "adam"),
        "lrs": lrs, "momenta": (0.3, 0.9), "strategy": "auto", "halving": {"eta": 0, "rungs": ()},
        "metric": ("accuracy", "max"),
        "eval_every": 20,
    })  # fmt: skip
    return _dict(out, changes)


def comparison(systems: dict[str, str], **changes: Any) -> ConfigDict:
    """The keys of a study that compares classifiers, see `studies.comparison.run`.

    Args:
      systems: title by phase, in the order of the tables.
      **changes: `paper`, a key of `studies.published.PAPERS`; `pairs` of phases to compare; `maps`, the phase whose
        maps are held against masks or boxes; `penalties` of the floor; `caution`, a sentence over the figures.
    """
    return _dict(
        {
            "name": "comparison", "systems": tuple(systems.items()), "paper": "", "pairs": (), "maps": "",
            "num_maps": 200,
            "penalties": (0.01,), "caution": "", "enh_figure": False, "specificity": 0.95, "ntk": {},
        },
        changes,
    )  # fmt: skip
