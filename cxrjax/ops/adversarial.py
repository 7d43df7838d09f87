"""Losses of generative adversarial training, as functions of a discriminator's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cxrjax.ops.losses import weighted_mean

Array = jax.Array
Score = Callable[[Array, Array], Array]


class Adversarial(NamedTuple):
    """A pair of losses; each function takes scores (b,) and the films' weights (b,) and returns a mean.

    Attributes:
      real: what a discriminator loses on films of patients.
      fake: what it loses on films that were made.
      fool: what the generator loses on the films that it made.
    """

    real: Score
    fake: Score
    fool: Score


def _toward(target: float) -> Score:
    return lambda score, valid: 0.5 * weighted_mean(jnp.square(score - target), valid)


def _cross_entropy(sign: float) -> Score:
    return lambda score, valid: weighted_mean(jax.nn.softplus(-sign * score), valid)


ADVERSARIAL = {
    # Least squares with a = 0, b = d = 1 (Mao et al. 2017; eqs 5 and 6 of the multi-scale attention GAN).
    "least_squares": Adversarial(_toward(1.0), _toward(0.0), _toward(1.0)),
    # Non-saturating (Goodfellow et al. 2014; DCGAN).
    "cross_entropy": Adversarial(_cross_entropy(1.0), _cross_entropy(-1.0), _cross_entropy(1.0)),
}
