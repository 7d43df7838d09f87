"""CNN-5 and ResNet-18 on four classes, with and without augmentation (capstone project 2022).

    python launch/main.py --config=configs/kaggle4.py                                   phantoms, minutes on 2 cores
    ...:films --config.data.root=DIR           the Kaggle tree, 64 px, small members of both families
    ...:films_transfer --config.data.root=DIR  the same, 160 px, EfficientNet-Lite0 from ImageNet and random weights
    ...:paper --config.data.root=DIR           256 px, CNN-5 of 82,016,377 parameters and ResNet-18; GPU and TPU
    ...:cnn5, :resnet18, :resnet18_augmented   one of the three, on phantoms

A fourth network, the control, sees only a frame along the border, the lungs in it blank where they are found: what it
can tell is an upper bound of the source. But for `:paper`, all see as many films, and CNN-5 and ResNet-18 have about as
many parameters.
"""

from cxrjax import defaults

SYSTEMS = ("cnn5", "resnet18", "resnet18_augmented")
VARIANTS = (
    "smoke", "films", "films_transfer", "films_transfer_smoke", "paper", "cnn5", "resnet18", "resnet18_augmented",
)  # fmt: skip
NEEDS_ROOT = ("kaggle4",)
CLASSES = ("COVID-19", "Normal", "Pneumonia", "Tuberculosis")
TITLES = {
    "cnn5": "CNN-5", "resnet18": "ResNet-18", "resnet18_augmented": "ResNet-18, augmented",
    "border": "control: ResNet on the border alone",
}  # fmt: skip
CAUTION = (
    "Class and source are confounded: the normal and pneumonia films are of children of 1 to 5 years from one "
    "hospital, the COVID-19 and tuberculosis films of adults from elsewhere. What the border-only control "
    "tells is an upper bound of the source; logreg32 shows what needs no network."
)

RESNETS = ("resnet18", "resnet18_augmented", "border")
CHOICES = {
    "cnn5.net.hidden": (((625,), (128,), (64,), ...), "widths are open; those of the tutorial its settings come from"),
    "resnet18_augmented.augment": ((("flip", "rotate", "crop"), ...), "the paper's three; its ranges are open"),
    "resnet18.optim.name": (("adam", "adamw", "sgd", "nag"), "open in the paper"),
    "cnn5.channels": ((1, 3), "open in the paper; 3 as ImageFolder reads"),
    "cnn5.normalize": (("unit", "film", "symmetric", "imagenet"), "the paper scales to [0, 1] and no more; film: on "
                       "phantoms, whose exposure varies"),
    "resnet18.balance": ((False, True), "the paper wants to overcome imbalance and does not say how"),
    "data.split": (("archive", "random_8_2", ""), "the text says 8:2, the figures are of the archive's own test part"),
    "border.border": ((0.125, ...), "ours: the frame without found lungs tells an upper bound of the source"),
    **defaults.transfer_choices("lite0"),
    **defaults.dtypes("resnet18", "resnet18_augmented", "border"),
}  # fmt: skip


def _phase(net, steps, **changes):
    return defaults.classify(net, defaults.optim("adam", 1e-3), steps, 64, **changes)


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data(
        "phantom", CLASSES, 64, num={"train": 1200, "val": 120, "test": 400},
        findings=("COVID-19", "Pneumonia", "Tuberculosis"), normal_share=0.25, split="archive",
    )  # fmt: skip
    c.phases = (*SYSTEMS, "border")
    c.cnn5 = _phase({"name": "cnn5_tiny", "widths": (8, 16, 32), "hidden": (38,)}, 150)
    c.resnet18 = _phase({"name": "resnet_tiny"}, 150)
    c.resnet18_augmented = _phase({"name": "resnet_tiny"}, 150, augment=("flip", "rotate", "crop"))
    c.border = _phase({"name": "resnet_tiny"}, 150, border=0.125)
    # Not the paper's 1e-3: 150 steps of it hardly begin on the phantoms.
    for name in RESNETS:
        c[name].optim.update({"lr": 4e-3, "schedule": "cosine"})
    c.study = defaults.comparison(
        TITLES, paper="kaggle4", maps="resnet18_augmented", penalties=(0.001, 0.01),
        pairs=(("resnet18_augmented", "resnet18"), ("resnet18", "cnn5")),
    )  # fmt: skip
    if variant in SYSTEMS:
        for name in (*SYSTEMS, "border"):
            if name != variant:
                del c[name]
        c.phases = (variant,)
        c.study = defaults.comparison({variant: TITLES[variant]}, paper="kaggle4", penalties=c.study.penalties)
    elif variant != "default":
        globals()[f"_{variant}"](c)
    return c


def _smoke(c):
    defaults.smoke(c, (96, 16, 40), c.phases)
    c.cnn5.net.hidden = (150,)  # of a quarter of the pixels
    # Brighter films of other chests, none with tuberculosis.
    c.data.external.bright = {
        "name": "phantom", "seed": 7, "num": {"train": 0, "val": 0, "test": 30}, "gamma": (0.5, 0.8),
        "findings": ("COVID-19", "Pneumonia"), "normal_share": 1 / 3,
        "class_map": (*((name, name) for name in CLASSES if name != "Tuberculosis"), ("Tuberculosis", "")),
    }  # fmt: skip


def _films(c):
    c.data.update({"name": "kaggle4", "overlap": "drop"})
    resnet = {"name": "resnet_tiny", "blocks": (1, 2, 2), "widths": (24, 48, 96)}
    for name in c.phases:
        c[name].net = {"name": "cnn5_tiny", "hidden": (88,)} if name == "cnn5" else resnet
        c[name].update({"steps": 425, "normalize": "unit"})
        c[name].optim.update({"lr": 1e-3, "schedule": "cosine", "warmup": 20})
    c.study.update({"caution": CAUTION, "penalties": (1e-4, 1e-3, 1e-2)})


def _films_transfer(c):
    c.data.update({"name": "kaggle4", "overlap": "drop", "size": 160})
    _transferred(c)
    c.study.caution = CAUTION


def _films_transfer_smoke(c):
    _transferred(c)
    defaults.smoke_transfer(c)


def _transferred(c):
    shared = {"tta": ("flip", "shift")}
    defaults.set_phases(
        c,
        # As configs/pneumonia_study.py, whose validation films two of these classes share, found better.
        defaults.transfer("lite0", defaults.LITE0, 600, 350, backbone_stats="kept", **shared),
        defaults.transfer("scratch", defaults.LITE0, 600, 350, weights="", **shared),
        defaults.transfer("resnet", defaults.RESNET18, 600, 350, weights="", **shared),
    )
    c.study = defaults.comparison(
        {"lite0": "EfficientNet-Lite0", "scratch": "the same from random weights",
         "resnet": "ResNet-18 from random weights"},
        paper="kaggle4", maps="lite0", pairs=(("lite0", "scratch"), ("lite0", "resnet")),
        probe={"phase": "lite0_head"}, penalties=(1e-4, 1e-3, 1e-2),
    )  # fmt: skip


def _paper(c):
    # The paper moves the archive's validation films into training: 6,364 films, none held out but the test part.
    c.data.update({"name": "kaggle4", "size": 256})
    c.data.carve.val = 0.0
    steps = 15 * 6364 // 100
    for name in c.phases:
        c[name].update({"batch": 100, "steps": steps, "channels": 3, "save_every": 64, "normalize": "unit"})
    c.cnn5.net = {"name": "cnn5", "hidden": (625,)}
    for name in RESNETS:
        c[name].net = {"name": "resnet18", "dtype": "bfloat16"}
        c[name].optim.update({"lr": 1e-3, "schedule": "constant"})
    c.study.update({"caution": CAUTION, "penalties": (1e-4, 1e-3, 1e-2)})
