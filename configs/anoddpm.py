"""Anomaly detection by denoising (AnoDDPM, Wyatt et al. 2022): simplex noise, Gaussian noise, and CAM guidance.

    python launch/main.py --config=configs/anoddpm.py               phantoms, 64 px; minutes on 2 cores
    python launch/main.py --config=configs/anoddpm.py:smoke         the same path in seconds; its numbers mean nothing
    python launch/main.py --config=configs/anoddpm.py:nih --config.data.root=DIR    NIH films, radiologists' boxes; and
        on films from elsewhere that have boxes or masks: --config.data.external.NAME.name=... and .root=...
    python launch/main.py --config=configs/anoddpm.py:paper --config.data.name=... --config.data.root=DIR
        256 px, the reference's network and training: simplex noise of six octaves, T = 1000; for GPU and TPU

Diffusions learn normal films of the training part alone. Expected: guided arms find a lesion that a classifier was
trained on better than either noise, which know no labels.
"""

from cxrjax import defaults
from cxrjax.defaults import treatments

VARIANTS = ("smoke", "nih", "paper")
# Data sets that are nothing without --config.data.root.
NEEDS_ROOT = ("nih",)

# Every value that Wyatt et al. 2022 leave open, or that differs between paper and code.
CHOICES = {
    "simplex.noise": (("simplex", "gaussian"), "Wyatt et al. 2022: simplex, in training and in both directions"),
    "simplex.simplex.norm": (("none", "unit_std"), "the reference's noise has standard deviation 0.5, not 1"),
    "simplex.simplex.octaves": ((6, 4, ...), "Wyatt et al. 2022: 6, from 64 to 2 pixels; ours: 4, from 16 to 2"),
    "simplex.simplex.persistence": ((0.8, ...), "Wyatt et al. 2022: 0.8"),
    "simplex.simplex.wavelength": ((64.0, ...), "Wyatt et al. 2022: 64 pixels of 256; ours at 64 px: 16"),
    "simplex.prediction": (("epsilon", "v"), "Wyatt et al. 2022: epsilon; v for the small network"),
    "simplex.t_max": ((0, 800, ...), "Wyatt et al. 2022, code: times below 800; 0 is T"),
    "simplex.batch": ((1, 16, ...), "Wyatt et al. 2022: 1, since its noise is one field for a whole batch"),
    "study.lambdas": ((100, 200, 250, ...), "Wyatt et al. 2022: 250; their code: 200"),
    "study.threshold": ((0.5, ...), "Wyatt et al. 2022, code: 0.5 of the squared error in [-1, 1] units"),
    "study.sampler.stride": ((1, 20, ...), "Wyatt et al. 2022: 1"),
    "study.sampler.variance": (("large", "small"), "Wyatt et al. 2022: large, with unit strides"),
    **defaults.dtypes("classifier", "gaussian", "simplex", "gaussian_map"),
}  # fmt: skip


def get_config(variant="default"):
    c = treatments.default(judge=False)
    c.phases = ("classifier", "gaussian", "simplex", "gaussian_map")
    net = {"name": "unet_tiny", "base": 16, "mults": (1, 2, 4), "patch": 2, "updown": "plain"}
    for name in ("gaussian", "simplex"):
        c[name] = defaults.diffusion(
            net, treatments.adamw(2e-3, warmup=50), 500, 16, prediction="v", t_max=500, ema=0.995, noise=name,
            simplex={"wavelength": 16.0, "octaves": 4},
        )  # fmt: skip
    c.gaussian_map = _mapped(c)
    guided = ("noise_matrix", "time_gated", "time_gated_hard", "mask_blend", "per_pixel_time")
    c.study = defaults.anomaly(
        diffusion_phase="gaussian", batch=64, lambdas=(100, 200, 250, 400), num_diseased=100, num_controls=40,
        modes=("simplex", "gaussian", *guided), maps=("time_gated",), against="gaussian",
        arms={
            "simplex": {"mode": "uniform", "diffusion_phase": "simplex"},
            "gaussian": {"mode": "uniform", "diffusion_phase": "gaussian"},
            "per_pixel_time": {"mode": "per_pixel_time", "diffusion_phase": "gaussian_map"},
        },
        sampler={"stride": 20},
    )  # fmt: skip
    if variant != "default":
        globals()[f"_{variant}"](c)
        c.gaussian_map = _mapped(c)
    return c


def _mapped(c):
    """The Gaussian diffusion, told a time at every pixel, going on for half as long again."""
    return treatments.going_on(c, "gaussian", c.gaussian.steps // 2, time="map")


def _smoke(c):
    treatments.smoke(c, classifiers=6, diffusions=8, lambdas=(100, 200), stride=50, num_controls=4)


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


def _paper(c):
    treatments.paper(c, 256)
    for name in ("gaussian", "simplex"):
        treatments.anoddpm(c[name], t_max=800)
        c[name].simplex.update({"wavelength": 64.0, "octaves": 6})
    c.study.update({"num_diseased": 256, "batch": 32, "lambdas": (200, 250)})
    c.study.guidance.blur = 4.0
    c.study.sampler.update({"stride": 1, "variance": "large"})
