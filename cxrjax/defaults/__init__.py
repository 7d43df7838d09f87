"""What a config is made of: `keys`, `phases` and `studies` hold every key, the other files what several configs share.

Imports ml_collections alone, so that a mistake on the command line is told before jax is imported.
"""

from cxrjax.defaults.curves import curve, point, points
from cxrjax.defaults.keys import data, run
from cxrjax.defaults.phases import autoencoder, classify, diffusion, gan, grid, identify, optim
from cxrjax.defaults.studies import DAMAGE, anomaly, comparison, damage, damage_choices, fdd, synthesis, treatment
from cxrjax.defaults.transfers import LITE0, RESNET18, set_phases, smoke_transfer, transfer, transfer_choices
from cxrjax.defaults.variants import CHESTXRAY14, KERMANY, dtypes, smoke

__all__ = [
    "CHESTXRAY14",
    "DAMAGE",
    "KERMANY",
    "LITE0",
    "RESNET18",
    "anomaly",
    "autoencoder",
    "classify",
    "comparison",
    "curve",
    "damage",
    "damage_choices",
    "data",
    "diffusion",
    "dtypes",
    "fdd",
    "gan",
    "grid",
    "identify",
    "optim",
    "point",
    "points",
    "run",
    "set_phases",
    "smoke",
    "smoke_transfer",
    "synthesis",
    "transfer",
    "transfer_choices",
    "treatment",
]
