"""A run that trains a generator and measures its films: what the generators' configs share, variant by variant."""

from __future__ import annotations

from ml_collections import ConfigDict

from cxrjax.defaults import variants
from cxrjax.defaults.keys import data, run
from cxrjax.defaults.phases import classify, optim
from cxrjax.defaults.studies import fdd, synthesis

_FOUR = ("Cardiomegaly", "Effusion", "Mass", "Pneumothorax")
_EIGHT = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
_FOURTEEN = (
    *_EIGHT, "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip


def default(generator: ConfigDict) -> ConfigDict:
    """Phantoms of four findings, a classifier of them, a generator, and their comparison.

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
    with c.features.unlocked():
        c.features.classes = ()  # that it learns; () for those of the films
    c.gan = generator
    # The classifier of each arm of the last table.
    c.use = classify({"name": "resnet_tiny"}, optim("adam", 2e-3, schedule="cosine"), 100, 32, **classifier)
    c.fdd = fdd()
    c.features.run = c.fdd.get_ref("run")
    c.study = synthesis()
    return c


def eight(c: ConfigDict) -> None:
    """All eight findings, on more films, by networks trained for longer."""
    c.data.update({
        "classes": _EIGHT, "findings": _EIGHT, "normal_share": 1 / 9, "num": {"train": 5400, "val": 270, "test": 2250},
    })  # fmt: skip
    c.features.steps = 400


def nih(c: ConfigDict) -> None:
    """A sample of ChestX-ray14 at 64 px, its patients split anew: a sample need not have all findings in every part."""
    c.data.update({"name": "nih", "classes": _EIGHT, "split": "carved", "carve": {"val": 0.05, "test": 0.35}})
    c.features.update({"steps": 400, "augment": ("flip", "crop")})
    c.use.update({"steps": 200})


def paper(c: ConfigDict) -> None:
    """All of ChestX-ray14 at 256 px: batch 16 for 20 epochs of 4,904 batches, the benchmark's training part alone."""
    c.data.update({"name": "nih", "classes": _EIGHT, "split": "arnoweng", "size": 256})
    classifier = {
        "net": {"name": "densenet121", "dtype": "bfloat16"}, "channels": 3, "normalize": "imagenet", "batch": 64,
    }  # fmt: skip
    c.features.update({
        **classifier, "classes": _FOURTEEN, "steps": 40_000, "augment": ("flip",), "eval_every": 1226,
        "save_every": 1226, "select": "best",
    })  # fmt: skip
    c.gan.update({
        "steps": 98_080, "batch": 16, "latent": 100, "ratio": 5, "mismatched": False, "ema": 0.999, "log_every": 100,
        "eval_every": 4904, "save_every": 4904, "eval_batch": 32,
    })  # fmt: skip
    c.use.update({**classifier, "steps": 12_260})
    c.study.update({"batch": 64, "seeds": 3, "num_made": 5000})


def all_images(c: ConfigDict) -> None:
    """After `paper`: 20 epochs of all 112,120 films, 7,008 batches each, the reference films among them."""
    c.gan.update({"part": "all", "steps": 140_160, "eval_every": 7008, "save_every": 7008})
    c.study.arms = ()  # whose judges would be of films that the generator has seen
    c.warnings = (
        "The generator was trained on the reference films too, the feature network was not. The paper does not say "
        "which films its generator saw; its 7,000 batches of 16 an epoch are about all that there are.",
    )


def smoke(c: ConfigDict) -> None:
    """Seconds long; its numbers mean nothing."""
    variants.smoke(c, (64, 16, 60), ("features",))
    c.gan.update({"steps": 8, "batch": 8, "eval_batch": 16, "save_every": 4, "log_every": 4, "eval_every": 0})
    c.use.update({"steps": 3, "batch": 8, "save_every": 3, "log_every": 3})
    c.fdd.update({"draws": 20, "layers": ("prob", "logit")})
    c.study.update({"batch": 20, "seeds": 1, "num_made": 8, "arms": ("real", "real_and_made", "made", "pretrained")})
