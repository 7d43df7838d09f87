"""The 28 px recipe of MedMNIST v2 (Yang et al. 2023): CIFAR-style ResNets, Adam, best validation AUROC.

    python launch/main.py --config=configs/medmnist.py                                  phantoms at 28 px, 2 cores
    ...:films --config.data.root=FILE.npz      PneumoniaMNIST from a local file, a small ResNet
    ...:paper                                  ResNet-18 and -50, 100 epochs, the file downloaded; GPU and TPU

Of ChestMNIST, accuracy is no figure: always answering "no" scores 0.947. Rows of 28 px and of true 224 px do not mix.
"""

from cxrjax import defaults

VARIANTS = ("smoke", "films", "paper")
NEEDS_ROOT = ()
CLASSES = ("Normal", "Pneumonia")
TITLES = {"resnet18": "ResNet-18, 28 px", "resnet50": "ResNet-50, 28 px"}

CHOICES = {
    "data.flavor": (
        ("pneumoniamnist", "chestmnist"),
        "of chestmnist, set data.classes to its 14 findings and loss to sigmoid",
    ),
    "resnet18.augment": (((), ("flip",), ...), "MedMNIST v2 has none"),
    "resnet18.metric": ((("auroc", "max"), ...), "MedMNIST v2: best validation AUROC"),
    **defaults.dtypes(*TITLES),
}


def _phase(net, steps, lr=1e-3):
    optimizer = defaults.optim("adam", lr, schedule="steps", boundaries=(0.5, 0.75))
    return defaults.classify(
        net, optimizer, steps, 128, normalize="symmetric", select="best", metric=("auroc", "max"), eval_every=50,
    )  # fmt: skip


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data("phantom", CLASSES, 28, num={"train": 2000, "val": 300, "test": 600}, severity=(0.2, 0.8))
    c.phases = ("resnet18", "resnet50")
    small = {"name": "resnet_tiny", "stem": "cifar", "stem_stride": 1}
    c.resnet18 = _phase({**small, "blocks": (1, 1), "widths": (16, 32)}, 200)
    c.resnet50 = _phase({**small, "blocks": (1, 1), "widths": (13, 26), "bottleneck": True}, 200)
    c.study = defaults.comparison(
        TITLES, paper="medmnist", penalties=(0.001, 0.01), pairs=(("resnet50", "resnet18"),),
        caution="The networks are small members of the named families.",
    )  # fmt: skip
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _smoke(c):
    defaults.smoke(c, (64, 16, 40), c.phases, eval_every=2)
    return c


def _films(c):
    c.data.update({"name": "medmnist"})
    for name in c.phases:
        c[name].update({"steps": 600, "eval_every": 100})
    c.study.update({"penalties": (1e-4, 1e-3, 1e-2, 1e-1)})
    return c


def _paper(c):
    c.data.update({"name": "medmnist"})
    epoch = 4708 // 128
    for name in c.phases:
        c[name].net = {"name": name, "stem": "cifar", "dtype": "bfloat16"}
        c[name].update({"steps": 100 * epoch, "eval_every": epoch, "save_every": 10 * epoch})
    c.study.update({"penalties": (1e-4, 1e-3, 1e-2, 1e-1), "caution": ""})
    return c
