"""The study's figures on planted cases: crossings, equal rates, paired differences, and every path of the results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrjax import manifest, report
from cxrjax.metrics import entries
from cxrjax.report import faces
from cxrjax.studies.treatment import measures, ranking

LEAF = {"value", "low", "high", "n", "unit"}
JUDGES = ("cam_network", "independent")


@pytest.mark.parametrize(
    ("rates", "level", "left", "right", "weight"),
    [
        ([0.0, 0.2, 0.6, 1.0], 0.5, 1, 2, 0.75),  # between two lambdas
        ([0.0, 0.2, 0.6, 1.0], 0.6, 1, 2, 1.0),  # at one of them
        ([0.0, 0.7, 0.1, 0.9], 0.5, 0, 1, 5 / 7),  # the first of two crossings
        ([0.8, 0.2, 0.9], 0.5, 0, 0, np.nan),  # without any treatment
        ([0.5, 0.5, 0.5], 0.5, 0, 0, np.nan),
    ],
)
def test_crossing_is_the_first_and_is_interpolated(rates, level, left, right, weight):
    found = measures.crossing(np.asarray(rates), level)
    assert (int(found[0]), int(found[1])) == (left, right)
    assert float(found[2]) == pytest.approx(weight, nan_ok=True)
    # What the weights say must be the level itself.
    at = (1 - found[2]) * rates[left] + found[2] * rates[right]
    assert float(at) == pytest.approx(level + 0 * weight, nan_ok=True)


def test_crossing_that_never_comes_is_nan_and_leaves_the_other_curves_alone():
    rates = np.asarray([[0.0, 0.1, 0.4], [0.0, 1.0, 1.0]])
    left, right, weight = measures.crossing(rates, 0.5)
    assert left.shape == right.shape == weight.shape == (2,)
    assert np.isnan(weight[0])
    assert weight[1] == pytest.approx(0.5)


def test_at_rate_interpolates_the_error_anew_for_each_draw():
    normal = np.asarray([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    error = np.asarray([[0.0] * 4, [1.0, 2, 3, 4], [10.0, 20, 30, 40]])
    draws = np.asarray([[0, 1, 2, 3], [0, 0, 0, 0], [3, 3, 3, 3]])
    value = measures.at_rate(normal, error, 0.75, draws)
    assert value == pytest.approx([(2.5 + 25) / 2, 0.75 * 1, 0.25 * 4 + 0.75 * 40])
    assert np.isnan(measures.at_rate(normal[:2], error[:2], 0.75, draws)).tolist() == [True, False, True]


def test_at_rate_leaves_out_films_without_an_error():
    normal = np.asarray([[0, 0], [1, 1]], bool)
    error = np.asarray([[0.0, np.nan], [0.4, np.nan]])
    assert measures.at_rate(normal, error, 1.0, np.asarray([[0, 1]])) == pytest.approx([0.4])


def test_at_rate_is_nan_without_a_word_where_no_film_of_a_draw_has_an_error():
    normal = np.asarray([[0, 0], [1, 1]], bool)
    error = np.asarray([[0.0, np.nan], [0.4, np.nan]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measures.at_rate(normal, error, 1.0, np.asarray([[0, 0], [1, 1]]))
    np.testing.assert_allclose(found, [0.4, np.nan])


def planted(n: int = 40) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two modes that turn the same films normal; `gated` spoils each a fifth as much. Films differ a lot."""
    turns_at = 1 + np.arange(n) % 4
    normal = turns_at[None] <= np.arange(5)[:, None]  # rates 0, 1/4, 1/2, 3/4, 1
    film = np.random.default_rng(1).uniform(0.0, 2.0, n)
    cost = np.arange(5)[:, None] * np.ones((1, n))
    errors = {"uniform": 0.1 * cost + film[None], "gated": 0.02 * cost + film[None]}
    return {"uniform": normal, "gated": normal}, errors


def test_equal_rate_finds_the_better_mode_and_its_paired_interval():
    normal, errors = planted()
    out = measures.equal_rate(normal, errors, 0.5, "gray")
    assert set(out["uniform"]) == {"value"}
    assert out["uniform"]["value"]["value"] == pytest.approx(errors["uniform"][2].mean())
    difference = out["gated"]["difference"]
    assert difference["value"] == pytest.approx(2 * (0.02 - 0.1))
    assert difference["low"] <= difference["value"] <= difference["high"] < 0
    assert difference["unit"] == "gray"
    assert difference["n"] == 40

    def width(leaf: dict[str, Any]) -> float:
        return leaf["high"] - leaf["low"]

    # The films' own spread is common to both modes and must cancel; only the uncertain rate is left.
    assert width(difference) < 0.5 * width(out["gated"]["value"])
    swapped = measures.equal_rate(normal, {"uniform": errors["gated"], "gated": errors["uniform"]}, 0.5, "gray")
    assert swapped["gated"]["difference"]["value"] == pytest.approx(-difference["value"])
    assert swapped["gated"]["difference"]["low"] == pytest.approx(-difference["high"])


def test_equal_rate_of_a_mode_with_a_lower_error_at_each_lambda_but_a_lower_rate_is_worse():
    """Comparing at one lambda would call it better: this is what the equal rate is for."""
    normal, errors = planted()
    slow = normal["uniform"][[0, 0, 0, 1, 2]]  # reaches 1/2 at the last lambda only
    cheaper = errors["uniform"] - 0.01 * np.arange(5)[:, None]
    out = measures.equal_rate({"uniform": normal["uniform"], "slow": slow}, {**errors, "slow": cheaper}, 0.5, "gray")
    assert (cheaper[1:] < errors["uniform"][1:]).all()
    assert out["slow"]["difference"]["value"] == pytest.approx(4 * 0.09 - 2 * 0.1)


def test_equal_rate_that_is_not_reached_has_no_value():
    normal, errors = planted()
    normal["gated"] = np.zeros_like(normal["gated"])
    out = measures.equal_rate(normal, errors, 0.8, "gray")
    for leaf in (out["gated"]["value"], out["gated"]["difference"]):
        assert (leaf["value"], leaf["low"], leaf["high"]) == (None, None, None)
    assert out["uniform"]["value"]["value"] is not None


def test_equal_rate_that_is_only_just_reached_has_a_value_without_interval():
    normal, errors = planted()
    normal["gated"] = (
        normal["gated"] & (np.arange(5) <= 2)[:, None] | normal["gated"][2][None] & (np.arange(5) > 2)[:, None]
    )  # stays at 1/2, which about half of the resamples miss
    leaf = measures.equal_rate(normal, errors, 0.5, "gray")["gated"]["value"]
    assert leaf["value"] == pytest.approx(errors["gated"][2].mean())
    assert leaf["low"] is None
    assert leaf["high"] is None


def test_rate_leaf_is_wilsons():
    leaf = entries.rate(np.asarray([True] * 8 + [False] * 2))
    z, p, n = 1.959964, 0.8, 10
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert leaf["value"] == 0.8
    assert (leaf["low"], leaf["high"]) == pytest.approx((middle - half, middle + half), abs=1e-5)
    assert leaf["n"] == 10
    assert entries.rate(np.zeros(0, bool))["value"] is None


def test_mean_leaf_leaves_out_what_has_no_value():
    values = np.asarray([1.0, 2.0, 3.0, 6.0])
    leaf = entries.mean(values, "gray")
    assert leaf["value"] == 3.0
    assert 1.0 <= leaf["low"] < 3.0 < leaf["high"] <= 6.0
    assert leaf["n"] == 4
    assert entries.mean(np.concatenate([values, [np.nan, np.nan]]), "gray") == leaf
    empty = entries.mean(np.full(3, np.nan), "gray")
    assert (empty["value"], empty["n"]) == (None, 0)


def fake_films(n: int = 6, size: int = 8) -> dict[str, np.ndarray]:
    """Films whose map and lesion both light up, in different places; the first two thirds are diseased."""
    rng = np.random.default_rng(0)
    twin = rng.uniform(0.2, 0.6, (n, size, size)).astype(np.float32)
    cam, lesion = np.zeros_like(twin), np.zeros(twin.shape, bool)
    cam[:, :4, :4], lesion[:, 2:5, 2:5] = 0.9, True
    disease = np.arange(n) < 2 * n // 3
    image = twin + 0.3 * (lesion & disease[:, None, None]).astype(np.float32)
    return {"image": image, "twin": twin, "cam": cam, "lesion": lesion, "disease": disease}


def measured(films: dict[str, np.ndarray], image: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Of films whose features are their pixels."""
    films = {**films, "pooled": films["image"].reshape(len(image), -1)}
    return measures.measures(films, {"image": image, "pooled": image.reshape(len(image), -1)})


def test_measures_of_an_untouched_film():
    films = fake_films()
    out = measured(films, films["image"])
    np.testing.assert_allclose(out["cosine"]["features"], 1.0)
    assert (out["reidentified"]["first"] == 1).all()
    for where in ("inside", "outside", "whole"):
        assert (out["mae"][where] == 0).all()
        assert np.isposinf(out["psnr"][where]).all()
        np.testing.assert_allclose(out["ssim"][where], 1.0, atol=1e-9)
    sick = films["disease"]
    np.testing.assert_allclose(out["twin_error"]["inside"], np.where(sick, 0.3, 0.0), atol=1e-6)
    assert (out["twin_error"]["outside"] == 0).all()


def test_measures_keep_inside_and_outside_apart():
    films = fake_films()
    inside = films["image"] + 0.1 * (films["cam"] > 0.5)
    outside = films["image"] + 0.1 * (films["cam"] <= 0.5)
    changed_in, changed_out = measured(films, inside), measured(films, outside)
    np.testing.assert_allclose(changed_in["mae"]["inside"], 0.1, atol=1e-6)
    assert (changed_in["mae"]["outside"] == 0).all()
    np.testing.assert_allclose(changed_in["psnr"]["inside"], 20.0, atol=1e-4)
    np.testing.assert_allclose(changed_out["mae"]["outside"], 0.1, atol=1e-6)
    assert (changed_out["mae"]["inside"] == 0).all()


def test_twin_error_is_zero_for_a_perfect_cure_and_follows_the_lesion_not_the_map():
    films = fake_films()
    cured = measured(films, films["twin"])["twin_error"]
    assert all((cured[where] == 0).all() for where in ("inside", "outside"))
    away = ~films["lesion"]
    harmed = measured(films, np.where(away, films["twin"] + 0.2, films["twin"]))["twin_error"]
    np.testing.assert_allclose(harmed["outside"], 0.2, atol=1e-6)
    assert (harmed["inside"] == 0).all()


def write_sweep(workdir: Path, films: dict[str, np.ndarray]) -> None:
    """A sweep in which `uniform` spoils the whole film, `time_gated` only the lesion's; 400 cures every film."""
    folder = workdir / "progress"
    folder.mkdir(parents=True)
    n = len(films["image"])
    about: dict[str, Any] = {"key": np.arange(n).astype(str), "severity": np.where(films["disease"], 0.5, np.nan)}
    np.savez(folder / "films.npz", **{**about, **films})

    def write(name: str, image: np.ndarray, normal: np.ndarray) -> None:
        judged: dict[str, Any] = {f"normal_probability_{j}": normal.astype(np.float32) for j in JUDGES}
        pooled = image.reshape(n, -1)
        np.savez(folder / f"{name}.npz", image=image, pooled=pooled, seconds=np.asarray(0.5), **judged)

    write("untreated", films["image"], np.where(films["disease"], 0.1, 0.9))
    cure = films.get("twin", films["image"])
    for mode, harm in (("uniform", 0.08), ("time_gated", 0.01)):
        for lam, share in ((200, 0.5), (400, 1.0)):
            image = films["image"] + share * (cure - films["image"]) + harm * share
            cured = np.arange(n) < share * films["disease"].sum()
            write(f"{mode}_{lam:04d}", image, np.where(cured | ~films["disease"], 0.9, 0.1))


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in tree.items():
        assert isinstance(value, dict), ".".join((*path, key))
        if "unit" in value:
            yield ".".join((*path, key)), value
        else:
            yield from leaves(value, (*path, key))


def test_results_of_a_finished_sweep(tmp_path: Path):
    write_sweep(tmp_path, fake_films())
    out = measures.results(tmp_path / "progress", ("uniform", "time_gated"), (200, 400), JUDGES)
    found = dict(leaves(out))
    assert all(set(leaf) == LEAF for leaf in found.values())
    assert found["progress.untreated.normal_rate.independent"]["value"] == 0
    assert found["progress.time_gated.200.normal_rate.independent"]["value"] == 0.5
    assert found["progress.time_gated.400.normal_rate.independent"]["value"] == 1
    assert found["progress.time_gated.400.normal_rate.cam_network"]["n"] == 4  # the diseased alone
    assert found["control.uniform.400.normal_rate.independent"]["n"] == 2
    assert found["control.untreated.normal_rate.independent"]["value"] == 1
    assert found["control.uniform.400.change"]["value"] == pytest.approx(0.08, abs=1e-6)
    assert found["progress.untreated.twin_error.inside"]["value"] == pytest.approx(0.3, abs=1e-6)
    assert found["progress.uniform.400.twin_error.inside"]["value"] == pytest.approx(0.08, abs=1e-6)
    # 0.8 lies at 3/5 of the way from lambda 200 to 400: harms 0.04 and 0.08.
    path = "equal_rate.independent.0.8.uniform.twin_error.outside.value"
    assert found[path]["value"] == pytest.approx(0.4 * 0.04 + 0.6 * 0.08, abs=1e-6)
    assert found["equal_rate.independent.0.5.time_gated.mae.outside.difference"]["value"] < 0
    assert not any(path.endswith("difference") for path in found if ".uniform." in path)
    assert not any(".psnr." in path for path in found if path.startswith("equal_rate"))


def test_a_threshold_set_on_healthy_films_gives_rates_and_a_comparison_of_its_own(tmp_path: Path):
    write_sweep(tmp_path, fake_films())  # called with 0.9, or not, with 0.1
    folder, arms = tmp_path / "progress", ("uniform", "time_gated")
    plain = measures.results(folder, arms, (200, 400), JUDGES)
    # Above every film nothing is normal; at 0.05 all films are, untreated ones too.
    strict, mild = (
        measures.results(folder, arms, (200, 400), JUDGES, cuts=dict.fromkeys(JUDGES, cut)) for cut in (0.95, 0.05)
    )
    for out in (strict, mild):
        found = dict(leaves(out))
        assert {path: leaf for path, leaf in found.items() if "_set" not in path} == dict(leaves(plain))
        assert {path.split(".")[1] for path in found if path.startswith("equal_rate_set")} == {JUDGES[0]}
    rates = [dict(leaves(out))["progress.uniform.400.normal_rate_set.independent"]["value"] for out in (strict, mild)]
    assert rates == [0, 1]
    same = measures.results(folder, arms, (200, 400), JUDGES, cuts=dict.fromkeys(JUDGES, 0.3))
    assert same["equal_rate_set"][JUDGES[0]] == same["equal_rate"][JUDGES[0]]
    lost = dict(leaves(mild))["equal_rate_set.cam_network.0.5.uniform.mae.outside.value"]
    assert lost["value"] is None  # reached without a treatment


def test_every_arm_is_held_against_the_best_guided_one_and_each_judges_word_is_counted(tmp_path: Path):
    write_sweep(tmp_path, fake_films())
    path = tmp_path / "progress" / "uniform_0400.npz"
    with np.load(path) as found:
        told = dict(found)
    told["normal_probability_independent"][1] = 0.1  # one of four that convince the map's network, and not this one
    np.savez(path, **told)
    arms, judges = ("uniform", "time_gated"), JUDGES[::-1]  # the independent one first, as a study has them
    out = measures.results(tmp_path / "progress", arms, (200, 400), judges, guided=arms[1:])
    at = out["equal_rate"]["independent"]["0.5"]
    for measure, where in (("mae", "outside"), ("twin_error", "inside"), ("cosine", "features")):
        ours, theirs = (at[arm][measure][where] for arm in ("time_gated", "uniform"))
        assert theirs["minus_best"]["value"] == pytest.approx(theirs["value"]["value"] - ours["value"]["value"])
        assert "minus_best" not in ours
    assert out["progress"]["uniform"]["400"]["transfer"]["value"] == 0.75
    assert out["progress"]["time_gated"]["400"]["transfer"]["value"] == 1


def test_results_are_what_the_report_reads(tmp_path: Path):
    write_sweep(tmp_path, fake_films())
    out = measures.results(tmp_path / "progress", ("uniform", "time_gated"), (200, 400), JUDGES)
    out["tables"] = ranking.tables(out, ("uniform", "time_gated"), "independent", measures.LEVELS, truth=True)
    manifest.write_json(tmp_path / "results.json", out)
    manifest.write_json(tmp_path / "manifest.json", {"config": {"study": {"name": "progress"}}})
    assert json.loads((tmp_path / "results.json").read_text()) == out
    _, run = faces.read(tmp_path)
    assert run.ranking == ("0.5", ["time_gated", "uniform"])
    titles = [str(table.title) for table in report.rich_tables(tmp_path)]
    ranked = [f"Arms ranked at normal rate {level}" for level in measures.LEVELS]
    assert titles == [*ranked, "Arms at the largest lambda", "Key numbers"]


def test_results_of_real_films_have_no_twin(tmp_path: Path):
    films = {key: value for key, value in fake_films().items() if key not in ("twin", "lesion")}
    write_sweep(tmp_path, films)
    out = measures.results(tmp_path / "progress", ("uniform", "time_gated"), (200, 400), JUDGES)
    paths = [path for path, _ in leaves(out)]
    assert "progress.uniform.400.mae.outside" in paths
    assert not any("twin" in path for path in paths)
