"""A pretrained network's features in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cxrjax
from cxrjax.errors import UserError
from cxrjax.infer import backbone

# Means over space of these channels of the last map of the torch network (efficientnet-lite-pytorch 0.1.0, the weights
# of its package) for the films three times over, less 127, over 128.
CHANNELS = [659, 468, 949, 1078, 828]
RECORDED = ((3.2254, 3.03109, 2.66531, 2.63523, 2.65435), (3.46828, 3.54573, 2.84614, 2.73304, 2.58752))


def test_features_are_those_of_torch_from_arrays_and_paths_in_one_compilation(tmp_path: Path) -> None:
    films = np.random.default_rng(0).integers(0, 256, (2, 8, 8)).repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    lite = cxrjax.backbone("efficientnet_lite0", size=64)
    before = backbone._features._cache_size()
    found = lite.features(films)
    assert (found.shape, found.dtype) == ((2, 1280), np.float32)
    np.testing.assert_allclose(found[:, CHANNELS], RECORDED, rtol=0, atol=1e-4)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, film in zip(paths, films, strict=True):
        Image.fromarray(film).save(path)
    np.testing.assert_array_equal(lite.features(paths), found)
    many = lite.features(np.concatenate([films[:1]] * backbone.BATCH + [films]))
    np.testing.assert_allclose(many[-2:], found, rtol=0, atol=1e-5)
    assert backbone._features._cache_size() == before + 1


def test_16_bit_films_are_read_at_one_depth(tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 1024, (32, 32)).astype(np.uint16)
    Image.fromarray(film).save(tmp_path / "film.png")
    net = cxrjax.backbone("efficientnet_lite0", size=32, bit_depth=12)
    assert net.depth == 12
    with pytest.raises(UserError, match=r"need more than data\.bit_depth, 8 bits"):
        net._replace(depth=8).features([tmp_path / "film.png"])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("efficientnet_lit0", {}, "did you mean 'efficientnet_lite0'"),
        ("cnn5", {}, "no torch weights are known for 'cnn5'"),
        ("densenet121", {}, "pip install torchvision"),
        ("efficientnet_lite0", {"normalize": "imagnet"}, "did you mean 'imagenet'"),
        ("efficientnet_lite0", {"normalize": "film"}, "trained under normalize = 'efficientnet_lite'"),
        ("densenet121", {"weights": "no.pth"}, r"no\.pth: no such file"),
    ],
)
def test_what_there_is_not_is_told(name: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        cxrjax.backbone(name, **options)
