"""Whole networks and files of torch's against this library's; where weights are random, statistics are too.

    pytest -m slow tests/weights/test_parity.py

needs torch and torchvision; the parts for torchxrayvision and efficientnet-lite-pytorch are skipped without them.
"""

from __future__ import annotations

import runpy
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxrjax import models, weights
from cxrjax.data import decode, phantom
from cxrjax.errors import UserError
from cxrjax.weights import pretrained, torchfile

torch = pytest.importorskip("torch")
tv = pytest.importorskip("torchvision")
_MAKERS = runpy.run_path(str(Path(__file__).with_name("make_fixtures.py")))
films, randomize = _MAKERS["films"], _MAKERS["randomize"]
pytestmark = pytest.mark.slow


def _numpy(state: dict[str, Any]) -> dict[str, np.ndarray]:
    return {key: value.detach().numpy() for key, value in state.items()}


def _compare(name: str, state: dict[str, np.ndarray], x: Any, expected: Any) -> tuple[Any, Any]:
    """Every tensor accounted for, logits within 1e-4; prints the largest difference."""
    net = models.build(name, num_classes=expected.shape[1])
    ours = jnp.asarray(np.moveaxis(x.numpy(), 1, -1))
    shapes = jax.eval_shape(net.init, jax.random.key(0), ours)
    state = weights.clean(state)
    variables, report = weights.convert(state, shapes, name, head=True)
    assert {*report.used, *report.ignored} == set(state)
    assert not report.fresh
    logits, _ = jax.jit(net.apply)(variables, ours)
    difference = np.abs(np.asarray(logits) - expected.numpy()).max()
    print(f"{name}: largest difference {difference:.2e}, logits of std {expected.std():.2f}")
    assert expected.std() > 0.3
    assert difference <= 1e-4
    return net, variables


@pytest.mark.parametrize(
    ("name", "size"),
    [("densenet121", 224), ("resnet18", 224), ("resnet50", 224), ("resnet152", 224), ("vgg16", 224), ("vgg16", 256)],
)
def test_torchvision(name: str, size: int) -> None:
    net = randomize(getattr(tv.models, name)(weights=None), films(8, 3, size, seed=2))
    x = films(2, 3, size)
    with torch.no_grad():
        expected = net(x)
    _compare(name, _numpy(net.state_dict()), x, expected)


def test_inception_and_its_auxiliary_head() -> None:
    net = randomize(tv.models.inception_v3(weights=None, init_weights=False), films(8, 3, 299, seed=2))
    assert not net.transform_input
    x, seen = films(2, 3, 299), {}
    net.Mixed_6e.register_forward_hook(lambda module, args, out: seen.update(mixed=out))
    with torch.no_grad():
        expected = net(x)
        aux = net.AuxLogits(seen["mixed"])
    flax_net, variables = _compare("inception_v3", _numpy(net.state_dict()), x, expected)

    def apply_aux(module: Any, x: Any) -> Any:
        return module.aux({"aux_input": x}, train=False)

    mixed = jnp.asarray(np.moveaxis(seen["mixed"].numpy(), 1, -1))
    logits = jax.jit(lambda v, x: flax_net.apply(v, x, method=apply_aux))(variables, mixed)
    print(f"auxiliary: largest difference {np.abs(np.asarray(logits) - aux.numpy()).max():.2e}")
    np.testing.assert_allclose(logits, aux.numpy(), rtol=0, atol=1e-4)


def test_torchxrayvision_densenet() -> None:
    xrv = pytest.importorskip("torchxrayvision")
    net = randomize(xrv.models.DenseNet(), films(8, 1, 224, seed=2))
    x = films(2, 1, 224)
    with torch.no_grad():
        expected = net(x)
    _compare("densenet121", {**_numpy(net.state_dict()), "op_threshs": np.full(18, 0.5, np.float32)}, x, expected)


def test_torchxrayvision_resnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    # Its ResNet can be made only from a file of weights: give it one of random weights in place of the download.
    plain = tv.models.resnet50(num_classes=18, weights=None)
    plain.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    torch.save(randomize(plain, films(8, 1, 128, seed=2)).state_dict(), tmp_path / "r.pt")
    monkeypatch.setattr(xrv.models, "get_weights", lambda *args, **kwargs: str(tmp_path / "r.pt"))
    net = xrv.models.ResNet(weights="resnet50-res512-all")
    state = _numpy(net.state_dict())
    assert "op_threshs" in state
    assert "model.conv1.weight" in state
    net.op_threshs, net.input_resolution = None, 128  # logits, not thresholded probabilities; no resizing
    x = films(2, 1, 128)
    with torch.no_grad():
        expected = net(x)
    _compare("resnet50", state, x, expected)


def _same(path: Path, expected: dict[str, Any]) -> None:
    """What is read of a file is torch's, bit for bit; of half precision, torch's float32."""
    found = torchfile.state_dict(path.read_bytes())
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        wanted = (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
        assert (found[name].dtype, found[name].shape) == (wanted.dtype, wanted.shape)
        assert found[name].tobytes() == wanted.tobytes()  # in the order of the shape; nan and -0 too


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read_bit_for_bit(tmp_path: Path, zipped: bool) -> None:
    net = randomize(tv.models.resnet18(weights=None, num_classes=3), films(8, 3, 64, seed=2))
    save = partial(torch.save, _use_new_zipfile_serialization=zipped)
    save(net.state_dict(), tmp_path / "m.pth")
    _same(tmp_path / "m.pth", net.state_dict())
    moments = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(moments, [3, 5])
    net(films(2, 3, 64)).sum().backward()
    moments.step()
    whole = {"epoch": 3, "optimizer": moments.state_dict(), "schedule": schedule.state_dict(), "best": None}
    save({**whole, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "m.tar")
    plain = weights.clean(_numpy(net.state_dict()))
    found = weights.load(tmp_path / "m.tar")
    assert all(np.array_equal(found[key], plain[key]) for key in {*plain, *found})

    base = torch.randn(4, 6, dtype=torch.float64)
    odd = {"base": base, "turned": base.T, "part": base[1:, ::2], "spread": torch.ones(1).expand(5), "none": base[:0]}
    odd |= {"parameter": torch.nn.Parameter(torch.tensor([0.0, -0.0, torch.nan, torch.inf])), "scalar": base[0, 0]}
    types = [torch.float16, torch.bfloat16, torch.float32, torch.complex64, torch.complex128]
    types += [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool]
    types += [torch.uint16, torch.uint32, torch.uint64] if zipped else []
    odd |= {str(dtype): (100 * base).abs().to(dtype) for dtype in types}
    save(odd, tmp_path / "odd.pth")
    _same(tmp_path / "odd.pth", {name: tensor.detach() for name, tensor in odd.items()})

    save(net, tmp_path / "module.pt")
    with pytest.raises(UserError, match=r"module\.pt: holds .*save_file"):
        weights.load(tmp_path / "module.pt")
    save({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, tmp_path / "quantized.pt")
    with pytest.raises(UserError, match=r"holds torch\.(_utils\._rebuild_qtensor|QInt8Storage)"):
        weights.load(tmp_path / "quantized.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with pytest.raises(UserError, match="TorchScript"):
        weights.load(tmp_path / "script.pt")


def test_the_published_weights_of_lite0_are_read_bit_for_bit() -> None:
    path, _ = pretrained.locate("imagenet", "efficientnet_lite0")
    _same(path, torch.load(path, map_location="cpu", weights_only=True))


@pytest.mark.parametrize("source", ["phantoms", "films_root"])
def test_logits_of_lite0_on_twenty_films_are_those_of_the_torch_network(
    request: pytest.FixtureRequest, source: str
) -> None:
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    if source == "phantoms":
        kinds = [{}, {"Pneumonia": 0.8}, {"Cardiomegaly": 0.6}, {"Effusion": 0.9}]
        image = np.stack([phantom.render(i, 224, kinds[i % 4]).image for i in range(20)])
    else:
        paths = sorted(request.getfixturevalue(source).rglob("*.jp*g"))
        image = np.stack([decode.decode(path, 224) for path in paths[:: max(len(paths) // 20, 1)][:20]])
    assert image.shape == (20, 224, 224)
    x = np.repeat((image.astype(np.float32)[..., None] - 127) / 128, 3, axis=-1)
    net = lite.EfficientNet.from_name("efficientnet-lite0")
    path, _ = pretrained.locate("imagenet", "efficientnet_lite0")
    state = torch.load(path, map_location="cpu", weights_only=True)
    net.load_state_dict(state)
    with torch.no_grad():
        x = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
        expected = net.eval()(x)
    _compare("efficientnet_lite0", _numpy(state), x, expected)
