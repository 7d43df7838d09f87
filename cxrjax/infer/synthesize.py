"""Films of a finding from a finished generator, as PNG files that say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cxrjax.errors import did_you_mean
from cxrjax.infer import finished
from cxrjax.infer import generator as made
from cxrjax.train import mesh as meshes
from cxrjax.types import UserError

BATCH = 64


class Made(NamedTuple):
    """Films of one finding.

    Attributes:
      finding: what was asked for.
      films: (n, s, s) uint8, of the largest scale.
      source: the run, in words.
    """

    finding: str
    films: np.ndarray
    source: str


class _Context(NamedTuple):
    """What `studies.made` reads of a run's context."""

    mesh: Mesh


def synthesize(workdir: Path | str, finding: str, num: int, seed: int = 0) -> Made:
    """Makes films of one finding, or of `Normal`, with the generator of a finished run.

    Args:
      workdir: of a finished run of configs/cgan.py or configs/cdcgan.py.
      finding: one of its classes, or Normal.
      num: how many.
      seed: the same seed gives the same films; more films begin with the fewer.

    Raises:
      UserError: no finished run, no generator in it, an unknown finding, or no films asked for.
    """
    if num < 1:
        raise UserError(f"num is {num}: expected at least 1 film")
    run = finished.open_run(workdir)
    names = (*run.classes, made.NORMAL)
    if finding not in names:
        raise UserError(f"finding is {finding!r}: {workdir} makes {', '.join(names)}{did_you_mean(finding, names)}")
    mesh = meshes.make(1 if jax.process_count() == 1 else 0)
    context = _Context(mesh)
    generator = made.another(context, str(workdir))
    z = made.noise(generator.options, num, seed)
    code = made.codes(generator.options, np.full(num, names.index(finding)))
    return Made(finding, made.films(context, generator, z, code, min(BATCH, num))[-1], str(workdir))
