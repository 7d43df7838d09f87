"""The keys of studies: what is measured after the training."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from cxrjax.defaults.keys import section

# Kinds of damage with five strengths each, mild to strong, and what a strength measures; see `data.corruptions`.
DAMAGE: dict[str, tuple[tuple[float, ...], str]] = {
    "exposure": ((0.1, 0.2, 0.3, 0.4, 0.5), "share by which a film is brighter or darker; MedMNIST-C's of chest films"),
    "gamma": ((1.1, 1.2, 1.4, 1.7, 2.2), "exponent, or its inverse; MedMNIST-C: 1.1 to 1.6, and 1/1.1 to 1/2.5"),
    "contrast": ((1.1, 1.2, 1.4, 1.7, 2.2), "factor, or its inverse; MedMNIST-C: 1.1 to 1.6, and 1/1.1 to 1/2.5"),
    "blur": ((0.004, 0.006, 0.009, 0.013, 0.018), "width as a share of the side; MedMNIST-C: about the first three"),
    "noise": ((0.04, 0.08, 0.12, 0.18, 0.26), "standard deviation, white is 1; MedMNIST-C's of ChestMNIST"),
    "jpeg": ((50, 30, 15, 10, 7), "quality; MedMNIST-C's"),
    "downscale": ((1.5, 2.0, 3.0, 4.0, 6.0), "factor; MedMNIST-C pixelates by 1.25 to 2.5, of ChestMNIST 3.3 to 10"),
    "crop": ((0.05, 0.1, 0.15, 0.2, 0.3), "share of both sides that is lost; ours"),
    "rotation": ((3.0, 6.0, 10.0, 15.0, 25.0), "degrees; ours"),
}


def damage() -> dict[str, tuple[float, ...]]:
    """`study.robustness.kinds`: every kind of damage at its five strengths."""
    return {kind: strengths for kind, (strengths, _) in DAMAGE.items()}


def damage_choices() -> dict[str, tuple[tuple[Any, ...], str]]:
    """The choices of a config that has them."""
    return {f"study.robustness.kinds.{kind}": ((values, ...), why) for kind, (values, why) in DAMAGE.items()}


def comparison(systems: dict[str, str], **changes: Any) -> ConfigDict:
    """A study that compares classifiers, see `studies.classification`; `systems` are titles by phase, in order."""
    values = {
        "name": "comparison",  # a key of `studies.STUDIES`
        "systems": tuple(systems.items()),
        "paper": "",  # a key of `studies.published.PAPERS`
        "pairs": (),  # (phase, phase) whose difference is told
        "ensembles": (),  # (name, phases) whose mean probability is a system of its own
        "probe": {  # floors on features of a pretrained backbone: a linear probe and the nearest neighbors
            "phase": "",  # a phase that begins with weights of a file; "" for none
            "strengths": (1e-4, 1e-3, 1e-2, 1e-1, 1.0),  # inverse L2 strengths of the linear probe
            "neighbors": (1, 3, 5, 10, 20, 50, 100),  # how many are asked
        },
        "maps": "",  # the phase whose maps are held against masks or boxes
        "num_maps": 200,  # films for that
        "penalties": (0.01,),  # of the floor, a logistic regression
        "recalibrate": (10, 20, 50, 100),  # films of `data.external` that a threshold is chosen on anew
        "caution": "",  # a sentence over the figures
        "enh_figure": False,  # films beside their local-phase features
        "curve": {
            "starts": (),  # (start, title) of a learning curve, whose phases are those of `curves.points`; () for none
            "sizes": (),  # training patients of the starts, growing; 0 for all stands last
            "floors": (),  # further ones, of the floors alone; more than there are is left out
        },
        "robustness": {
            "kinds": {},  # kind of damage -> strengths, mild to strong, such as `damage`; empty leaves it out
            "films": 512,  # most held-out films that are damaged, drawn by seed; 0 for all
        },
        "ntk": {},  # features (a phase), films, widths, steps, lr of the tangent kernel's diagnosis; or empty
    }
    return section(values, changes)


def treatment(**changes: Any) -> ConfigDict:
    """A study that treats films, see `studies.treatment`."""
    values = {
        "name": "progress",  # or "anomaly"
        "cam_phase": "classifier",  # whose map says where to treat
        "judge_phase": "judge",  # an independent classifier that scores treated films
        "diffusion_phase": "diffusion",
        "identity_phase": "",  # that tells patients apart; "" re-identifies films by correlation of pixels
        "num_diseased": 64,  # films, one a patient
        "num_controls": 24,
        "outside": {"num_diseased": 32, "num_controls": 16},  # the same, of each set of `data.external`
        "num_healthy": 500,  # untreated healthy films of a source that judges are tried on, at most
        "num_threshold": 20,  # healthy films of other patients of it that a second threshold is set on
        "batch": 88,  # films at once
        "penalties": (0.01,),  # of the floor, a logistic regression
        "modes": ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend"),  # names of arms
        "arms": {},  # arms that are no plain mode: name -> `mode`, and keys of guidance and sampler that it changes
        "foreign": {},  # films treated by another's code: name -> folder, see `studies.treatment.foreign`
        "insertions": 0,  # steps from a film to the treated one by which COUT is taken; 0 leaves it out
        "again": {  # films treated once more, see `studies.treatment.again`
            "lambda": 0,  # one of `lambdas`; 0 leaves it out
            "seeds": 3,
            "films": 16,  # most of each kind
        },
        "lungs": False,  # the lung finder is asked of every treated film too
        "anatomy": False,  # on phantoms: what they were drawn with is read of every treated film and of its twin
        "attributes": {  # a classifier of findings, of which a treatment should change none but its own
            "run": "",  # a finished run's workdir; "" leaves it out
            "phase": "",  # its classifier; "" where it has only one
        },
        "lambdas": (50, 100, 200, 400, 500, 600),  # times that films are diffused to
        "guidance": {
            "source": "gradcam",  # or cam, fcn_map, anomaly, latent_gradcam
            "target": "difference",  # of the two logits; or "class", the disease's alone
            "blur": 2.0,  # pixels
            "power": 1.0,  # of the map; below 1 treats more
            "floor": 0.0,  # least value of the mask
            "threshold": 0.3,  # of a hard mask
            "lungs": False,  # nothing outside the lungs is treated
            "every": 0,  # used times after which the mask is made anew; 0 keeps it
            "widens": False,  # a mask made anew is added to the old one
            "anomaly_lambda": 200,  # time of the pass whose residual is the anomaly map
            "paste": False,  # in latent space: known pixels are pasted back
            "pool": "max",  # how a mask comes to the latent grid; or "mean"
        },
        "sampler": {
            "name": "ancestral",  # or ddim, dpmpp_2m, sde_dpmpp_2m
            "stride": 40,  # distance between used times
            "spacing": "even",  # or "quadratic"
            "variance": "small",  # or "large"; of ancestral
            "eta": 0.0,  # noise of ddim
            "clip": 1.0,  # bound of the estimated film; 0 leaves it free
            "resamples": 1,  # RePaint jumps; 1 is off
        },
        "solvers": {  # quality against the number of network evaluations
            "mode": "time_gated_hard",  # the arm
            "lambda": 500,
            "evaluations": (),  # empty leaves the comparison out
            "reference": 500,  # evaluations of the ancestral sampler that they are held against
            "names": ("ancestral", "ddim", "dpmpp_2m", "sde_dpmpp_2m", "sde_dpmpp_2m_quadratic"),
        },
        "pixel_run": "",  # of a latent study: a finished run in pixel space, for a comparison
    }
    return section(values, changes)


def anomaly(**changes: Any) -> ConfigDict:
    """A study of finding lesions by treating films, see `studies.treatment.anomaly`."""
    values = {
        **treatment(name="anomaly"),
        "threshold": 0.5,  # of the squared residual in [-1, 1] units
        "maps": (),  # arms whose mask is scored itself
        "against": "",  # the arm that the others are compared with
    }
    return section(values, changes)


def fdd(**changes: Any) -> ConfigDict:
    """The network whose features distances between films are taken in, see `studies.synthesis.features`."""
    values = {
        "run": "",  # a finished run's workdir; "" for a phase of this run
        "phase": "",  # its classifier; "" where it has only one
        "own_phase": "features",  # the phase of this run
        "layers": ("prob", "logit", "pool"),
        "draws": 500,  # halvings for an interval
    }
    return section(values, changes)


def synthesis(**changes: Any) -> ConfigDict:
    """A study of a generator, see `studies.synthesis`."""
    values = {
        "name": "synthesis",
        "gan_phase": "gan",
        "baseline_run": "",  # a finished run of another generator of the same films, or none
        "batch": 125,  # films at once
        "reference": "held_out",  # part that generated films are held against; or "train"
        "cap": 1000,  # most films of a class
        "arms": (
            "real",
            "balanced",
            "augmented",
            "real_and_made",
            "made",
            "pretrained",
        ),  # of the classifiers' training films
        "seeds": 2,  # trainings of each arm
        "num_made": 300,  # generated films of a class that they train on
    }
    return section(values, changes)
