"""Exported networks: read back they say the same of films, in any batch; what has no such form is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from cxrjax import defaults
from cxrjax.errors import UserError
from cxrjax.infer import classifier, export
from cxrjax.ops import separable
from cxrjax.tasks import classify
from cxrjax.train import mesh as meshes

SIZE, CLASSES = 16, ("Normal", "Pneumonia", "Mass")
NET = "resnet_tiny"


@pytest.fixture(scope="module")
def network() -> classifier.Classifier:
    """A gray network of random weights, as a run's would be read."""
    net = {"name": NET, "blocks": (1,), "widths": (4,)}
    config = defaults.classify(net, defaults.optim("adam", 1e-2), 1, 8, loss="sigmoid", normalize="imagenet")
    built = classify.network(config, len(CLASSES))
    shapes = jax.eval_shape(built.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 2)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32), dict(shapes))
    mesh = meshes.make(1)
    placed = meshes.replicate(mesh, {"net": variables})
    return classifier.Classifier(built, classify.options_of(config), placed, CLASSES, SIZE, mesh, source="a run")


@pytest.mark.parametrize("to", ["stablehlo", "safetensors", pytest.param("onnx", marks=pytest.mark.slow)])
def test_it_is_written_and_says_the_same(
    network: classifier.Classifier, to: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if to == "onnx":
        pytest.importorskip("jax2onnx")
    path, gap = export.write(network, NET, to, tmp_path)
    assert path.stat().st_size > 1000
    assert gap <= export.FORMS[to].tolerance
    (code,) = re.findall(r"```python\n(.*?)```", export.words(network, NET, to), re.DOTALL)
    films = np.random.default_rng(1).random((2, SIZE, SIZE), np.float32)
    names: dict[str, Any] = {"films": films}
    monkeypatch.chdir(tmp_path)
    if to == "safetensors":  # the network is torch's
        compile(code, "README.md", "exec")
    else:  # as the card says
        exec(code, names)
        expected = np.stack(list(network.predict(films).values()), axis=1)
        np.testing.assert_allclose(names["probability"], expected, atol=export.FORMS[to].tolerance)


def test_a_file_that_says_something_else_is_not_left(
    network: classifier.Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = export.FORMS["stablehlo"]._replace(
        make=lambda *_: b"", read=lambda *_: lambda films: np.full((len(films), 3), 0.5)
    )
    monkeypatch.setitem(export.FORMS, "stablehlo", wrong)
    with pytest.raises(UserError, match="from the network's own, beyond 1e-05"):
        export.write(network, NET, "stablehlo", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_border_only_control_is_refused(network: classifier.Classifier) -> None:
    with pytest.raises(UserError, match="border-only control"):
        export.program(network._replace(options=network.options._replace(border=0.1)))


def test_a_separable_convolution_is_each_platforms_own_in_one_program() -> None:
    x, pad = np.random.default_rng(0).random((3, 7, 7, 4), np.float32), ((1, 1), (1, 1))
    across, point = np.ones((3, 3, 1, 4), np.float32), np.arange(8, dtype=np.float32).reshape(1, 1, 4, 2)
    (b,) = jax_export.symbolic_shape("b")

    def function(x: jax.Array) -> jax.Array:
        return separable.pointwise(separable.depthwise(x, across, (2, 2), pad), point, (1, 1))

    shape = jax.ShapeDtypeStruct((b, 7, 7, 4), jnp.float32)
    made = jax_export.export(jax.jit(function), platforms=export.PLATFORMS)(shape)
    assert "feature_group_count = 4" in made.mlir_module()  # of GPU and TPU
    expected = separable.grouped(x, across, (2, 2), pad) @ point[0, 0]
    np.testing.assert_allclose(made.call(x), expected, rtol=1e-5)


def test_words_tell_what_torch_has_to_do_itself(network: classifier.Classifier) -> None:
    assert "mean = (0.485, 0.456, 0.406)" in export.words(network, NET, "safetensors")
    assert "models.densenet121(num_classes=3)" in export.words(network, "densenet121", "safetensors")
    lite = export.words(network, "efficientnet_lite0", "safetensors")
    assert f'EfficientNet.from_name("efficientnet-lite0", num_classes=3, image_size={SIZE})' in lite
    assert "by sigmoid, each by itself" in export.words(network, NET, "onnx")
    assert "Normalization is inside" in export.words(network, NET, "onnx")
