"""The words that a config's keys take, so that a mistake is told before jax is imported.

The code that reads a key has a table of its own; a test holds that both have the same words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CLASSIFIERS = (
    "cnn5", "cnn5_tiny", "densenet121", "densenet_lstm", "densenet_lstm_tiny", "densenet_tiny",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite_tiny", "fcn_densenet121",
    "fcn_densenet_tiny", "inception_tiny", "inception_v3", "resnet101", "resnet152", "resnet18", "resnet200",
    "resnet34", "resnet50", "resnet_tiny", "vgg16", "vgg_tiny", "wang_resnet50", "wang_resnet_tiny",
)  # fmt: skip
RUN = {
    "study.name": ("progress", "anomaly", "comparison", "phase_loss", "pneumonia", "synthesis"),
    "data.name": (
        "phantom",
        "kermany",
        "medianomaly",
        "medmnist",
        "nih",
        "kaggle4",
        "covid3",
        "mimic_cxr",
        "chexpert",
        "rsna",
        "vindr",
        "csv",
        "merged",
        "folder",
    ),
}
_OPTIMIZER = {"name": ("adam", "adamw", "sgd", "nag"), "schedule": ("constant", "cosine", "plateau", "steps")}
PHASE = {
    "task": ("autoencoder", "classify", "ddpm", "gan", "grid", "identify", "latent_classify", "latent_ddpm"),
    "select": ("last", "best"),
    "augment": ("flip", "crop", "rotate", "brightness"),
    **{f"{section}.{key}": words for section in ("optim", "optim_d") for key, words in _OPTIMIZER.items()},
}
_CLASSIFY = {
    "net.name": CLASSIFIERS,
    "loss": ("softmax", "sparse", "focal", "sigmoid", "wcel", "sigmoid_focal"),
    "normalize": ("film", "symmetric", "unit", "imagenet", "efficientnet_lite"),
}
_DIFFUSION = {
    "net.name": ("unet", "unet_tiny"),
    "schedule": ("linear", "scaled_linear", "cosine"),
    "prediction": ("epsilon", "v"),
    "noise": ("gaussian", "simplex"),
    "time": ("scalar", "map"),
}
TASK: dict[str, dict[str, tuple[str, ...]]] = {
    "autoencoder": {"net.name": ("autoencoder", "autoencoder_tiny")},
    "classify": _CLASSIFY,
    "identify": {key: _CLASSIFY[key] for key in ("net.name", "normalize")},
    "latent_classify": _CLASSIFY,
    "ddpm": _DIFFUSION,
    "latent_ddpm": _DIFFUSION,
    "gan": {
        "net.name": ("cgan", "cdcgan"),
        "loss": ("least_squares", "cross_entropy"),
        "ratio_mode": ("one_d_per_batch", "all_d_per_batch"),
        "normal": ("zero_vector", "drop", "ninth_class"),
        "part": ("train", "all"),
    },
    "grid": {
        **_CLASSIFY,
        "optimizers": ("sgd", "nag", "adam", "adamw"),
        "strategy": ("auto", "together", "in_turn"),
        "metric": ("loss", "auroc", "accuracy"),
    },
}


def wrong(config: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The keys of a run and of its phases whose word is none of those that they take: key, word, and those."""
    yield from _wrong(config, RUN, "")
    for name in config.get("phases", ()):
        phase = config.get(name, {})
        if "task" in phase:  # else it is of a launcher's own
            yield from _wrong(phase, PHASE, f"{name}.")
            yield from _wrong(phase, TASK.get(phase["task"], {}), f"{name}.")


def _wrong(
    section: Mapping[str, Any], tables: Mapping[str, tuple[str, ...]], where: str
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for key, words in tables.items():
        value: Any = section
        for part in key.split("."):
            value = value.get(part, {}) if hasattr(value, "get") else {}
        found = value if isinstance(value, tuple | list) else (value,) if isinstance(value, str) else ()
        for word in found[:1] if key == "metric" else found:
            if word not in words:
                yield f"{where}{key}", word, words
