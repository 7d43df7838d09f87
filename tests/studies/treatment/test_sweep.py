"""The sweep: chunks hide no film, files are whole or absent, a second call redoes only what is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cxrjax import defaults, models
from cxrjax.errors import UserError
from cxrjax.infer import arms, batches, classifier, treat
from cxrjax.infer import diffusion as systems
from cxrjax.ops import cam, diffusion, guidance, noise
from cxrjax.studies import arrays as npz
from cxrjax.studies.treatment import sweep
from cxrjax.tasks import classify
from cxrjax.train import log as logs
from cxrjax.train import mesh as meshes
from cxrjax.train import optim

MODES = ("uniform", "time_gated", "time_gated_hard", "mask_blend")
LAMBDAS = (20, 60)
CLASSIFIER = models.build("resnet_tiny", num_classes=2, blocks=(1, 1), widths=(8, 16))
UNET = models.build("unet_tiny", base=8, mults=(1,), groups=4, patch=2, updown="plain")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("time_gated_hard", ("time_gated", True)),
        ("time_gated", ("time_gated", False)),
        ("noise_matrix_hard", ("noise_matrix", True)),
        ("uniform", ("uniform", False)),
    ],
)
def test_a_name_is_split_into_mode_and_mask(mode, expected):
    assert arms.split(mode) == expected
    assert expected[0] in guidance.MODES


@pytest.mark.parametrize("size", [5, 8, 20])  # none of them but 8 splits over eight devices
@pytest.mark.parametrize("n", [3, 8, 21])
def test_chunks_keep_every_row_in_order_and_compile_once(size, n):
    mesh = meshes.make()
    assert mesh.size == 8
    traces = []

    @jax.jit
    def function(x, y):
        traces.append(x.shape)
        return {"sum": x + y[:, None], "first": x[:, 0]}

    x, y = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3), np.arange(n, dtype=np.float32)
    out = batches.in_batches(mesh, size, function, x, y)
    np.testing.assert_array_equal(out["sum"], x + y[:, None])
    np.testing.assert_array_equal(out["first"], x[:, 0])
    assert len(traces) == 1
    assert traces[0][0] % 8 == 0
    assert traces[0][0] <= max(size, 8)


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no space")


def test_arrays_are_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "new" / "a.npz"
    bad: Any = Broken()
    with pytest.raises(RuntimeError, match="no space"):
        npz.write_arrays(path, good=np.ones(4), bad=bad)
    assert not path.exists()
    assert not list(path.parent.glob("*.npz"))
    npz.write_arrays(path, good=np.ones(4))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="no space"):
        npz.write_arrays(path, good=np.zeros(4), bad=bad)
    assert path.read_bytes() == before
    npz.write_arrays(path, good=np.zeros(4))
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]
    np.testing.assert_array_equal(np.load(path)["good"], np.zeros(4))


def weights(net: Any, seed: int, *args: Any) -> Any:
    """Random variables drawn by numpy: to run `init` itself would compile a program for each shape."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        kind = optim.path_of(path).rpartition("/")[2]
        spread = leaf.shape[-1] ** -0.5 / 3 if kind == "kernel" else 0.05
        value = spread * rng.standard_normal(leaf.shape, np.float32)
        return value + np.float32(kind in ("scale", "var"))

    shapes = jax.eval_shape(lambda key: net.init(key, *args, train=False), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def judge(seed: int, net: Any = CLASSIFIER) -> classifier.Classifier:
    variables = weights(net, seed, np.zeros((1, 16, 16, 1), np.float32))
    return classifier.Classifier(
        net, classify.Options(), {"net": variables}, ("Normal", "Pneumonia"), 16, meshes.make(1)
    )


def denoiser() -> systems.Diffusion:
    """A network that answers something: a freshly initialized one says 0 everywhere."""
    args = np.zeros((1, 16, 16, 1), np.float32), np.zeros(1, np.int32)
    return systems.Diffusion(
        UNET, diffusion.linear(1000), "epsilon", "scalar", noise.gaussian, {"unet": weights(UNET, 0, *args)["params"]}
    )


def films(n: int = 4) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, (n, 16, 16, 1)).astype(np.float32)


def study(**changes: Any) -> ConfigDict:
    return defaults.treatment(
        modes=MODES, lambdas=LAMBDAS, batch=4, guidance={"blur": 0.0}, sampler={"stride": 20}, **changes
    )


def shared(workdir: Path, log: logs.Log, devices: int = 2) -> sweep.Sweep:
    mesh = meshes.make(devices)
    image = films()
    looking = {"classifier": judge(0), "judge": judge(2)}
    return sweep.Sweep(
        image, {"diffusion": denoiser()}, looking,
        {"independent": looking["judge"], "cam_network": looking["classifier"]},
        (sweep.Part(workdir / "progress", 0, len(image)),), mesh, 4,
        treat.keys_of(0, len(image)), log.console,
    )  # fmt: skip


def run(workdir: Path) -> None:
    with logs.Log(workdir) as log:
        sweep.run(shared(workdir, log), arms.of(study()), LAMBDAS)


def arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("sweep")
    run(workdir)
    return workdir / "progress"


def test_every_mode_at_every_lambda_is_a_file(finished: Path):
    names = {p.name for p in finished.iterdir()}
    assert names == {"untreated.npz", "masks.npz", *(f"{m}_{lam:04d}.npz" for m in MODES for lam in LAMBDAS)}
    for name in names - {"masks.npz"}:
        found = arrays(finished, name.removesuffix(".npz"))
        scores = {"normal_probability_cam_network", "normal_probability_independent", "pooled"}
        assert set(found) - {"seconds", "evaluations"} == {"image", *scores}
        assert ("evaluations" in found) == (name != "untreated.npz")
        assert found["image"].shape == (4, 16, 16)
        assert 0 <= found["image"].min() <= found["image"].max() <= 1
        for j in ("cam_network", "independent"):
            assert ((found[f"normal_probability_{j}"] > 0) & (found[f"normal_probability_{j}"] < 1)).all()
    np.testing.assert_array_equal(arrays(finished, "untreated")["image"], films()[..., 0])


def test_each_judge_scores_with_its_own_weights(finished: Path):
    found = arrays(finished, "uniform_0060")
    for name, j in (("cam_network", judge(0)), ("independent", judge(2))):
        expected = classifier.outputs(j, jnp.asarray(found["image"])[..., None])
        np.testing.assert_allclose(found[f"normal_probability_{name}"], expected["prob"][:, 0], atol=1e-5)
    np.testing.assert_allclose(found["pooled"], expected["pool"], atol=1e-4)  # the independent judge's


def test_masks_are_the_cam_networks_and_modes_obey_them(finished: Path):
    masks = arrays(finished, "masks")
    heat = classifier.heat(judge(0), "gradcam", "difference", jnp.asarray(films()))
    soft, hard = (cam.to_mask(heat, (16, 16), threshold=threshold)[..., 0] for threshold in (None, 0.3))
    np.testing.assert_allclose(masks["time_gated"], soft, atol=1e-5)
    masks["hard"] = masks["time_gated_hard"]
    assert set(np.unique(masks["hard"])) == {0.0, 1.0}  # so that the next lines say something
    np.testing.assert_array_equal(masks["hard"], hard)
    image, treated = films()[..., 0], arrays(finished, "time_gated_hard_0060")["image"]
    np.testing.assert_array_equal(treated[masks["hard"] == 0], image[masks["hard"] == 0])
    assert (treated[masks["hard"] == 1] != image[masks["hard"] == 1]).mean() > 0.9
    assert (arrays(finished, "uniform_0060")["image"] != image).mean() > 0.9


def test_mask_blend_is_the_uniform_film_pasted_through_the_mask(finished: Path):
    soft = arrays(finished, "masks")["mask_blend"]
    for lam in LAMBDAS:
        uniform = arrays(finished, f"uniform_{lam:04d}")["image"]
        expected = guidance.blend(jnp.asarray(films()[..., 0]), jnp.asarray(uniform), jnp.asarray(soft))
        np.testing.assert_array_equal(arrays(finished, f"mask_blend_{lam:04d}")["image"], expected)


def test_a_second_call_redoes_only_the_missing_file_and_identically(finished: Path):
    treated = [p for p in finished.iterdir() if p.stem not in ("untreated", "masks")]
    times = {p.name: p.stat().st_mtime_ns for p in treated}
    before = {p.stem: arrays(finished, p.stem) for p in treated}
    (finished / "time_gated_0060.npz").unlink()
    run(finished.parent)
    rewritten = {name for name, time in times.items() if (finished / name).stat().st_mtime_ns != time}
    assert rewritten == {"time_gated_0060.npz"}
    for name, value in arrays(finished, "time_gated_0060").items():
        if name == "seconds":  # a clock's
            continue
        assert value.tobytes() == before["time_gated_0060"][name].tobytes(), name


def test_the_difference_ignores_a_shift_common_to_both_logits():
    plain = judge(3)
    kernel = plain.variables["net"]["params"]["head"]["classes"]["kernel"]
    common = np.random.default_rng(9).standard_normal((len(kernel), 1), np.float32)
    shifted = jax.tree_util.tree_map_with_path(lambda path, x: x + common if x is kernel else x, plain.variables)

    def heat(target: str, variables: Any) -> np.ndarray:
        return np.asarray(classifier.heat(plain._replace(variables=variables), "gradcam", target, jnp.asarray(films())))

    difference = heat("difference", plain.variables)
    assert difference.shape == (4, 4, 4)
    assert difference.max() > 0
    np.testing.assert_allclose(heat("difference", shifted), difference, atol=1e-5 * difference.max() + 1e-7)
    assert not np.allclose(heat("class", shifted), heat("class", plain.variables), rtol=0.1)


@pytest.mark.parametrize("target", ["difference", "class"])
def test_cam_is_the_decks_sum_without_bias_and_relu(target: str):
    one = judge(3)
    bias = one.variables["net"]["params"]["head"]["classes"]["bias"]
    variables = jax.tree.map(lambda x: x + np.float32([0.7, -2.0]) if x is bias else x, one.variables)
    one, image = one._replace(variables=variables), jnp.asarray(films())
    plain, grad = (np.asarray(classifier.heat(one, source, target, image)) for source in ("cam", "gradcam"))
    _, endpoints = one.net.apply(variables["net"], classifier.seen(one, image), train=False)
    kernel = variables["net"]["params"]["head"]["classes"]["kernel"]
    by_class = np.einsum("bhwc,ck->bhwk", endpoints["features"], kernel)
    by_hand = by_class[..., one.disease] - (by_class[..., one.normal] if target == "difference" else 0)
    np.testing.assert_allclose(plain, by_hand, atol=1e-5)
    if target == "difference":
        other = classifier.heat(one._replace(classes=one.classes[::-1]), "cam", target, image)
        np.testing.assert_allclose(other, -plain, atol=1e-6)
    assert np.abs(plain).max() > 0.01
    # Grad-CAM of a mean and one linear layer is ReLU(CAM) / area, whatever the bias.
    np.testing.assert_allclose(grad * plain[0].size, np.maximum(plain, 0), atol=1e-5)


def test_cam_behind_hidden_layers_is_refused():
    net = models.build("resnet_tiny", num_classes=2, blocks=(1, 1), widths=(8, 16), hidden=(8,))
    wide = judge(0, net)
    with pytest.raises(UserError, match="hidden"):
        classifier.heat(wide, "cam", "difference", jnp.asarray(films()))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which programs were made."""
    made: list[str] = []
    plain = treat.compiled

    def compiled(program: treat.Program, *networks: Any) -> Any:
        made.append(program.sampler.name)
        return plain(program, *networks)

    monkeypatch.setattr(treat, "compiled", compiled)
    return made


def test_every_mode_and_lambda_is_one_program_and_rows_of_several_fill_a_batch(tmp_path, monkeypatch, finished):
    made = counted(monkeypatch)
    with logs.Log(tmp_path) as log:
        # Seven rows at once, of films in fours: most batches hold films of two arms or lambdas.
        wide = shared(tmp_path, log, devices=1)._replace(batch=7)
        sweep.run(wide, arms.of(study()), LAMBDAS)
    assert made == ["ancestral"]
    for mode in MODES:
        for lam in LAMBDAS:
            one, other = (arrays(f, f"{mode}_{lam:04d}")["image"] for f in (finished, tmp_path / "progress"))
            np.testing.assert_allclose(one, other, atol=1e-4, err_msg=f"{mode} at {lam}")


def test_films_of_several_sources_share_programs_and_batches_and_a_set_that_comes_later_is_treated_alone(
    tmp_path, monkeypatch, finished
):
    made = counted(monkeypatch)
    first, second = (sweep.Part(tmp_path / name, *ends) for name, ends in (("first", (0, 3)), ("second", (3, 4))))
    with logs.Log(tmp_path) as log:
        whole = shared(tmp_path, log, devices=1)
        sweep.run(whole._replace(image=whole.image[:3], keys=whole.keys[:3], parts=(first,)), arms.of(study()), LAMBDAS)
        before = {path: path.stat().st_mtime_ns for path in first.folder.glob("*_0*.npz")}
        # The file that is gone shares its batches with the films of the other source.
        (first.folder / "time_gated_0060.npz").unlink()
        sweep.run(whole._replace(parts=(first, second)), arms.of(study()), LAMBDAS)
    assert made == ["ancestral"] * 2
    kept = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    assert {path.name for path in before.keys() - kept} == {"time_gated_0060.npz"}
    names = [f"{mode}_{lam:04d}" for mode in MODES for lam in LAMBDAS]
    for name in (*names, "untreated"):
        expected = arrays(finished, name)
        for part in (first, second):
            found = arrays(part.folder, name)
            for key in ("image", "pooled", "normal_probability_independent"):
                np.testing.assert_allclose(found[key], part.of(expected[key]), atol=1e-4, err_msg=f"{name} {key}")
    np.testing.assert_allclose(
        arrays(second.folder, "masks")["time_gated"], second.of(arrays(finished, "masks")["time_gated"]), atol=1e-5
    )


def test_arms_change_what_they_say_and_keep_the_rest():
    found = arms.of(study(arms={"lit": {"mode": "time_gated", "power": 0.5, "resamples": 2, "hard": True}}))
    assert [arm.name for arm in found] == list(MODES)
    config = study(arms={"lit": {"mode": "time_gated", "power": 0.5, "resamples": 2, "hard": True}})
    config.modes = ("uniform", "lit")
    plain, lit = arms.of(config)
    assert (lit.mode, lit.mask.hard, lit.mask.power, lit.sampler.resamples) == ("time_gated", True, 0.5, 2)
    assert lit._replace(name="uniform", mode="uniform", mask=plain.mask, sampler=plain.sampler) == plain


@pytest.mark.parametrize(
    ("arm", "words"),
    [({"mode": "time_gatd"}, "time_gatd"), ({"mode": "time_gated", "treshold": 0.3}, "treshold"), ({}, "None")],
)
def test_an_arm_that_is_misspelled_is_refused_by_name(arm, words):
    config = study(arms={"odd": arm})
    config.modes = ("odd",)
    with pytest.raises(UserError, match=words):
        arms.of(config)


def test_an_anomaly_mask_is_where_a_uniform_pass_changed_the_film(tmp_path):
    config = study(arms={"seen": {"mode": "time_gated", "source": "anomaly", "anomaly_lambda": 40}})
    config.modes = ("seen",)
    with logs.Log(tmp_path) as log:
        found = sweep.run(shared(tmp_path, log), arms.of(config), (20,))["seen"]
    treated = arrays(tmp_path / "progress" / "passes", "diffusion_0040")["image"]
    expected = cam.to_mask(jnp.abs(treated - films()[..., 0]), (16, 16))[..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.max() == 1.0
