"""The networks, by name: `build("densenet121", num_classes=14)`."""

from cxrjax.models.build import (
    BACKBONES,
    DENOISERS,
    HEADS,
    PRESETS,
    Autoencoder,
    ConvHead,
    Head,
    LstmHead,
    build,
    build_autoencoder,
    build_gan,
)

__all__ = [
    "BACKBONES",
    "DENOISERS",
    "HEADS",
    "PRESETS",
    "Autoencoder",
    "ConvHead",
    "Head",
    "LstmHead",
    "build",
    "build_autoencoder",
    "build_gan",
]
