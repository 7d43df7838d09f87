"""Treatment progress in latent space: latent diffusion + latent CAM (the ETRI deck's future work).

    python launch/main.py --config=configs/latent_ddpm_cam.py     phantoms, latents of 16x16x4; minutes on 2 cores
    python launch/main.py --config=configs/latent_ddpm_cam.py:smoke     the same path in seconds; numbers mean nothing
    python launch/main.py --config=configs/latent_ddpm_cam.py:kermany --config.data.root=DIR      real pediatric films,
        its judge from ImageNet weights; and on films from elsewhere, under a name:
        --config.data.external.official.name=kermany --config.data.external.official.root=DIR
    python launch/main.py --config=configs/latent_ddpm_cam.py:paper --config.data.name=... --config.data.root=DIR
        512 px, latents of 64x64x3, the published chest X-ray recipe (Pinaya et al. 2023); for GPU and TPU

`--config.study.pixel_run=DIR` names a finished run of `configs/ddpm_cam.py` of the same films: its classifier and judge
are taken, and its diffusion treats the same films in the same arms, for a comparison of the two systems.

Expected: a film costs several times less time than in pixel space; the autoencoder alone changes it a little
everywhere, which pasting known pixels back takes away.
"""

from cxrjax import defaults
from cxrjax.defaults import treatments

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
    **defaults.dtypes("classifier", "judge", "autoencoder", "latent_classifier", "diffusion", "diffusion_map"),
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


def get_config(variant="default"):
    c = treatments.default()  # classifier and judge as in configs/ddpm_cam.py, so that they can be those of its run
    c.data.num.test = 512
    c.phases = ("classifier", "judge", "autoencoder", "latent_classifier", "diffusion", "diffusion_map")
    c.study = defaults.treatment(
        sampler={"clip": 0.0}, arms=_ARMS,
        modes=("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend", *_ARMS),
    )  # fmt: skip
    c.classifier.from_run = c.study.get_ref("pixel_run")
    c.judge.from_run = c.study.get_ref("pixel_run")
    c.autoencoder = defaults.autoencoder(
        {"name": "autoencoder_tiny"}, treatments.adamw(1e-3, warmup=20), treatments.adamw(4e-4), 600, 16,
        adversarial_from=300, ema=0.99,
    )  # fmt: skip
    c.latent_classifier = treatments.classifier(
        {"name": "resnet_tiny", "blocks": (1, 2), "widths": (32, 64), "stem_stride": 1}, 200, normalize="symmetric"
    )
    c.diffusion = defaults.diffusion(
        {"name": "unet_tiny", "base": 32, "mults": (1, 2, 2), "updown": "plain"},
        treatments.adamw(2e-3, warmup=50), 1000, 16, prediction="v", t_max=700, ema=0.995, eval_every=500,
    )  # fmt: skip
    with c.unlocked():
        c.autoencoder.classifier = c.classifier
        c.latent_classifier.task, c.diffusion.task = "latent_classify", "latent_ddpm"
        for name in ("latent_classifier", "diffusion"):
            c[name].autoencoder = c.autoencoder
            c[name].given = (("autoencoder", "autoencoder"),)
    c.diffusion_map = treatments.going_on(c, "diffusion", 400, time="map")
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _smoke(c):
    treatments.smoke(c, classifiers=4, diffusions=6, lambdas=(200, 400), stride=100, num_controls=2)
    c.autoencoder.update({"steps": 6, "batch": 8, "save_every": 3, "log_every": 2, "adversarial_from": 3})
    return c


def _kermany(c):
    treatments.kermany(c)
    c.autoencoder.update({"steps": 800, "adversarial_from": 400})
    c.latent_classifier.update({"steps": 300})
    c.study.outside.update({"num_diseased": 48, "num_controls": 24})
    treatments.pretrained_judge(c)
    for name in ("judge_head", "judge"):
        c[name].from_run = c.study.get_ref("pixel_run")
    c.diffusion_map = treatments.going_on(c, "diffusion", 400, time="map")
    return c


def _paper(c):
    treatments.paper(c, 512)
    c.judge.blur = 12.0
    c.autoencoder.update({
        "net": {"name": "autoencoder", "dtype": "bfloat16"}, "steps": 200_000, "batch": 32, "log_every": 100,
        "save_every": 5000, "adversarial_from": 20_000, "ema": 0.0, "adversarial": 0.01,
        "optim": treatments.adamw(5e-5, schedule="constant"), "optim_d": treatments.adamw(1e-4, schedule="constant"),
    })  # fmt: skip
    c.latent_classifier.update({
        **treatments.FULL, "net": {"name": "resnet50", "stem": "cifar", "dtype": "bfloat16"},
    })  # fmt: skip
    c.diffusion.update({
        # The recipe has one head as wide as the map, 512 and 768 channels; 64 and 96 are what fused kernels take.
        "net": {"name": "unet", "base": 256, "mults": (1, 2, 3), "attention": (32, 16), "heads": 8, "updown": "block",
                "dtype": "bfloat16"},
        "optim": treatments.adamw(2.5e-5, schedule="constant"), "steps": 300_000, "batch": 64, "log_every": 100,
        "eval_every": 5000, "save_every": 5000, "schedule": "scaled_linear", "ema": 0.9999, "t_max": 0,
    })  # fmt: skip
    c.diffusion_map = treatments.going_on(c, "diffusion", 100_000, time="map")
    c.study.update({"num_diseased": 256, "num_controls": 64, "batch": 64, "lambdas": (100, 200, 300, 400, 500, 600)})
    c.study.guidance.blur = 8.0
    c.study.sampler.update({"name": "ddim", "stride": 10})
    return c
