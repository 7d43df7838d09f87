"""Anomaly detection by denoising (AnoDDPM, Wyatt et al. 2022): simplex noise, Gaussian noise, and CAM guidance.

    python launch/main.py --config=configs/anoddpm.py               phantoms, 64 px; minutes on 2 cores
    python launch/main.py --config=configs/anoddpm.py:smoke         the same path in seconds; its numbers mean nothing
    python launch/main.py --config=configs/anoddpm.py:nih --config.data.root=DIR    NIH films, radiologists' boxes
    python launch/main.py --config=configs/anoddpm.py:paper --config.data.name=... --config.data.root=DIR
        256 px, the reference's network and training: simplex noise of six octaves, T = 1000; for GPU and TPU

Diffusions learn normal films of the training part alone. Expected: guided arms find a lesion that a classifier was
trained on better than either noise, which know no labels.
"""

from cxrjax import defaults

VARIANTS = ("smoke", "nih", "paper")
# Data sets that are nothing without --config.data.root.
NEEDS_ROOT = ("nih",)

# Every value that Wyatt et al. 2022 leave open, or that differs between paper and code.
CHOICES = {
    "simplex.noise": (("simplex", "gaussian"), "Wyatt et al. 2022: simplex, in training and in both directions"),
    "simplex.simplex.norm": (("none", "unit_std"), "the reference's noise has standard deviation 0.5, not 1"),
    "simplex.simplex.octaves": ((6, ...), "Wyatt et al. 2022: 6"),
    "simplex.simplex.persistence": ((0.8, ...), "Wyatt et al. 2022: 0.8"),
    "simplex.simplex.wavelength": ((64.0, ...), "Wyatt et al. 2022: 64 pixels of 256; ours at 64 px: 16"),
    "simplex.prediction": (("epsilon", "v"), "Wyatt et al. 2022: epsilon; v for the small network"),
    "simplex.t_max": ((0, 800, ...), "Wyatt et al. 2022, code: times below 800; 0 is T"),
    "simplex.batch": ((1, 16, ...), "Wyatt et al. 2022: 1, since its noise is one field for a whole batch"),
    "study.lambdas": ((100, 200, 250, ...), "Wyatt et al. 2022: 250; their code: 200"),
    "study.threshold": ((0.5, ...), "Wyatt et al. 2022, code: 0.5 of the squared error in [-1, 1] units"),
    "study.sampler.stride": ((1, 20, ...), "Wyatt et al. 2022: 1"),
    "study.sampler.variance": (("large", "small"), "Wyatt et al. 2022: large, with unit strides"),
}  # fmt: skip


def _optim(lr, **changes):
    return defaults.optim("adamw", lr, **{"schedule": "cosine", "clip": 1.0, **changes})


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data("phantom", ("Normal", "Pneumonia"), 64)
    c.phases = ("classifier", "gaussian", "simplex", "gaussian_map")
    c.classifier = defaults.classify(
        {"name": "densenet_tiny", "hidden": (2048,)}, _optim(4e-3, weight_decay=1e-4), 120, 64, warp=4, save_every=100
    )
    net = {"name": "unet_tiny", "base": 16, "mults": (1, 2, 4), "patch": 2, "updown": "plain"}
    for name in ("gaussian", "simplex"):
        c[name] = defaults.diffusion(
            net, _optim(2e-3, warmup=50), 500, 16, prediction="v", t_max=500, ema=0.995, noise=name,
            simplex={"wavelength": 16.0},
        )  # fmt: skip
    c.gaussian_map = _mapped(c.gaussian)
    guided = ("noise_matrix", "time_gated", "time_gated_hard", "mask_blend", "per_pixel_time")
    c.study = defaults.treatment(
        name="anomaly", diffusion_phase="gaussian", batch=64, lambdas=(100, 200, 250, 400), num_diseased=100,
        modes=("simplex", "gaussian", *guided),
        arms={
            "simplex": {"mode": "uniform", "diffusion_phase": "simplex"},
            "gaussian": {"mode": "uniform", "diffusion_phase": "gaussian"},
            "per_pixel_time": {"mode": "per_pixel_time", "diffusion_phase": "gaussian_map"},
        },
        sampler={"stride": 20},
    )  # fmt: skip
    # `maps`: arms whose mask is scored itself; `against`: the arm that the others are compared with.
    with c.unlocked():
        c.study.update({"threshold": 0.5, "maps": ("time_gated",), "against": "gaussian"})
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _mapped(gaussian):
    """The Gaussian diffusion, told a time at every pixel, going on with its weights for half as long again."""
    phase = gaussian.copy_and_resolve_references()
    phase.update({
        "carry": "gaussian", "time": "map", "steps": gaussian.steps // 2, "eval_every": gaussian.steps // 2,
    })  # fmt: skip
    phase.optim.lr = gaussian.optim.lr / 2
    return phase


def _smoke(c):
    c.data.size = 32
    c.data.num.update({"train": 96, "val": 16, "test": 32})
    c.classifier.update({"steps": 6, "batch": 16, "save_every": 3, "log_every": 2})
    for name in ("gaussian", "simplex"):
        c[name].update({"steps": 8, "batch": 8, "save_every": 4, "log_every": 2, "eval_every": 4})
    c.gaussian_map = _mapped(c.gaussian)
    c.study.update({"num_diseased": 6, "batch": 8, "lambdas": (100, 200)})
    c.study.sampler.stride = 50
    c.warnings = ("Smoke test: a few training steps; its numbers mean nothing.",)
    return c


def _nih(c):
    # The official split: every film with a box is a test film.
    c.data.update({"name": "nih", "split": "nih_official", "present_only": True})
    c.classifier.optim.lr = 2e-3
    c.classifier.update({
        "net": {"name": "densenet_tiny", "blocks": (1, 6, 8), "hidden": (2048,)}, "steps": 400, "warp": 4,
    })  # fmt: skip
    for name in ("gaussian", "simplex"):
        c[name].net.update({"base": 24, "mults": (1, 2, 3)})
        c[name].update({"steps": 600, "eval_every": 300, "save_every": 200, "augment": ("flip",), "ema": 0.998})
    c.gaussian_map = _mapped(c.gaussian)
    return c


def _paper(c):
    c.classifier.optim.lr = 2e-3
    c.data.size = 256
    c.data.num.update({"train": 20000, "val": 1000, "test": 2000})
    c.classifier.update({
        "net": {"name": "densenet121", "hidden": (2048,), "dtype": "bfloat16"}, "steps": 20000, "eval_every": 500,
        "save_every": 500, "select": "best", "metric": ("auroc", "max"), "optical_limit": 2.0,
    })  # fmt: skip
    for name in ("gaussian", "simplex"):
        c[name].update({
            "net": {"name": "unet", "base": 128, "mults": (1, 1, 2, 2, 4, 4), "attention": (32, 16, 8), "heads": 2,
                    "patch": 1, "updown": "block", "dtype": "bfloat16"},
            "optim": _optim(1e-4, schedule="constant"), "steps": 300_000, "batch": 32, "log_every": 100,
            "eval_every": 5000, "save_every": 5000, "prediction": "epsilon", "ema": 0.9999, "t_max": 800,
        })  # fmt: skip
        c[name].simplex.wavelength = 64.0
    c.gaussian_map = _mapped(c.gaussian)
    c.study.update({"num_diseased": 256, "batch": 32, "lambdas": (200, 250)})
    c.study.guidance.blur = 4.0
    c.study.sampler.update({"stride": 1, "variance": "large"})
    return c
