"""The tasks by name: `(phase config, classes) -> Task`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cxrjax.tasks import autoencoder, classify, ddpm, gan, identify, latent
from cxrjax.types import Task

TASKS: dict[str, Callable[[Any, Sequence[str]], Task]] = {
    "autoencoder": autoencoder.make,
    "classify": lambda config, classes: classify.make(config, len(classes)),
    "ddpm": ddpm.make,
    "gan": gan.make,
    "identify": lambda config, classes: identify.make(config),
    "latent_classify": latent.classifier,
    "latent_ddpm": lambda config, classes: latent.make(config, TASKS["ddpm"](config, classes)),
}
# Those whose batches are pairs of films of one patient, instead of films.
OF_PAIRS = ("identify",)
