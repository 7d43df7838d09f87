"""A Flax network's weights under torchvision's names: `conversion.convert` backwards, by the same rules."""

from __future__ import annotations

import flax.traverse_util as tree
import numpy as np

from cxrjax.errors import UserError
from cxrjax.ops import inputs
from cxrjax.types import PyTree
from cxrjax.weights.rules import FAMILIES, family_of, flattened, to_torch


def state_dict(variables: PyTree, net: str, normalize: str) -> dict[str, np.ndarray]:
    """The weights of a classifier as torchvision's network of its family loads them.

    A stem of gray films becomes one of three like channels, which are normalized by the deviations and means of
    `normalize` one by one; logits are the same.

    Args:
      variables: `params` and `batch_stats`.
      net: the network's name.
      normalize: a key of `inputs.NORMALIZATIONS`.

    Returns:
      Arrays by name, each in torch's layout, (o, i, h, w) and (o, i).

    Raises:
      UserError: the family has no names of torch's, or a part of the network has none.
    """
    rules = FAMILIES[family_of(net)]
    leaves = tree.flatten_dict({name: dict(part) for name, part in variables.items()}, sep="/")
    paths = {key: key.partition("/")[2].rpartition("/")[0] for key in leaves}
    names = rules.names(dict.fromkeys(paths.values()))
    if missing := sorted({*paths.values()} - {*names}):
        raise UserError(
            f"torchvision has no names for {', '.join(missing[:8])} of {net!r}: export it as stablehlo or onnx"
        )
    out = {}
    for key, value in leaves.items():
        path, leaf, array = paths[key], key.rpartition("/")[2], np.asarray(value)
        if (path, leaf) == (rules.stem, "kernel") and array.shape[2] < 3:  # of gray films
            like = np.linalg.pinv(inputs.like_channels(normalize))  # (planes, 3)
            array = np.einsum("hwpo,pc->hwco", array.astype(np.float64), like).astype(array.dtype)
        name, array = to_torch(leaf, array)
        out[f"{names[path]}.{name}"] = np.ascontiguousarray(array)
    return flattened(out, back=True) if rules.plain else out
