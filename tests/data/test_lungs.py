"""Lung fields against the phantoms' own lungs and lesions; films without lungs; real films where there are some."""

from __future__ import annotations

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from cxrjax.data import pipeline, prepare
from cxrjax.data.decode import decode
from cxrjax.data.lungs import lungs, outside
from cxrjax.data.phantom import render
from cxrjax.defaults import data
from cxrjax.errors import UserError
from cxrjax.ops.inputs import border_only

FILMS = 6


def films(size: int, finding: str = "Pneumonia", severity: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images in [0, 1], true lungs and true lesions, (n, size, size) each."""
    drawn = [render(seed, size, {finding: severity}) for seed in range(500, 500 + FILMS)]
    lesion = [film.masks.get(finding, np.zeros_like(film.lungs)) for film in drawn]
    image = np.stack([film.image for film in drawn]).astype(np.float32) / 255
    return image, np.stack([film.lungs for film in drawn]), np.stack(lesion)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2))


@pytest.mark.parametrize("size", [64, 256])
def test_healthy_lungs_are_found_and_kept(size):
    image, truth, _ = films(size, severity=0.0)
    found = lungs(image)
    assert found.mask.shape == image.shape
    assert found.mask.dtype == found.found.dtype == bool
    assert found.found.all()
    assert overlap(found.mask, truth).mean() > 0.75
    assert overlap(found.mask, truth).min() > 0.65
    assert (found.mask & truth).sum() / truth.sum() > 0.92
    assert found.mask.mean() < 0.45


@pytest.mark.parametrize("size", [64, 256])
def test_pneumonia_is_not_cut_out(size):
    image, truth, lesion = films(size, "Pneumonia")
    found = lungs(image)
    assert found.found.all()
    # Of a lung that is dense all over (one of these films) the outline may leave out a patch at the apex.
    assert (found.mask & lesion).sum() / lesion.sum() > 0.9
    assert overlap(found.mask, truth).mean() > 0.74
    dark = np.stack([film < threshold_otsu(film) for film in image])  # what a threshold keeps
    assert (dark & lesion).sum() / lesion.sum() < 0.8


def test_an_opaque_lobe_stays_for_the_most_part():
    image, truth, lesion = films(64, "Consolidation")
    found = lungs(image)
    assert found.found.all()
    assert (found.mask & truth & lesion).sum() / (truth & lesion).sum() > 0.65
    dark = np.stack([film < threshold_otsu(film) for film in image])
    assert (dark & truth & lesion).sum() / (truth & lesion).sum() < 0.5


def test_a_film_without_lungs_is_not_masked():
    rng = np.random.default_rng(0)
    noise = np.stack([cv2.GaussianBlur(rng.random((64, 64), np.float32), (0, 0), sigma) for sigma in (0.5, 1, 2, 4)])
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (1, 64, 64))
    blank = np.stack([np.zeros((64, 64)), np.full((64, 64), 0.5), np.ones((64, 64))])
    turned = np.rot90(films(64)[0][:2], axes=(1, 2))
    found = lungs(np.concatenate([noise, ramp, blank, turned]))
    assert not found.found.any()
    assert found.mask.all()


def test_each_film_is_masked_alone_and_the_same_at_any_exposure():
    image, _, _ = films(64)
    image[1] = 0.0
    found = lungs(image)
    assert found.found.tolist() == [True, False] + [True] * (FILMS - 2)
    np.testing.assert_array_equal(found.mask[2:3], lungs(image[2:3]).mask)
    assert overlap(found.mask, lungs(0.5 * image).mask).min() > 0.95
    assert not lungs(image[:0]).found.size


def test_films_of_any_size_and_shape_and_mirrored_ones_agree():
    image, truth, _ = films(256)
    masks = lungs(image).mask
    small = np.stack([cv2.resize(film, (64, 64), interpolation=cv2.INTER_AREA) for film in image])
    back = np.stack([cv2.resize(m.astype(np.float32), (256, 256)) > 0.5 for m in lungs(small).mask])
    assert overlap(masks, back).min() > 0.85
    narrow = np.stack([cv2.resize(film, (160, 224)) for film in image[:2]])  # 224 high, 160 wide
    assert lungs(narrow).mask.shape == (2, 224, 160)
    wide = np.stack([cv2.resize(m.astype(np.float32), (256, 256)) > 0.5 for m in lungs(narrow).mask])
    assert overlap(masks[:2], wide).min() > 0.85
    assert overlap(lungs(image[..., ::-1]).mask[..., ::-1], truth).mean() > 0.75


def test_bad_films_are_told():
    with pytest.raises(UserError, match="at least 32"):
        lungs(np.zeros((1, 64, 31)))
    with pytest.raises(UserError, match=r"expected \(n, h, w\)"):
        lungs(np.zeros((64, 64)))
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(UserError, match="outside"):
            lungs(np.full((1, 64, 64), bad))


def test_real_films(films_root):
    for folder in ("kermany/chest_xray/train/NORMAL", "nih/images_256"):
        paths = sorted((films_root / folder).glob("*"))[:12]
        found = lungs(np.stack([decode(path, 64) for path in paths]).astype(np.float32) / 255)
        assert found.found.mean() >= 0.75
        assert 0.12 < found.mask[found.found].mean() < 0.45


@pytest.mark.parametrize("finding", ["Pneumonia", "COVID-19"])
def test_the_border_control_sees_hardly_any_lung_and_lesion(finding, tmp_path):
    """Read as training and evaluation read it: little of the frame's lung, and hardly a pixel of a lesion, is left."""
    num = {"train": 16, "val": 0, "test": 4}
    films = prepare(data("phantom", ("Normal", finding), 64, cache=str(tmp_path), num=num, findings=(finding,),
                         normal_share=0.0))  # fmt: skip
    whole = pipeline.films(films, "train")
    batches = pipeline.eval_batches(
        films, "train", classes=("Normal", finding), batch_size=16, field="outside", threads=0
    )
    image = next(batches).image
    frame = np.asarray(border_only(jnp.ones((1, 64, 64, 1)), 0.125))[..., 0] > 0
    blank = (image == 0)[..., 0]
    lung, lesion = whole["lungs"] & frame, whole["masks"][finding]
    assert lung.sum() / frame.sum() / len(image) > 0.02
    assert (lung & ~blank).sum() < 0.2 * lung.sum()
    assert (lesion & frame & ~blank).sum() < 0.01 * lesion.sum()
    np.testing.assert_array_equal(image[~blank], whole["image"][~blank])
    assert (frame & ~blank).mean() > 0.7 * frame.mean()  # the rest of the frame stands


def test_a_film_without_found_lungs_is_left_whole():
    film = np.random.default_rng(0).random((1, 64, 64)).astype(np.float32)
    assert not lungs(film).found.any()
    assert outside(film).all()
