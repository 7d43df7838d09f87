from __future__ import annotations

import cv2
import numpy as np
import pytest

from cxrjax import defaults
from cxrjax.data.labels import FINDINGS
from cxrjax.data.phantom import Phantom, render
from cxrjax.data.sources import phantom
from cxrjax.errors import UserError
from cxrjax.metrics.classification import auroc
from cxrjax.studies import floor

SIZE = 64
COMBINATIONS = (
    {"Effusion": 0.7, "Cardiomegaly": 0.6},
    {"Edema": 0.8, "Effusion": 0.5, "Cardiomegaly": 0.9},
    {"Emphysema": 0.7, "Pneumothorax": 0.6, "Nodule": 0.5},
    dict.fromkeys(FINDINGS, 0.5),
)
CASES = [*({name: 0.7} for name in FINDINGS), *COMBINATIONS]


def difference(film: Phantom) -> np.ndarray:
    return film.image.astype(int) - film.twin.astype(int)


def width(mask: np.ndarray) -> int:
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[-1] - columns[0] + 1)


def ratio(film: Phantom) -> float:
    return width(film.heart) / width(film.lungs | film.heart)


Drawn = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """By part, films in [0, 1] as the treatment study draws them, and which of them have pneumonia."""
    config = defaults.data("phantom", ("Normal", "Pneumonia"), SIZE, num={"train": 450, "test": 250})
    out: Drawn = {}
    records = list(phantom.source(config).records())
    for part in config.num:
        films = [record for record in records if record.split == part]
        image = np.stack([film.film for film in films])[..., None].astype(np.float32) / np.float32(255)
        out[part] = image, np.array([film.labels[0] for film in films])
    return out


def test_brightness_does_not_tell_the_class(drawn: Drawn) -> None:
    image, sick = drawn["test"]
    for measure in (image.mean(axis=(1, 2, 3)), image.std(axis=(1, 2, 3)), image[:, 16:48, 8:56].mean(axis=(1, 2, 3))):
        assert 0.35 < auroc(sick, measure) < 0.65


def test_a_straight_line_does_not_tell_the_class(drawn: Drawn) -> None:
    (train, known), (test, sick) = drawn["train"], drawn["test"]
    both = np.stack([1 - known, known], axis=1)
    found = floor.logreg32(floor.small(train), both, floor.small(test), 0)[:, 1]
    assert 0.6 < auroc(sick, found) <= 0.85


def test_exposure_and_contrast_differ_from_film_to_film(drawn: Drawn) -> None:
    image = drawn["test"][0][drawn["test"][1] == 0]
    assert image.mean(axis=(1, 2, 3)).std() > 0.035
    spread = image.std(axis=(1, 2, 3))
    assert np.percentile(spread, 95) / np.percentile(spread, 5) > 1.3


def test_pneumonia_comes_in_both_lungs_and_all_but_the_last_tenth() -> None:
    places = []
    for seed in range(60):
        film = render(seed, SIZE, {"Pneumonia": 0.7})
        rows, columns = np.nonzero(film.masks["Pneumonia"])
        lungs = np.flatnonzero(film.lungs.any(axis=1))
        places.append(((rows.mean() - lungs[0]) / np.ptp(lungs), columns.mean() < SIZE / 2))
    height, right = np.array(places).T
    assert 0.3 < right.mean() < 0.7
    assert height.min() < 0.3
    assert height.max() > 0.65
    assert height.std() > 0.12


def test_healthy_film_is_its_twin() -> None:
    film = render(3, SIZE)
    assert film.findings == {}
    assert film.masks == {}
    assert film.image.shape == (SIZE, SIZE)
    assert film.image.dtype == np.uint8
    np.testing.assert_array_equal(film.image, film.twin)


def test_same_seed_same_film_and_other_seed_other_film() -> None:
    findings = {"Pneumonia": 0.6, "Effusion": 0.4}
    first, second, other = render(5, SIZE, findings), render(5, SIZE, findings), render(6, SIZE, findings)
    np.testing.assert_array_equal(first.image, second.image)
    for name in findings:
        np.testing.assert_array_equal(first.masks[name], second.masks[name])
    assert np.mean(first.twin != other.twin) > 0.5


def test_the_order_of_the_findings_does_not_matter() -> None:
    first = render(5, SIZE, {"Pneumonia": 0.6, "Effusion": 0.4})
    np.testing.assert_array_equal(first.image, render(5, SIZE, {"Effusion": 0.4, "Pneumonia": 0.6}).image)


@pytest.mark.parametrize("findings", CASES, ids=lambda f: "+".join(f) if len(f) < 4 else f"{len(f)} findings")
@pytest.mark.parametrize("size", [64, 160])
def test_film_equals_twin_outside_the_masks_and_differs_inside(findings: dict[str, float], size: int) -> None:
    for seed in (0, 11):
        film = render(seed, size, findings)
        assert set(film.masks) == set(findings)
        changed = difference(film)
        assert not changed[~np.any(list(film.masks.values()), axis=0)].any()
        for mask in film.masks.values():
            if mask.any():
                assert np.mean(np.abs(changed[mask]) >= 3) >= 0.9
        if len(findings) == 1:
            assert mask.any()


@pytest.mark.parametrize("name", FINDINGS)
def test_moderate_findings_are_visible_on_small_films(name: str) -> None:
    for seed in range(6):
        film = render(seed, SIZE, {name: 0.4})
        assert film.masks[name].sum() >= 4
        assert np.abs(difference(film)).max() >= 8


@pytest.mark.parametrize("findings", CASES[::3])
def test_anatomy_does_not_depend_on_the_findings(findings: dict[str, float]) -> None:
    np.testing.assert_array_equal(render(8, SIZE, findings).twin, render(8, SIZE).image)


@pytest.mark.parametrize("seed", range(4))
def test_anatomy_agrees_across_sizes(seed: int) -> None:
    small, large = render(seed, 64), render(seed, 256)
    shrunk = cv2.resize(large.lungs.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) > 0.5
    assert (small.lungs & shrunk).sum() / (small.lungs | shrunk).sum() > 0.9
    gray = cv2.resize(large.twin, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
    assert np.corrcoef(gray.ravel(), small.twin.astype(float).ravel())[0, 1] > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_cardiothoracic_ratio(seed: int) -> None:
    healthy, mild, severe = (render(seed, 128, {"Cardiomegaly": s}) for s in (0.0, 0.2, 1.0))
    assert ratio(healthy) < 0.5 < ratio(mild) < ratio(severe)


@pytest.mark.parametrize("seed", range(4))
def test_nodules_are_small_and_masses_are_larger(seed: int) -> None:
    for severity in (0.4, 1.0):
        nodule = render(seed, 128, {"Nodule": severity}).masks["Nodule"].mean()
        assert 0 < nodule < 0.03
        assert nodule < render(seed, 128, {"Mass": severity}).masks["Mass"].mean()


@pytest.mark.parametrize(
    ("name", "sign"),
    [("Pneumothorax", -1), ("Emphysema", -1), ("Effusion", 1), ("Consolidation", 1), ("Mass", 1), ("Edema", 1)],
)
def test_air_is_dark_and_fluid_is_bright(name: str, sign: int) -> None:
    for seed in range(4):
        film = render(seed, 96, {name: 0.4})
        assert sign * difference(film)[film.masks[name] & render(seed, 96).lungs].mean() > 5


@pytest.mark.parametrize("name", FINDINGS)
def test_severity_increases_the_change(name: str) -> None:
    for seed in (1, 2):
        total = [np.abs(difference(render(seed, SIZE, {name: s}))).sum() for s in (0.2, 0.6, 1.0)]
        assert total[0] < total[1] < total[2]


def test_effusion_lies_below_and_covid_is_bilateral() -> None:
    for seed in range(4):
        film = render(seed, SIZE, {"Effusion": 0.4, "COVID-19": 0.6})
        rows = np.flatnonzero(film.lungs.any(axis=1))
        assert np.flatnonzero(film.masks["Effusion"].any(axis=1)).mean() > rows.mean()
        assert film.masks["COVID-19"][:, :32].any()
        assert film.masks["COVID-19"][:, 32:].any()


def test_zero_severity_is_absent() -> None:
    film = render(2, SIZE, {"Mass": 0.0})
    assert film.findings == {}
    assert film.masks == {}
    np.testing.assert_array_equal(film.image, film.twin)


@pytest.mark.parametrize("findings", [{"Masss": 0.5}, {"Mass": 1.2}, {"Mass": -0.1}, {"Mass": float("nan")}])
def test_bad_findings_are_told(findings: dict[str, float]) -> None:
    with pytest.raises(UserError, match="Mass"):
        render(0, SIZE, findings)


@pytest.mark.parametrize(("seed", "size"), [(-1, 64), (0, 8)])
def test_bad_seed_or_size_is_told(seed: int, size: int) -> None:
    with pytest.raises(UserError, match=str(seed if seed < 0 else size)):
        render(seed, size)
