"""Raw films against local-phase-enhanced ones, categorical against sparse cross-entropy (JKIICE 2021).

    python launch/main.py --config=configs/phase_loss.py                                phantoms, minutes on 2 cores
    ...:films --config.data.root=DIR --config.data.manifest=CSV    films of a manifest (path,label,patient), 64 px
    ...:films_transfer (the same flags)                 160 px, EfficientNet-Lite0 from ImageNet and random weights
    ...:paper --config.data.root=DIR --config.data.manifest=CSV    299 px, VGG16 of 25,331,395 parameters; GPU and TPU

Four arms, each with several seeds. The two losses are one function of logits and label: the study shows that they
differ by chance only, and gives the effect of the enhancement with its interval. Label smoothing and the focal loss,
which are other functions, stand beside them. `:films_transfer` has raw films, gray in three channels, against the three
local-phase channels, each from ImageNet and from random weights.
"""

from cxrjax import defaults

VARIANTS = ("smoke", "films", "films_transfer", "films_transfer_smoke", "paper")
NEEDS_ROOT = ("covid3",)
CLASSES = ("Normal", "Pneumonia", "COVID-19")
ARMS = {
    "cxr_categorical": "CXR, categorical", "cxr_sparse": "CXR, sparse", "enh_categorical": "ENH, categorical",
    "enh_sparse": "ENH, sparse", "cxr_smoothed": "CXR, label smoothing", "cxr_focal": "CXR, focal",
}  # fmt: skip
STARTS = {
    "cxr_transfer": "CXR, ImageNet weights", "enh_transfer": "ENH, ImageNet weights",
    "cxr_random": "CXR, random weights", "enh_random": "ENH, random weights",
}  # fmt: skip
CAUTION = (
    "The COVID-19 films come from other sources than the normal and pneumonia films, so that a score partly measures "
    "the source of a film."
)

CHOICES = {
    "cxr_categorical.net.hidden": (((64,), (256,), ...), "what the paper added to VGG16 is open; 256 in :paper"),
    "cxr_categorical.net.pool": (("flatten", "gap"), "open in the paper"),
    "cxr_categorical.net.dropout": ((0.5, ...), "open in the paper"),
    "cxr_categorical.optim.lr": ((1e-4, ...), "open in the paper; Qi et al. 2021 have 1e-3"),
    "cxr_categorical.batch": ((32, ...), "open in the paper; Qi et al. 2021 have 32"),
    "cxr_categorical.seeds": ((3, 5, ...), "the paper trains three times; five in :paper"),
    "cxr_smoothed.label_smoothing": ((0.1, ...), "ours: a loss that does differ"),
    "cxr_focal.focal_gamma": ((2.0, ...), "ours: a loss that does differ"),
    "data.enh_options.lwpa_form": (("kovesi", "printed"), "eq. 2 sums squares; Kovesi and Qi et al. 2021 square sums"),
    "data.enh_options.elea_max": (("transmission", "film"), "eq. 4 prints the film; Qi et al. 2021: its transmission"),
    "data.enh": ((True, False), "local phase is computed once, at preparation; its scales are in pixels of data.size"),
    "cxr_transfer.net.momentum": ((0.9, 0.99, ...), "of BatchNorm's running statistics; 0.99 of the weights' own code"),
    **defaults.transfer_choices("cxr_transfer"),
    **defaults.dtypes(*ARMS),
}  # fmt: skip


def _arm(name, net, lr, steps, **changes):
    loss = {"categorical": "softmax", "sparse": "sparse", "smoothed": "softmax", "focal": "focal"}[name.split("_")[1]]
    return defaults.classify(
        net, defaults.optim("adam", lr), steps, 32, loss=loss, input=name.split("_")[0],
        label_smoothing=0.1 if name.endswith("smoothed") else 0.0, select="best", eval_every=40, **changes,
    )  # fmt: skip


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data(
        "phantom", CLASSES, 48, num={"train": 900, "val": 150, "test": 400}, findings=("Pneumonia", "COVID-19"),
        normal_share=1 / 3, enh=True, severity=(0.2, 0.8),
        enh_options={"lwpa_form": "kovesi", "elea_max": "transmission"},
    )  # fmt: skip
    c.phases = tuple(ARMS)
    for name in ARMS:
        net = {"name": "vgg_tiny", "hidden": (64,), "pool": "flatten", "dropout": 0.5}
        seeds = 3 if name.split("_")[1] in ("categorical", "sparse") else 2
        c[name] = _arm(name, net, 1e-3, 200, seeds=seeds)
    c.study = defaults.comparison(
        ARMS, name="phase_loss", paper="phase_loss", penalties=(0.001, 0.01), enh_figure=True,
    )  # fmt: skip
    return globals()[f"_{variant}"](c) if variant != "default" else c


def _smoke(c):
    defaults.smoke(c, (64, 16, 40), c.phases, eval_every=2, seeds=2)
    return c


def _films(c):
    c.data.update({"name": "covid3", "size": 64})
    for name in c.phases:
        c[name].update({"steps": 200, "eval_every": 50})
    c.study.update({"caution": CAUTION, "penalties": (1e-4, 1e-3, 1e-2)})
    return c


def _films_transfer(c):
    c.data.update({"name": "covid3", "size": 160})
    _transferred(c)
    c.study.caution = CAUTION
    return c


def _films_transfer_smoke(c):
    _transferred(c)
    defaults.smoke_transfer(c)
    return c


def _transferred(c):
    # 180 steps: under the weights' own 0.99 a sixth of the running statistics would still be those of the start.
    net = {**defaults.LITE0, "momentum": 0.9}
    groups = []
    for name in STARTS:
        kind, _, start = name.partition("_")
        weights = "imagenet" if start == "transfer" else ""
        groups.append(defaults.transfer(name, net, 400, 180, weights=weights, input=kind, seeds=3, tta=("flip",)))
    defaults.set_phases(c, *groups)
    c.study = defaults.comparison(
        STARTS, name="phase_loss", paper="phase_loss", penalties=(1e-4, 1e-3, 1e-2), enh_figure=True,
        probe={"phase": "cxr_transfer_head"}, pairs=(
            *((f"{kind}_transfer", f"{kind}_random") for kind in ("cxr", "enh")),
            *((f"enh_{start}", f"cxr_{start}") for start in ("transfer", "random")),
        ),
    )  # fmt: skip


def _paper(c):
    c.data.update({"name": "covid3", "size": 299})
    epoch = 9155 // 32
    for name in c.phases:
        c[name].net = {"name": "vgg16", "hidden": (256,), "pool": "flatten", "grid": 0, "dropout": 0.5,
                       "dtype": "bfloat16"}  # fmt: skip
        c[name].optim.lr = 1e-4
        c[name].update({"steps": 50 * epoch, "eval_every": epoch, "save_every": epoch, "seeds": 5})
    c.study.update({"caution": CAUTION, "penalties": (1e-4, 1e-3, 1e-2)})
    return c
