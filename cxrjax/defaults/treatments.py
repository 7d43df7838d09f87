"""A run that treats films by diffusion: what the diffusions' configs share, variant by variant."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from cxrjax.defaults import transfers, variants
from cxrjax.defaults.keys import data, run
from cxrjax.defaults.phases import classify, identify, optim

# How long a paper's classifier trains.
FULL = {"steps": 20_000, "eval_every": 500, "save_every": 500, "select": "best", "metric": ("auroc", "max")}


def adamw(lr: float, **changes: Any) -> ConfigDict:
    """AdamW on a cosine, its gradients clipped."""
    return optim("adamw", lr, **{"schedule": "cosine", "clip": 1.0, **changes})


OPTICAL = 2.0  # limit of the optical distortion in the tutorial that the deck's pictures are from
RATE = 2e-3  # of a classifier; on phantoms, whose few steps want more, see `default`


def classifier(net: dict[str, Any], steps: int, lr: float = RATE, **changes: Any) -> ConfigDict:
    """A small classifier."""
    return classify(net, adamw(lr, weight_decay=1e-4), steps, 64, **{"save_every": 100, **changes})


def default(*, judge: bool = True) -> ConfigDict:
    """Phantoms, the network that makes the map, and, with `judge`, one that scores what it treated."""
    c = run()
    c.data = data("phantom", ("Normal", "Pneumonia"), 64)
    # The family of the deck's densenet121_2048fclayer.
    c.classifier = classifier({"name": "densenet_tiny", "hidden": (2048,)}, 120, 5e-3, warp=4)
    if judge:
        # Another architecture and seed, to judge what the map's maker cannot judge of itself. Blur, lest it take a
        # lesion that the diffusion only smoothed for a healed one.
        c.judge = classifier({"name": "resnet_tiny"}, 200, 3e-3, noise=0.1, blur=1.5)
    return c


def identity(steps: int = 300) -> ConfigDict:
    """A small network that tells patients apart, whatever the exposure, the placing and the finding."""
    return identify(
        {"name": "resnet_tiny"}, adamw(3e-3, weight_decay=1e-4, warmup=20), steps, 48, degrees=5.0, shift=0.05,
        zoom=0.05, exposure=0.1, contrast=0.2, gamma=0.2, noise=0.05,
    )  # fmt: skip


def going_on(c: ConfigDict, earlier: str, steps: int, **changes: Any) -> ConfigDict:
    """The phase `earlier` once more with `changes`, going on with its weights at half its learning rate."""
    phase = c[earlier].copy_and_resolve_references()
    phase.update({"carry": earlier, "steps": steps, "eval_every": steps, **changes})
    phase.optim.lr = c[earlier].optim.lr / 2
    return phase


def smoke(
    c: ConfigDict, *, classifiers: int, diffusions: int, lambdas: tuple[int, ...], stride: int, **study: Any
) -> None:
    """Seconds long; its numbers mean nothing. `classifiers` and `diffusions` are steps; `study`, further keys of it."""
    by_kind = {
        kind: [name for name in c.phases if c[name].task in (kind, f"latent_{kind}")] for kind in ("classify", "ddpm")
    }
    variants.smoke(c, (96, 16, 32), by_kind["classify"], steps=classifiers, save_every=classifiers // 2)
    for name in (name for name in c.phases if c[name].task == "identify"):
        c[name].update({"steps": classifiers, "batch": 8, "save_every": classifiers, "log_every": 2})
    if c.study.again["lambda"]:
        c.study.again.update({"lambda": lambdas[0], "seeds": 2, "films": 2})
    half = diffusions // 2
    for name in by_kind["ddpm"]:
        c[name].update({"steps": diffusions, "batch": 8, "save_every": half, "log_every": 2, "eval_every": half})
    c.study.update({"num_diseased": 6, "batch": 8, "lambdas": lambdas, **study})
    c.study.sampler.stride = stride


def kermany(c: ConfigDict) -> None:
    """Real films of children, by networks of a larger field of view: a third block on 8x8 maps."""
    c.data.update({"name": "kermany"})
    c.warnings = (variants.KERMANY,)
    c.classifier.optim.lr = RATE
    c.classifier.update({"net": {"name": "densenet_tiny", "blocks": (1, 6, 8), "hidden": (2048,)}, "steps": 500})
    c.diffusion.update({"steps": 1600, "save_every": 200, "eval_every": 800, "ema": 0.998, "t_max": 800})
    c.study.update({
        "num_controls": 32, "batch": 96, "penalties": (0.0001, 0.001, 0.01, 0.1),
        "lambdas": (100, 200, 300, 450, 600, 750),
    })  # fmt: skip
    c.study.sampler.stride = 30


def pretrained_judge(c: ConfigDict) -> None:
    """Makes the judge a network that began on ImageNet: its head first, on frozen features, then all of it.

    Another architecture and another start than those of the map's network, so that it is independent in more than name.
    Its films are enlarged within its step: at the 64 px of the diffusion its last map would have two by two places.
    """
    own = {key: c.judge[key] for key in ("noise", "blur")}
    # With statistics that lag 250 steps behind it called a third of the diseased films that it had not seen normal.
    own |= {"input_size": 160, "balance": True, "label_smoothing": 0.1, "backbone_stats": "kept"}
    for name, phase in transfers.transfer("judge", transfers.LITE0, 1000, 250, **own).items():
        c[name] = phase
    place = c.phases.index("judge")
    c.phases = (*c.phases[:place], "judge_head", *c.phases[place:])


def paper(c: ConfigDict, size: int) -> None:
    """Films of `size` px and full classifiers."""
    c.data.size = size
    c.data.num.update({"train": 20000, "val": 1000, "test": 2000})
    nets: dict[str, dict[str, Any]] = {
        "classifier": {"name": "densenet121", "hidden": (2048,)},
        "judge": {"name": "resnet50"},
    }
    for name in (name for name in nets if name in c):
        c[name].update({**FULL, "net": {**nets[name], "dtype": "bfloat16"}})
        c[name].optim.lr = RATE
    c.classifier.optical_limit = OPTICAL


def anoddpm(phase: ConfigDict, t_max: int) -> None:
    """The network of 256 px and its training (Wyatt et al. 2022).

    The attention sides are those that the published runs used in fact: their files name 16 and 8 alone, but the
    reference never hands that entry to its network. Its two heads are 128 and 256 channels wide, which fused kernels
    take from Hopper on.
    """
    phase.update({
        "net": {"name": "unet", "base": 128, "mults": (1, 1, 2, 2, 4, 4), "attention": (32, 16, 8), "heads": 2,
                "patch": 1, "updown": "block", "dtype": "bfloat16"},
        "optim": adamw(1e-4, schedule="constant"), "steps": 300_000, "batch": 32, "log_every": 100,
        "eval_every": 5000, "save_every": 5000, "prediction": "epsilon", "ema": 0.9999, "t_max": t_max,
    })  # fmt: skip
