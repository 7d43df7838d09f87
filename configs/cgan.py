"""Films of a chosen finding by a multi-scale attention conditional GAN, and their FDD (JBE 2020).

    python launch/main.py --config=configs/cgan.py             phantoms, four findings, 16, 32 and 64 px; 2 cores
    ...:smoke                                                  the same path in seconds; its numbers mean nothing
    ...:long                                                   phantoms of all eight findings; an hour on 2 cores
    ...:nih --config.data.root=DIR                             a sample of ChestX-ray14, 16, 32 and 64 px
    ...:paper --config.data.root=DIR                           all of it at 64, 128 and 256 px; GPU and TPU
    ...:paper_all_images --config.data.root=DIR                its generator trained on the reference films too
    ...:paper_phantom                                          the paper's networks on phantoms of 256 px; one GPU

`--config.study.baseline_run=runs/cdcgan` puts a finished run of configs/cdcgan.py beside it, under one feature network,
and `--config.fdd.run=DIR` takes that network from a finished run of configs/fcn_densenet.py:chexnet.

Expected: on phantoms a classifier of real films finds the finding asked for with a macro AUROC above 0.8.
"""

from cxrjax import defaults
from cxrjax.defaults import generators

VARIANTS = ("smoke", "long", "nih", "paper", "paper_all_images", "paper_phantom")
NEEDS_ROOT = ("nih",)

CHOICES = {
    "gan.latent": ((100, 32, ...), "open in the paper; StackGAN-v2's 100, the condition in it"),
    "gan.normal": (("zero_vector", "drop", "ninth_class"), "open in the paper, whose Normal films have no class"),
    "gan.net.join": (("latent", "c"), "the paper prints z; StackGAN-v2 joins the condition alone"),
    "gan.net.tau": (("schedule", "learned"), "the paper's schedule; SAGAN learns it"),
    "gan.net.kv_pool": ((1, 2), "SAGAN's code pools keys and values by 2; the paper shows no pool"),
    "gan.tau_every": ((24_520, 50, ...), "the paper: every 5 epochs, 24,520 batches of the benchmark's training part"),
    "gan.ratio": ((5, 2, 1, ...), "the paper: G:D = 1:5; fewer where a CPU has few batches"),
    "gan.ratio_mode": (("one_d_per_batch", "all_d_per_batch"), "both readings of 1:5"),
    "gan.mismatched": ((False, True), "StackGAN-v2 scores films under a wrong condition; the paper's eq. 5 does not"),
    "gan.ema": ((0.999, 0.0, ...), "StackGAN-v2's; open in the paper"),
    "gan.optim.lr": ((2e-5, ...), "the paper: 2e-5 over 140,000 batches"),
    "gan.optim_d.lr": ((2e-5, ...), "the paper names one rate"),
    "gan.optim.b2": ((0.999, ...), "open in the paper; StackGAN-v2's"),
    "gan.part": (("train", "all"), "open in the paper; 7,000 batches of 16 an epoch are about all films"),
    "study.reference": (("held_out", "train"), "the paper: films that its feature network was not trained on"),
    "features.classes": (((), ...), "open in the paper, of 8 findings in a set of 14; 14 in :paper"),
    "fdd.layers": (("prob", "logit", "pool"), "the paper: probabilities, by what it says of FID"),
    **defaults.dtypes("features", "gan", "use"),
}  # fmt: skip
SMALL = {"name": "cgan", "sizes": (16, 32, 64), "features": 24, "d_features": 16, "join": "latent", "tau": "schedule",
         "kv_pool": 1}  # fmt: skip


def get_config(variant="default"):
    # Fewer discriminator updates and higher rates than the paper: minutes hold a hundredth of its batches.
    c = generators.default(
        defaults.gan(SMALL, 1e-3, 2000, 16, latent=32, ratio=2, mismatched=True, tau_every=180, ema=0.99)
    )
    c.gan.optim_d.lr = 3e-4
    if variant != "default":
        globals()[f"_{variant}"](c)
    return c


def _smoke(c):
    generators.smoke(c)
    c.gan.net.update({"sizes": (8, 16, 32), "features": 8, "d_features": 4})
    c.gan.tau_every = 2


def _long(c):
    generators.eight(c)
    c.gan.update({"steps": 6_000, "tau_every": 500})


def _nih(c):
    generators.nih(c)
    c.gan.update({"steps": 4_000, "tau_every": 300, "augment": ("flip",)})


def _paper(c):
    generators.paper(c)
    c.gan.net.update({"sizes": (64, 128, 256), "features": 64, "d_features": 64, "dtype": "bfloat16"})
    c.gan.optim.lr, c.gan.optim_d.lr = 2e-5, 2e-5
    c.gan.tau_every = 24_520


def _paper_all_images(c):
    _paper(c)
    generators.all_images(c)
    c.gan.tau_every = 35_040


def _paper_phantom(c):
    data = c.data.copy_and_resolve_references()
    _paper(c)
    c.data = data
    c.data.size = 256
    c.features.update({"classes": (), "channels": 1, "normalize": "unit", "steps": 600})
    c.use.update({"channels": 1, "normalize": "unit", "steps": 600})
    # What made films of 256 px within minutes on one GPU.
    c.gan.update({"steps": 20_000, "ratio": 2, "mismatched": True, "ema": 0.995, "tau_every": 500})
    c.gan.optim.lr, c.gan.optim_d.lr = 4e-4, 2e-4
    c.study.num_made = 300
