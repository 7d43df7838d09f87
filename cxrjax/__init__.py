"""Chest X-ray classification and generation in pure-functional JAX.

`load` opens a finished run; importing this package imports no jax.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from cxrjax.infer.finished import Run

__version__ = "0.1.0"
__all__ = ["load"]


def load(workdir: Path | str, mesh: Mesh | None = None) -> Run:
    """Opens a finished run: its config and results, and its trained networks.

    Args:
      workdir: of a run of `launch/main.py` that has ended.
      mesh: the devices that its networks are brought to; by default one device.

    Returns:
      A run, whose methods `classifier`, `treat`, `generator` and `autoencoder` use its networks.

    Raises:
      UserError: there is no run, or it has not ended.
    """
    from cxrjax.infer import finished

    return finished.load(workdir, mesh)
