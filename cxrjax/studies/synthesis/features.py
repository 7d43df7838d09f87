"""What a classifier makes of films, three layers of it: the space that distances between sets of films are taken in."""

from __future__ import annotations

import numpy as np

from cxrjax.errors import UserError
from cxrjax.infer import classifier, finished
from cxrjax.infer.batches import in_batches
from cxrjax.infer.classifier import Classifier
from cxrjax.phases import Context
from cxrjax.types import Arrays

# Probabilities of the findings (the paper's), their logits, and the pooled last map.
LAYERS = ("prob", "logit", "pool")


def check(workdir: str, phase: str, classes: tuple[str, ...]) -> None:
    """Raises UserError where another run has no such classifier, or one that does not know these findings."""
    other = finished.load(workdir)
    found = other.phase_of("classify", name=phase)
    missing = [name for name in classes if name not in finished.classes_of(other.config, found)]
    if missing:
        raise UserError(
            f"fdd.run = {workdir}: its classifier does not know {', '.join(missing)}, which data.classes has"
        )


def of(context: Context) -> Classifier:
    """The run's feature network: `fdd.run`, or the phase `fdd.own_phase` of this run."""
    config, fdd = context.config, context.config.fdd
    if fdd.run:
        other = finished.load(fdd.run, context.mesh)
        return other.classifier(other.phase_of("classify", name=fdd.phase))
    phase = fdd.own_phase
    return classifier.of(
        config[phase], context.states[phase], context.phases[phase].classes, config.data.size, context.mesh,
        source=f"phase {phase} of this run",
    )  # fmt: skip


def extract(network: Classifier, image: np.ndarray, batch: int) -> Arrays:
    """`prob`, `logit` (n, k) and `pool` (n, d) float32 of films (n, h, w) uint8."""
    return in_batches(network.mesh, batch, network.compiled(classifier.outputs), _as_float(image))


def maps(network: Classifier, image: np.ndarray, finding: str, batch: int) -> np.ndarray:
    """Where the network sees a finding in films (n, h, w) uint8: (n, h, w) in [0, 1]."""
    return network.maps(_as_float(image), np.full(len(image), network.column(finding)), batch)


def _as_float(image: np.ndarray) -> np.ndarray:
    """Films (n, h, w) uint8 -> (n, h, w, 1) float32 in [0, 1]."""
    return (image[..., None] / np.float32(255)).astype(np.float32)
