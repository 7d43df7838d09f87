"""Whole networks of torchvision and torchxrayvision against this library's, random weights and statistics.

    pytest -m slow tests/weights/test_parity.py

needs torch and torchvision; the parts for torchxrayvision are skipped without it.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from cxrjax import models, weights
from cxrjax.errors import UserError

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


def test_torch_files(tmp_path: Path) -> None:
    net = randomize(tv.models.resnet18(weights=None, num_classes=3), films(8, 3, 64, seed=2))
    plain = weights.clean(_numpy(net.state_dict()))
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "m.tar")
    torch.save(net.state_dict(), tmp_path / "m.pth")
    torch.save({k: v.bfloat16() for k, v in net.state_dict().items()}, tmp_path / "half.pt")
    save_file({k: v.copy() for k, v in plain.items()}, tmp_path / "m.safetensors")
    for name in ("m.tar", "m.pth", "m.safetensors"):
        state = weights.load(tmp_path / name)
        assert state.keys() == plain.keys()
        assert all(np.array_equal(state[key], plain[key]) for key in plain)
    assert weights.load(tmp_path / "half.pt")["fc.weight"].dtype == np.float32
    torch.save(net, tmp_path / "module.pt")
    with pytest.raises(UserError, match=r"pickled module.*save_file"):
        weights.load(tmp_path / "module.pt")
    torch.save({"epoch": 3}, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="epoch are no tensors"):
        weights.load(tmp_path / "odd.pt")
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="cannot read"):
        weights.load(tmp_path / "bad.pt")
