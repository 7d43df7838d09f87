"""Treatment progress in latent space: latent diffusion + latent CAM (the ETRI deck's future work).

    python launch/main.py --config=configs/latent_ddpm_cam.py     phantoms, latents of 16x16x4; minutes on 2 cores
    python launch/main.py --config=configs/latent_ddpm_cam.py:smoke     the same path in seconds; numbers mean nothing
    python launch/main.py --config=configs/latent_ddpm_cam.py:kermany --config.data.root=DIR      real pediatric films
    python launch/main.py --config=configs/latent_ddpm_cam.py:paper --config.data.name=... --config.data.root=DIR
        512 px, latents of 64x64x3, the published chest X-ray recipe (Pinaya et al. 2023); for GPU and TPU

`--config.study.pixel_run=DIR` names a finished run of `configs/ddpm_cam.py` of the same films: its classifier and judge
are taken, and its diffusion treats the same films in the same arms, for a comparison of the two systems.

Expected: a film costs several times less time than in pixel space; the autoencoder alone changes it a little
everywhere, which pasting known pixels back takes away.
"""

from cxrjax import defaults

VARIANTS = ("smoke", "kermany", "paper")
# Data sets that are nothing without --config.data.root.
NEEDS_ROOT = ("kermany",)

# Every value that the deck, which only names latent diffusion and latent CAM, leaves open.
CHOICES = {
    "autoencoder.perceptual": ((0.0, 0.002, ...), "Pinaya et al. 2023: 0.002; ours by our own classifier's features"),
    "autoencoder.adversarial": (
        (0.0, 0.005, 0.01, ...), "Pinaya et al. 2023: 0.005 of the whole square, which is 0.01 of our half",
    ),
    "autoencoder.kl": ((1e-8, ...), "Pinaya et al. 2023: 1e-8"),
    "autoencoder.optim.lr": ((5e-5, ...), "Pinaya et al. 2023: 5e-5; the discriminator's 1e-4"),
    "diffusion.prediction": (("v", "epsilon"), "Pinaya et al. 2023: v"),
    "diffusion.schedule": (("linear", "scaled_linear", "cosine"), "Pinaya et al. 2023: scaled_linear"),
    "diffusion.only": (("Normal", ""), "Wyatt et al. 2022: healthy films alone"),
    "study.guidance.source": (
        ("gradcam", "cam", "fcn_map", "anomaly", "latent_gradcam"),
        "ours: the film's Grad-CAM on the latent grid, or that of a classifier of latents",
    ),
    "study.guidance.pool": (("max", "mean"), "ours: max, so that a small lesion is not thinned away"),
    "study.guidance.paste": ((False, True), "ours: a decoder does not return known pixels; pasting does"),
    "study.sampler.name": (("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m"), "Pinaya et al. 2023: DDIM of 50 steps"),
    "study.sampler.clip": ((0.0, 1.0, ...), "latents have no bounds: 0 leaves the estimate free"),
}  # fmt: skip

_ARMS = {
    "time_gated_paste": {"mode": "time_gated", "hard": True, "paste": True},
    "time_gated_mean": {"mode": "time_gated", "pool": "mean"},
    "time_gated_wide": {"mode": "time_gated", "hard": True, "threshold": 0.15},
    "time_gated_latent": {
        "mode": "time_gated", "hard": True, "source": "latent_gradcam", "map_phase": "latent_classifier",
    },
    "per_pixel_time": {"mode": "per_pixel_time", "diffusion_phase": "diffusion_map"},
}  # fmt: skip


def _optim(lr, **changes):
    return defaults.optim("adamw", lr, **{"schedule": "cosine", "clip": 1.0, **changes})


def _classify(net, lr, steps, **changes):
    return defaults.classify(net, _optim(lr, weight_decay=1e-4), steps, 64, **{"save_every": 100, **changes})


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data("phantom", ("Normal", "Pneumonia"), 64)
    c.data.num.test = 512
    c.phases = ("classifier", "judge", "autoencoder", "latent_classifier", "diffusion", "diffusion_map")
    c.study = defaults.treatment(
        sampler={"clip": 0.0}, arms=_ARMS,
        modes=("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend", *_ARMS),
    )  # fmt: skip
    # As in configs/ddpm_cam.py, so that they can be those of its run.
    c.classifier = _classify({"name": "densenet_tiny", "hidden": (2048,)}, 4e-3, 120, warp=4)
    c.judge = _classify({"name": "resnet_tiny"}, 6e-3, 120, noise=0.1, blur=1.5)
    c.classifier.from_run = c.study.get_ref("pixel_run")
    c.judge.from_run = c.study.get_ref("pixel_run")
    c.autoencoder = defaults.autoencoder(
        {"name": "autoencoder_tiny"}, _optim(1e-3, warmup=20), _optim(4e-4), 600, 16, adversarial_from=300, ema=0.99
    )
    c.latent_classifier = _classify(
        {"name": "resnet_tiny", "blocks": (1, 2), "widths": (32, 64), "stem_stride": 1}, 2e-3, 200,
        normalize="symmetric",
    )  # fmt: skip
    c.diffusion = defaults.diffusion(
        {"name": "unet_tiny", "base": 32, "mults": (1, 2, 2), "updown": "plain"}, _optim(2e-3, warmup=50), 1000, 16,
        prediction="v", t_max=700, ema=0.995, eval_every=500,
    )  # fmt: skip
    with c.unlocked():
        c.autoencoder.classifier = c.classifier
        c.latent_classifier.task, c.diffusion.task = "latent_classify", "latent_ddpm"
        for name in ("latent_classifier", "diffusion"):
            c[name].autoencoder = c.autoencoder
            c[name].given = (("autoencoder", "autoencoder"),)
    c.diffusion_map = _mapped(c.diffusion, 400)
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _mapped(diffusion, steps):
    """The same diffusion, told a time at every place, going on with its weights."""
    phase = diffusion.copy_and_resolve_references()
    phase.update({"carry": "diffusion", "time": "map", "steps": steps, "eval_every": steps})
    phase.optim.lr = diffusion.optim.lr / 2
    return phase


def _smoke(c):
    c.data.size = 32
    c.data.num.update({"train": 96, "val": 16, "test": 32})
    for name in ("classifier", "judge", "latent_classifier"):
        c[name].update({"steps": 4, "batch": 16, "save_every": 2, "log_every": 2})
    c.autoencoder.update({"steps": 6, "batch": 8, "save_every": 3, "log_every": 2, "adversarial_from": 3})
    for name in ("diffusion", "diffusion_map"):
        c[name].update({"steps": 6, "batch": 8, "save_every": 3, "log_every": 2, "eval_every": 3})
    c.study.update({"num_diseased": 6, "num_controls": 2, "batch": 8, "lambdas": (200, 400)})
    c.study.sampler.stride = 100
    c.warnings = ("Smoke test: a few training steps; its numbers mean nothing.",)
    return c


def _kermany(c):
    c.data.update({"name": "kermany"})
    c.warnings = (
        "Kermany's classes differ in more than disease: film size, aspect and exposure leak, so that a logistic "
        "regression on 32x32 films scores high (see logreg32). Children of 1 to 5 years.",
    )
    c.classifier.optim.lr = c.judge.optim.lr = 2e-3
    c.classifier.update({"net": {"name": "densenet_tiny", "blocks": (1, 6, 8), "hidden": (2048,)}, "steps": 500})
    c.judge.update({"net": {"name": "resnet_tiny", "blocks": (1, 2, 2), "widths": (24, 48, 96)}, "steps": 500})
    c.autoencoder.update({"steps": 800, "adversarial_from": 400})
    c.latent_classifier.update({"steps": 300})
    c.diffusion.update({"steps": 1600, "save_every": 200, "eval_every": 800, "ema": 0.998, "t_max": 800})
    c.diffusion_map = _mapped(c.diffusion, 400)
    c.study.update({
        "num_controls": 32, "batch": 96, "penalties": (0.0001, 0.001, 0.01, 0.1),
        "lambdas": (100, 200, 300, 450, 600, 750),
    })  # fmt: skip
    c.study.sampler.stride = 30
    return c


def _paper(c):
    c.classifier.optim.lr = c.judge.optim.lr = 2e-3
    c.data.size = 512
    c.data.num.update({"train": 20000, "val": 1000, "test": 2000})
    for name, net in (("classifier", {"name": "densenet121", "hidden": (2048,)}), ("judge", {"name": "resnet50"})):
        c[name].update({
            "net": {**net, "dtype": "bfloat16"}, "steps": 20000, "eval_every": 500, "save_every": 500,
            "select": "best", "metric": ("auroc", "max"),
        })  # fmt: skip
    c.judge.blur = 12.0
    c.autoencoder.update({
        "net": {"name": "autoencoder", "dtype": "bfloat16"}, "steps": 200_000, "batch": 32, "log_every": 100,
        "save_every": 5000, "adversarial_from": 20_000, "ema": 0.0, "adversarial": 0.01,
        "optim": _optim(5e-5, schedule="constant"), "optim_d": _optim(1e-4, schedule="constant"),
    })  # fmt: skip
    c.latent_classifier.update({
        "net": {"name": "resnet50", "stem": "cifar", "dtype": "bfloat16"}, "steps": 20000, "eval_every": 500,
        "save_every": 500, "select": "best", "metric": ("auroc", "max"),
    })  # fmt: skip
    c.diffusion.update({
        "net": {"name": "unet", "base": 256, "mults": (1, 2, 3), "attention": (32, 16), "heads": 1, "updown": "block",
                "dtype": "bfloat16"},
        "optim": _optim(2.5e-5, schedule="constant"), "steps": 300_000, "batch": 64, "log_every": 100,
        "eval_every": 5000, "save_every": 5000, "schedule": "scaled_linear", "ema": 0.9999, "t_max": 0,
    })  # fmt: skip
    c.diffusion_map = _mapped(c.diffusion, 100_000)
    c.study.update({"num_diseased": 256, "num_controls": 64, "batch": 64, "lambdas": (100, 200, 300, 400, 500, 600)})
    c.study.guidance.blur = 8.0
    c.study.sampler.update({"name": "ddim", "stride": 10})
    return c
