"""Weights from torch: `bring(path, "densenet121", head=False)` is a `carry` of the train loop.

A family's rules are in `rules`, files in `read`, the filling of a network in `conversion`.
"""

from cxrjax.weights.conversion import Report, bring, convert
from cxrjax.weights.read import clean, describe, load
from cxrjax.weights.rules import FAMILIES

__all__ = ["FAMILIES", "Report", "bring", "clean", "convert", "describe", "load"]
