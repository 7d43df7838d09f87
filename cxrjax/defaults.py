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
            # `weights_classes`: those of the file's head, of which `weights_head` picks this run's by name.
            "weights": "", "weights_head": False, "weights_classes": (), "optim_from": "", "from_run": "",
            "loss": "softmax", "class_weight": (), "label_smoothing": 0.0, "focal_gamma": 2.0, "ema": 0.0,
            "input": "cxr", "channels": 1, "normalize": "film", "crop": 0, "ten_crop": False, "border": 0.0,
            "warp": 0, "optical_limit": 0.3, "noise": 0.0, "blur": 0.0,
        },
        changes,
    )  # fmt: skip


def diffusion(net: dict[str, Any], optimizer: ConfigDict, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """The keys of a diffusion phase, see `tasks.ddpm.Options` and `run.train_phase`: of normal films, noise linear."""
    return _dict(
        {
            "task": "ddpm", "net": net, "optim": optimizer, "steps": steps, "batch": batch, "eval_batch": 64,
            "log_every": 20, "eval_every": 300, "save_every": 100, "select": "last", "metric": ("loss", "min"),
            "only": "Normal", "carry": "", "carry_opt": False, "augment": (), "from_run": "", "given": (),
            "schedule": "linear", "num_timesteps": 1000, "prediction": "epsilon", "t_max": 0, "ema": 0.9999,
            "noise": "gaussian", "time": "scalar",
            # Wyatt et al. 2022: the noise is not of unit variance.
            "simplex": {"octaves": 6, "persistence": 0.8, "wavelength": 64.0, "norm": "none"},
        },
        changes,
    )  # fmt: skip


def autoencoder(
    net: dict[str, Any], optimizer: ConfigDict, optimizer_d: ConfigDict, steps: int, batch: int, **changes: Any
) -> ConfigDict:
    """The keys of an autoencoder phase, see `tasks.autoencoder.Options`; the weights are Pinaya et al.'s (2023)."""
    return _dict(
        {
            "task": "autoencoder", "net": net, "optim": optimizer, "optim_d": optimizer_d, "steps": steps,
            "batch": batch, "eval_batch": 64, "log_every": 20, "eval_every": 0, "save_every": 100, "select": "last",
            "metric": ("loss", "min"), "only": "", "carry": "", "carry_opt": False, "augment": (), "from_run": "",
            "given": (("classifier", "classifier"),),
            "perceptual": 0.002, "adversarial": 0.005, "kl": 1e-8, "adversarial_from": 0, "ema": 0.0,
        },
        changes,
    )  # fmt: skip


def treatment(**changes: Any) -> ConfigDict:
    """The keys of the treatment-progress study, see `studies.treatment.run` and, for `arms`, `studies.arms.Arm`."""
    return _dict(
        {
            "name": "progress", "cam_phase": "classifier", "judge_phase": "judge", "diffusion_phase": "diffusion",
            "num_diseased": 64, "num_controls": 24, "batch": 88, "penalties": (0.01,),
            "modes": ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend"), "arms": {},
            "lambdas": (50, 100, 200, 400, 500, 600),
            "guidance": {
                "source": "gradcam", "target": "difference", "blur": 2.0, "power": 1.0, "floor": 0.0, "threshold": 0.3,
                "lungs": False, "every": 0, "widens": False, "anomaly_lambda": 200, "paste": False, "pool": "max",
            },
            "sampler": {
                "name": "ancestral", "stride": 40, "spacing": "even", "variance": "small", "eta": 0.0, "clip": 1.0,
                "resamples": 1,
            },
            # Quality against the number of network evaluations; empty evaluations leave it out.
            "solvers": {
                "mode": "time_gated_hard", "lambda": 500, "evaluations": (), "reference": 500,
                "names": ("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m", "sde_dpmpp_2m_quadratic"),
            },
            "pixel_run": "",
        },
        changes,
    )  # fmt: skip


def grid(
    depths: tuple[dict[str, Any], ...], lrs: tuple[float, ...], steps: int, batch: int, **changes: Any
) -> ConfigDict:
    """The keys of a grid phase, see `studies.grid.train`: optimizer x learning rate x momentum x depth."""
    keys = classify({"name": depths[0]["name"]}, optim("sgd", 0.0), steps, batch)
    out = ConfigDict({
        **{key: keys[key] for key in keys if not key.startswith(("carry", "weights", "optim_from", "from_run"))},
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


def gan(net: dict[str, Any], lr: float, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """The keys of an adversarial phase, see `tasks.gan.Options`; `lr` is both sides', `optim_d` the discriminators'."""
    return _dict(
        {
            "task": "gan", "net": net, "optim": optim("adam", lr, b1=0.5), "optim_d": optim("adam", lr, b1=0.5),
            "steps": steps, "batch": batch, "eval_batch": 64, "log_every": 20, "eval_every": 500, "save_every": 200,
            "select": "last", "metric": ("collapsed", "min"), "only": "", "carry": "", "augment": (),
            "latent": 100, "normal": "zero_vector", "loss": "least_squares", "ratio": 5,
            "ratio_mode": "one_d_per_batch", "mismatched": False, "tau_every": 0, "ema": 0.999, "collapse": 0.1,
            "priority": ("Pneumonia", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Atelectasis",
                         "Pneumothorax"),
        },
        changes,
    )  # fmt: skip


# The films, lengths and classifiers of a run that makes films; the two generators' configs add their networks.
_FOUR = ("Cardiomegaly", "Effusion", "Mass", "Pneumothorax")
_EIGHT = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip


def synthesis(generator: ConfigDict) -> ConfigDict:
    """A run that trains a classifier and a generator and compares their films, see `studies.synthesis`.

    Args:
      generator: its adversarial phase, as `gan` makes it.
    """
    c = run()
    c.data = data(
        "phantom", _FOUR, 64, num={"train": 3000, "val": 200, "test": 1250}, findings=_FOUR, normal_share=0.2,
        severity=(0.5, 1.0),
    )  # fmt: skip
    c.phases = ("features", "gan")
    classifier = {"loss": "sigmoid", "normalize": "unit"}
    # The network that distances are taken with, unless `fdd.run` names a finished one.
    c.features = classify({"name": "densenet_tiny"}, optim("adam", 2e-3, schedule="cosine"), 200, 64, **classifier)
    c.gan = generator
    # The classifier of each arm of the last table.
    c.use = classify({"name": "resnet_tiny"}, optim("adam", 2e-3, schedule="cosine"), 100, 32, **classifier)
    c.fdd = ConfigDict({
        "run": "", "phase": "", "own_phase": "features", "layers": ("prob", "logit", "pool"), "draws": 500,
    })  # fmt: skip
    c.features.run = c.fdd.get_ref("run")
    c.study = ConfigDict({
        "name": "synthesis", "gan_phase": "gan", "baseline_run": "", "batch": 125, "reference": "held_out", "cap": 1000,
        "arms": ("real", "balanced", "augmented", "real_and_made", "made"), "seeds": 2, "num_made": 300,
    })  # fmt: skip
    return c


def synthesis_of_eight(c: ConfigDict) -> None:
    """All eight findings, on more films, by networks trained for longer."""
    c.data.update({
        "classes": _EIGHT, "findings": _EIGHT, "normal_share": 1 / 9, "num": {"train": 5400, "val": 270, "test": 2250},
    })  # fmt: skip
    c.features.steps = 400


def synthesis_of_nih(c: ConfigDict) -> None:
    """A sample of ChestX-ray14 at 64 px, its patients split anew: a sample need not have all findings in every part."""
    c.data.update({"name": "nih", "classes": _EIGHT, "split": "carved", "carve": {"val": 0.05, "test": 0.35}})
    c.features.update({"steps": 400, "augment": ("flip", "crop")})
    c.use.update({"steps": 200})


def synthesis_of_paper(c: ConfigDict) -> None:
    """All of ChestX-ray14 at 256 px: batch 16 for 20 epochs of 4,904 batches, the benchmark's training part alone."""
    c.data.update({"name": "nih", "classes": _EIGHT, "split": "arnoweng", "size": 256})
    c.features.update({
        "net": {"name": "densenet121", "dtype": "bfloat16"}, "channels": 3, "normalize": "imagenet", "steps": 40_000,
        "batch": 64, "augment": ("flip",), "eval_every": 1226, "save_every": 1226, "select": "best",
    })  # fmt: skip
    c.gan.update({
        "steps": 98_080, "batch": 16, "latent": 100, "ratio": 5, "mismatched": False, "ema": 0.999, "log_every": 100,
        "eval_every": 4904, "save_every": 4904, "eval_batch": 32,
    })  # fmt: skip
    c.use.update({
        "net": {"name": "densenet121", "dtype": "bfloat16"}, "channels": 3, "normalize": "imagenet", "steps": 12_260,
        "batch": 64,
    })  # fmt: skip
    c.study.update({"batch": 64, "seeds": 3, "num_made": 5000})


def synthesis_smoke(c: ConfigDict) -> None:
    """Seconds long; its numbers mean nothing."""
    c.data.update({"size": 32, "num": {"train": 64, "val": 16, "test": 60}})
    c.features.update({"steps": 4, "batch": 16, "save_every": 2, "log_every": 2})
    c.gan.update({"steps": 8, "batch": 8, "eval_batch": 16, "save_every": 4, "log_every": 4, "eval_every": 0})
    c.use.update({"steps": 3, "batch": 8, "save_every": 3, "log_every": 3})
    c.fdd.update({"draws": 20, "layers": ("prob", "logit")})
    c.study.update({"batch": 20, "seeds": 1, "num_made": 8, "arms": ("real", "real_and_made", "made")})
    c.warnings = ("Smoke test: a few training steps; its numbers mean nothing.",)
