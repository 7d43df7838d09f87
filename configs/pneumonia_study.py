"""The pneumonia classifier study: grid search, DenseNet, augmentation, a 2048-wide head (ETRI deck).

    python launch/main.py --config=configs/pneumonia_study.py                           phantoms, minutes on 2 cores
    ...:kermany --config.data.root=.../chest_xray              real pediatric films, 64 px, small members of each family
    ...:kermany_transfer --config.data.root=.../chest_xray     the same films, 160 px, from ImageNet and random weights
    ...:paper --config.data.root=.../chest_xray                256 px, ResNet-18 to -200, the deck's whole grid

The stages are the deck's: a base network; the grid's best optimizer, learning rate and momentum; DenseNet instead of
ResNet; augmentation; a head of 2048. Two heads of 1024 (none, and one dense layer) keep width and depth apart. The
stages train on as many films each; the other backbones have settings of their own. The tangent kernel of heads of
several widths is followed.

`:kermany_transfer` has no stages: EfficientNet-Lite0 from ImageNet weights beside two networks of its size from random
ones, a linear probe and nearest neighbors. Try it on films from elsewhere, of children and of adults:
--config.data.external.official.name=kermany --config.data.external.official.root=DIR
--config.data.external.adults.name=covid3 --config.data.external.adults.root=DIR
--config.data.external.adults.manifest=CSV
"""

from cxrjax import defaults

VARIANTS = ("smoke", "kermany", "kermany_transfer", "kermany_transfer_smoke", "paper")
NEEDS_ROOT = ("kermany",)
CLASSES = ("Normal", "Pneumonia")
STAGES = {
    "base": "base: ResNet", "tuned": "hyper-parameters of the grid", "densenet": "DenseNet instead of ResNet",
    "augmented": "augmentation (head: pool, linear)", "head1024": "head: dense 1024", "head2048": "head: dense 2048",
}  # fmt: skip
BACKBONES = {"vgg": "VGG", "inception": "Inception", "resnet_deep": "ResNet, deeper"}
CHOICES = {
    "base.optim.name": (("sgd", "nag", "adam", "adamw"), "open in the deck before its grid"),
    "base.optim.lr": ((0.25 / 2**11, ...), "open in the deck; the least of its grid"),
    "base.optim.b1": ((0.3, 0.9), "open in the deck before its grid"),
    "tuned.optim_from": (("grid", ""), "the deck's grid decides; it prints no winner"),
    "grid.halving.eta": ((0, 2, 3, ...), "0 trains every cell in full, as the deck"),
    "grid.momenta": (((0.3, 0.9), ...), "the deck; beta 1 of adam"),
    "augmented.warp": ((4, 0, ...), "the deck: randomly select 4; per image 4 of 6 without replacement"),
    "augmented.optical_limit": ((0.3, 2.0, ...), "the tutorial of the deck's pictures has 2, as :paper: strong"),
    "head2048.net.hidden": (((2048,), ...), "the deck: FC 1024 -> 2048, read as a dense layer"),
    **defaults.transfer_choices("lite0"),
    **defaults.dtypes(*STAGES, *BACKBONES),
}  # fmt: skip


def _phase(net, steps, **changes):
    optimizer = changes.pop("optimizer", None) or defaults.optim("adam", 1e-3)
    return defaults.classify(net, optimizer, steps, 64, augment=("rotate",), **changes)


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data("phantom", CLASSES, 48, num={"train": 1200, "val": 200, "test": 400}, severity=(0.15, 0.6))
    c.phases = ("base", "grid", "tuned", "densenet", "augmented", "head1024", "head2048", *BACKBONES)
    resnet, densenet = {"name": "resnet_tiny"}, {"name": "densenet_tiny"}
    c.base = _phase(resnet, 130, optimizer=defaults.optim("sgd", 0.25 / 2**11, b1=0.3))
    c.grid = defaults.grid(
        (resnet, {"name": "resnet_tiny", "blocks": (1, 1)}), lrs=tuple(0.25 / 2**k for k in (2, 5, 8, 11)), steps=16,
        batch=32, augment=("rotate",), eval_every=8,
    )  # fmt: skip
    c.tuned = _phase(resnet, 130, optim_from="grid")
    c.densenet = _phase(densenet, 130, optim_from="grid")
    c.augmented = _phase(densenet, 130, optim_from="grid", warp=4)
    c.head1024 = _phase({**densenet, "hidden": (1024,)}, 130, optim_from="grid", warp=4)
    c.head2048 = _phase({**densenet, "hidden": (2048,)}, 130, optim_from="grid", warp=4)
    c.vgg = _phase({"name": "vgg_tiny"}, 130, warp=4)
    c.inception = _phase({"name": "inception_tiny"}, 130, warp=4)
    c.resnet_deep = _phase({"name": "resnet_tiny", "blocks": (2, 3)}, 130, optim_from="grid", warp=4)
    c.study = defaults.comparison(
        {**STAGES, **BACKBONES}, name="pneumonia", paper="pneumonia", maps="densenet", penalties=(0.001, 0.01),
        pairs=(("head2048", "augmented"), ("head2048", "head1024"), ("augmented", "densenet"), ("tuned", "base")),
    )  # fmt: skip
    c.study.ntk = {
        "features": "augmented",
        "films": 256,
        "widths": (256, 512, 1024, 2048, 4096),
        "steps": 100,
        "lr": 0.1,
    }
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _smoke(c):
    defaults.smoke(c, (64, 16, 40), [name for name in c.phases if name != "grid"], eval_every=2)
    c.grid.update({"steps": 4, "batch": 16, "eval_every": 2, "lrs": (0.01, 0.1), "optimizers": ("sgd", "adam")})
    c.study.ntk.update({"films": 16, "widths": (64, 128), "steps": 4})
    return c


def _kermany(c):
    c.data.update({"name": "kermany", "size": 64})
    resnet = {"name": "resnet_tiny", "blocks": (1, 2, 2), "widths": (24, 48, 96)}
    densenet = {"name": "densenet_tiny", "blocks": (1, 6, 8)}
    for name in STAGES:
        c[name].steps = 290
    c.resnet_deep.update({"net": resnet, "steps": 600, "warp": 0, "noise": 0.1, "blur": 1.5, "optim_from": ""})
    c.resnet_deep.optim.update({"name": "adamw", "lr": 2e-3, "schedule": "cosine", "weight_decay": 1e-4, "clip": 1.0})
    c.densenet.net = c.augmented.net = densenet
    c.head1024.net, c.head2048.net = ({**densenet, "hidden": (width,)} for width in (1024, 2048))
    for name in ("vgg", "inception"):
        c[name].steps = 200
    c.grid.update({"steps": 40, "eval_every": 20})
    c.study.update({"caution": defaults.KERMANY, "penalties": (1e-4, 1e-3, 1e-2, 1e-1)})
    return c


def _kermany_transfer(c):
    c.data.update({"name": "kermany", "size": 160})
    _transferred(c)
    c.study.caution = defaults.KERMANY
    return c


def _kermany_transfer_smoke(c):
    _transferred(c)
    defaults.smoke_transfer(c)
    return c


def _transferred(c):
    shared = {"tta": ("flip", "shift"), "balance": True}
    defaults.set_phases(
        c,
        # In so few steps running statistics lag behind the weights; random ones have none that could be kept.
        defaults.transfer("lite0", defaults.LITE0, 600, 400, backbone_stats="kept", **shared),
        defaults.transfer("scratch", defaults.LITE0, 600, 400, weights="", **shared),
        defaults.transfer("resnet", defaults.RESNET18, 600, 400, weights="", **shared),
    )
    c.study = defaults.comparison(
        {"lite0": "EfficientNet-Lite0", "scratch": "the same from random weights",
         "resnet": "ResNet-18 from random weights"},
        paper="pneumonia", maps="lite0", pairs=(("lite0", "scratch"), ("lite0", "resnet")),
        probe={"phase": "lite0_head"}, penalties=(1e-4, 1e-3, 1e-2, 1e-1),
    )  # fmt: skip


def _paper(c):
    c.data.update({"name": "kermany", "size": 256, "carve": {"val": 0.1, "test": 0.0}})
    epoch = 4708 // 64
    nets = {
        "base": "resnet152", "tuned": "resnet152", "densenet": "densenet121", "augmented": "densenet121",
        "head1024": "densenet121", "head2048": "densenet121", "vgg": "vgg16", "inception": "inception_v3",
        "resnet_deep": "resnet200",
    }  # fmt: skip
    hidden = {"head1024": (1024,), "head2048": (2048,)}
    for name, net in nets.items():
        c[name].update({"steps": 1000 * epoch, "eval_every": 10 * epoch, "save_every": 10 * epoch, "select": "best"})
        c[name].net = {"name": net, "dtype": "bfloat16", **({"hidden": hidden[name]} if name in hidden else {})}
        if c[name].warp:  # the six hold the rotation; the limit is that of configs/ddpm_cam.py:paper
            c[name].update({"augment": (), "optical_limit": 2.0})
    depths = ({"name": "resnet18"}, {"name": "resnet50"}, {"name": "resnet152"}, {"name": "resnet200"})
    c.grid = defaults.grid(
        depths, lrs=tuple(0.25 / 2**k for k in range(12)), steps=1000 * epoch, batch=64, eval_every=100 * epoch,
        augment=("rotate",),
    )  # fmt: skip
    c.study.update({"caution": defaults.KERMANY, "penalties": (1e-4, 1e-3, 1e-2, 1e-1)})
    return c
