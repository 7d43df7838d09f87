"""Weights from torch: `bring(Source("densenet121.pth", "densenet121", head=False))` is a `carry` of the train loop.

A family's rules are in `rules`, files in `read`, `torchfile` and `unpickle`, packages in `pretrained`, the filling of a
network in `conversion`, and the way back in `torchstate`.
"""

from cxrjax.weights.conversion import Report, Source, account, bring, convert, variables_of
from cxrjax.weights.pretrained import IMAGENET
from cxrjax.weights.read import clean, load
from cxrjax.weights.rules import FAMILIES, family_of
from cxrjax.weights.torchstate import state_dict

__all__ = [
    "FAMILIES", "IMAGENET", "Report", "Source", "account", "bring", "clean", "convert", "family_of", "load",
    "state_dict", "variables_of",
]  # fmt: skip
