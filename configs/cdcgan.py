"""Films of a chosen finding by a conditional DCGAN, the baseline of the multi-scale attention GAN (JBE 2020).

    python launch/main.py --config=configs/cdcgan.py           phantoms, four findings, 64 px; minutes on 2 cores
    ...:smoke                                                  the same path in seconds; its numbers mean nothing
    ...:long                                                   phantoms of all eight findings
    ...:nih --config.data.root=DIR                             a sample of ChestX-ray14 at 64 px
    ...:paper --config.data.root=DIR                           all of it at 256 px; GPU and TPU
    ...:paper_all_images --config.data.root=DIR                its generator trained on the reference films too

The films, the feature network and the discriminator's images are those of configs/cgan.py, whose run puts both beside
each other by `--config.study.baseline_run`. But for `:paper`, both see as many batches, update as often and have about
as many parameters, of generators and of all discriminators; learning rates and losses are each one's own.
"""

from cxrjax import defaults
from cxrjax.defaults import generators

VARIANTS = ("smoke", "long", "nih", "paper", "paper_all_images")
NEEDS_ROOT = ("nih",)

CHOICES = {
    "gan.latent": ((100, 32, ...), "open in the paper; as the proposed generator's"),
    "gan.normal": (("zero_vector", "drop", "ninth_class"), "open in the paper, whose Normal films have no class"),
    "gan.net.features": ((32, ...), "open in the paper; DCGAN's 1024 channels at 4x4 for 256 px; as many parameters as "
                         "the proposed generator's in small variants"),
    "gan.ratio": ((1, 2, ...), "DCGAN: one discriminator update for each of the generator's, in :paper; as in cgan.py "
                  "in small variants"),
    "gan.mismatched": ((False, True), "as the proposed generator's"),
    "gan.ema": ((0.999, 0.0, ...), "as the proposed generator's; DCGAN has none"),
    "gan.optim.lr": ((2e-4, ...), "DCGAN"),
    "gan.optim.b2": ((0.999, ...), "DCGAN"),
    **defaults.dtypes("features", "gan", "use"),
}  # fmt: skip


def get_config(variant="default"):
    net = {"name": "cdcgan", "size": 64, "features": 18, "d_features": 23}
    c = generators.default(
        defaults.gan(net, 2e-4, 2000, 16, latent=32, ratio=2, mismatched=True, ema=0.99, loss="cross_entropy")
    )
    c.study.arms = ()  # the last table is the proposed generator's
    if variant != "default":
        globals()[f"_{variant}"](c)
    return c


def _smoke(c):
    generators.smoke(c)
    c.gan.net.update({"size": 32, "features": 9, "d_features": 6})
    c.study.arms = ()


def _long(c):
    generators.eight(c)
    c.gan.steps = 6_000


def _nih(c):
    generators.nih(c)
    c.gan.update({"steps": 4_000, "augment": ("flip",)})


def _paper(c):
    generators.paper(c)
    c.gan.net.update({"size": 256, "features": 32, "d_features": 32, "dtype": "bfloat16"})
    c.gan.ratio = 1


def _paper_all_images(c):
    _paper(c)
    generators.all_images(c)
