"""Chest X-ray classification and generation in pure-functional JAX.

`load` opens a finished run, `backbone` a pretrained network; importing this package imports no jax.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from cxrjax.infer.backbone import Backbone
    from cxrjax.infer.finished import Run

__version__ = "0.1.0"
__all__ = ["backbone", "load"]


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


def backbone(
    name: str,
    weights: Path | str = "imagenet",
    size: int = 224,
    normalize: str = "",
    bit_depth: int = 0,
    mesh: Mesh | None = None,
) -> Backbone:
    """A pretrained network below its head, whose method `features` gives the features of films.

    Args:
      name: a classifier of `models.build`, such as `efficientnet_lite0` or `densenet121`.
      weights: `imagenet`, of the packages of the extra `pretrained`, or a file of torch's or of safetensors.
      size: side in pixels that films are brought to.
      normalize: what the weights were trained under, a key of `ops.inputs.NORMALIZATIONS`; by default what the
        family's ImageNet weights were.
      bit_depth: bits that 16-bit files hold; 0 for each file's own.
      mesh: the devices that it is brought to; by default one device.

    Raises:
      UserError: an unknown network; weights that are not there, or of another network; says what to do.
    """
    from cxrjax.infer import backbone as module

    return module.of(name, weights, size, normalize, bit_depth, mesh)
