"""The keys of phases: one training each, by its task."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from cxrjax.defaults.keys import section


def optim(name: str, lr: float, **changes: Any) -> ConfigDict:
    """An optimizer, see `train.optim.make`."""
    values = {
        "name": name,  # adam, adamw, sgd or nag
        "lr": lr,  # the greatest learning rate
        "schedule": "constant",  # or cosine, plateau, steps
        "warmup": 0,  # steps in which the rate rises from 0
        "b1": 0.9,  # momentum of sgd and nag; beta 1 of adam
        "b2": 0.999,
        "weight_decay": 0.0,  # decoupled for adamw, else L2 in the gradient
        "clip": 0.0,  # largest norm of the gradient; 0 is off
        "frozen": (),  # patterns of parameters that do not change
        "apart": (),  # patterns of parameters whose moments are counted by themselves, after they were frozen
        "slower": (),  # pairs (pattern of parameters, factor of their rate)
        "patience": 5,  # plateau: evaluations without a better loss
        "factor": 0.1,  # plateau, steps: of the rate
        "boundaries": (),  # steps: shares of the run after which the rate falls
    }
    return section(values, changes)


def _phase(task: str, net: dict[str, Any], optimizer: ConfigDict, steps: int, batch: int) -> dict[str, Any]:
    """What every phase has."""
    return {
        "task": task,  # a key of `tasks.TASKS`
        "net": net,  # `name` and options of a network, see `models.build`
        "optim": optimizer,
        "steps": steps,  # of the optimizer
        "batch": batch,  # films a step, over all devices
        "eval_batch": 64,  # films at once in evaluation
        "log_every": 20,  # steps averaged into a line of the log
        "eval_every": 0,  # steps between evaluations; 0: only at the end
        "save_every": 100,  # steps between checkpoints
        "select": "last",  # or "best": ends with the weights of the best evaluation
        "metric": ("loss", "min"),  # what best means
        "only": "",  # a class: films that lack it are left out; "" for all films
        "carry": "",  # an earlier phase whose weights this one goes on with
        "augment": (),  # some of flip, crop, rotate, brightness, see `data.transforms`
    }


# Of the phases that may take over more than weights.
_TAKEN = {
    "carry_opt": False,  # with `carry`: the optimizer's moments go on too
    "from_run": "",  # a finished run's workdir, whose phase of this name is taken instead of being trained
}


def classify(net: dict[str, Any], optimizer: ConfigDict, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """A phase that trains a classifier, see `tasks.classify.Options`."""
    values = {
        **_phase("classify", net, optimizer, steps, batch),
        **_TAKEN,
        "eval_batch": 128,
        "save_every": 200,
        "balance": False,  # every class as often as the largest
        "patients": 0,  # how many it trains on, those of fewer among those of more; 0 for all
        "seeds": 1,  # trainings from as many seeds, on all films
        "folds": 0,  # trainings that each hold out one of as many parts of the patients; 0 is off
        "weights": "",  # to begin with: a file (.safetensors, .pth), "imagenet" or a run, see `phases.backbones`
        "weights_head": False,  # the file's head too, not its backbone alone
        "weights_classes": (),  # of the file's head, of which `weights_head` picks this run's by name
        "optim_from": "",  # an earlier grid phase whose best optimizer, rate and momentum are used
        "cached": False,  # a frozen backbone's features of every film are computed once, and the head trained on them
        "backbone_stats": "trained",  # or "kept": its BatchNorm keeps its statistics though its weights are trained
        "loss": "softmax",  # a key of `ops.losses.LOSSES`
        "class_weight": (),  # a weight for each class, or ("balanced",)
        "label_smoothing": 0.0,  # share of a label that is spread
        "focal_gamma": 2.0,  # of the focal losses
        "ema": 0.0,  # decay of the averaged weights that predict; 0 for the weights themselves
        "input": "cxr",  # or "enh", the local-phase features
        "channels": 1,  # 3 repeats a gray film
        "normalize": "film",  # a key of `ops.inputs.NORMALIZATIONS`
        "input_size": 0,  # pixels that films are enlarged to, or made smaller, as the network sees them; 0: their own
        "crop": 0,  # side of a random square, of the middle one in evaluation; 0 for the whole film
        "tta": (),  # evaluation averages views: some of flip, shift, see `ops.inputs.views`
        "border": 0.0,  # width, a share of the side, of a frame that is all it sees, found lungs blank; 0 is off
        # Augmentations of a training film, compiled into the step, by their ranges; 0 is off. See `ops.augment.Ranges`.
        "warp": 0,  # how many of the six of `ops.warp`
        "optical_limit": 0.3,  # bound of the optical distortion among them
        "degrees": 0.0,  # rotation, to either side
        "shift": 0.0,  # along each axis, a share of the side
        "zoom": 0.0,  # magnification, about 1
        "shear": 0.0,  # degrees
        "exposure": 0.0,  # added to every gray
        "contrast": 0.0,  # factor about the film's mean, about 1
        "gamma": 0.0,  # exponent of the gray, 1 + gamma or its inverse at most
        "blur": 0.0,  # pixels; the film is mixed with its blur of this width
        "cutout": 0.0,  # side of a blank square, a share of the film's
        "noise": 0.0,  # standard deviation of Gaussian noise
    }
    return section(values, changes)


def diffusion(net: dict[str, Any], optimizer: ConfigDict, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """A phase that trains a diffusion, of normal films and with linear noise; see `tasks.ddpm.Options`."""
    values = {
        **_phase("ddpm", net, optimizer, steps, batch),
        **_TAKEN,
        "eval_every": 300,
        "only": "Normal",
        "given": (),  # pairs (name, earlier phase) of networks that it reads and does not train
        "schedule": "linear",  # or scaled_linear, cosine
        "num_timesteps": 1000,  # T
        "prediction": "epsilon",  # or v
        "t_max": 0,  # longest time trained on; 0 is T
        "ema": 0.9999,  # decay of the averaged weights that sample
        "noise": "gaussian",  # or simplex
        "time": "scalar",  # or "map": a time at every pixel
        "drop": 0.35,  # share of films whose class is left out, of a network that is told it (net.told)
        "simplex": {
            "octaves": 6,
            "persistence": 0.8,  # amplitude of an octave relative to the one before
            "wavelength": 64.0,  # of the first octave, pixels
            "norm": "none",  # not of unit variance, as in Wyatt et al. 2022; or "unit_std"
        },
    }
    return section(values, changes)


def identify(net: dict[str, Any], optimizer: ConfigDict, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """A phase that learns to tell patients apart by pairs of their films, see `tasks.identify.Options`."""
    values = {
        **_phase("identify", net, optimizer, steps, batch),
        **_TAKEN,
        "width": 64,  # of the embedding
        "temperature": 0.1,  # of the contrastive loss
        "normalize": "film",  # a key of `ops.inputs.NORMALIZATIONS`
        "input_size": 0,  # pixels that films are enlarged to, or made smaller; 0: their own
        # How a training film varies, as of a classifier.
        "degrees": 0.0, "shift": 0.0, "zoom": 0.0, "exposure": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0,
        "cutout": 0.0, "noise": 0.0,
    }  # fmt: skip
    return section(values, changes)


def autoencoder(
    net: dict[str, Any], optimizer: ConfigDict, optimizer_d: ConfigDict, steps: int, batch: int, **changes: Any
) -> ConfigDict:
    """A phase that trains an autoencoder, see `tasks.autoencoder.Options`; the weights are Pinaya et al.'s (2023)."""
    values = {
        **_phase("autoencoder", net, optimizer, steps, batch),
        **_TAKEN,
        "optim_d": optimizer_d,  # the discriminator's
        "given": (("classifier", "classifier"),),  # as of a diffusion; whose features the perceptual term compares
        "perceptual": 0.002,  # weight of each term, beside 1 of L1
        "adversarial": 0.005,
        "kl": 1e-8,
        "adversarial_from": 0,  # step from which the adversarial term takes part
        "ema": 0.0,  # decay of the averaged weights that predict
    }
    return section(values, changes)


def gan(net: dict[str, Any], lr: float, steps: int, batch: int, **changes: Any) -> ConfigDict:
    """An adversarial phase, see `tasks.gan.Options`; `lr` is that of both sides."""
    values = {
        **_phase("gan", net, optim("adam", lr, b1=0.5), steps, batch),
        "optim_d": optim("adam", lr, b1=0.5),  # the discriminators'
        "eval_every": 500,
        "save_every": 200,
        "metric": ("collapsed", "min"),
        "latent": 100,  # width of the latent, the condition in it
        "normal": "zero_vector",  # condition of a film without a finding; or drop, ninth_class
        "part": "train",  # of the films, that it trains on; or "all": the held-out films too
        "loss": "least_squares",  # a key of `ops.adversarial.ADVERSARIAL`
        "ratio": 5,  # discriminator updates for each of the generator's
        "ratio_mode": "one_d_per_batch",  # or all_d_per_batch
        "mismatched": False,  # real films under a wrong condition count as generated
        "tau_every": 0,  # batches after which the attention's weight rises by 0.1
        "ema": 0.999,  # decay of the averaged generator that samples
        "collapse": 0.1,  # the flag of collapse is up where samples are more alike than films by this much
        "priority": (  # a film of several findings is conditioned on the first of these
            "Pneumonia", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Atelectasis", "Pneumothorax",
        ),
    }  # fmt: skip
    return section(values, changes)


def grid(
    depths: tuple[dict[str, Any], ...], lrs: tuple[float, ...], steps: int, batch: int, **changes: Any
) -> ConfigDict:
    """A phase that trains a grid of classifiers, see `phases.grid.train`: optimizer x rate x momentum x depth."""
    begun_at_chance = ("carry", "carry_opt", "weights", "weights_head", "weights_classes", "optim_from", "from_run",
                       "cached")  # fmt: skip
    shared = classify({"name": depths[0]["name"]}, optim("sgd", 0.0), steps, batch)
    values = {
        **{key: shared[key] for key in shared if key not in begun_at_chance},
        "task": "grid",
        "eval_every": 20,
        "metric": ("accuracy", "max"),
        "depths": tuple(ConfigDict(net) for net in depths),  # networks
        "optimizers": ("sgd", "nag", "adam"),
        "lrs": lrs,
        "momenta": (0.3, 0.9),
        "strategy": "auto",  # cells of one network and optimizer "together" in one step, or "in_turn"
        "halving": {
            "eta": 0,  # successive halving keeps one cell in eta at each rung; 0 trains every cell in full
            "rungs": (),  # its steps
        },
    }
    return section(values, changes)
