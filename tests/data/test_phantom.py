from __future__ import annotations

import cv2
import numpy as np
import pytest

from cxrjax.data.labels import FINDINGS
from cxrjax.data.phantom import Phantom, render
from cxrjax.errors import UserError

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
