"""The networks, by name: `build("densenet121", num_classes=14)`."""

from cxrjax.models.build import (
    AUTOENCODERS,
    BACKBONES,
    DENOISERS,
    HEADS,
    PRESETS,
    Autoencoder,
    AuxHead,
    Classifier,
    ConvHead,
    Head,
    LstmHead,
    PatchDiscriminator,
    Preset,
    build,
    build_autoencoder,
    build_gan,
)

__all__ = [
    "AUTOENCODERS",
    "BACKBONES",
    "DENOISERS",
    "HEADS",
    "PRESETS",
    "Autoencoder",
    "AuxHead",
    "Classifier",
    "ConvHead",
    "Head",
    "LstmHead",
    "PatchDiscriminator",
    "Preset",
    "build",
    "build_autoencoder",
    "build_gan",
]
