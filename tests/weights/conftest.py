"""The committed fixtures, each with the network of this library that it belongs to, and torch's files made by hand."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
import pytest

from cxrjax import models, weights

FOLDER = Path(__file__).parent / "fixtures"
_DENSE = {"blocks": (1, 2), "growth": 8, "bn_size": 2, "stem_features": 12}
_NARROW = {"widths": (8, 16, 32, 64)}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "densenet": ("densenet121", _DENSE),
    "densenet_xrv": ("densenet121", _DENSE),
    "resnet_basic": ("resnet18", {**_NARROW, "blocks": (2, 1, 1, 1)}),
    "resnet_bottleneck": ("resnet50", {**_NARROW, "blocks": (1, 1, 1, 1)}),
    "vgg": ("vgg16", {"convs": (1, 2), "widths": (4, 8), "grid": 7, "hidden": (16, 12)}),
    "inception": ("inception_v3", {"scale": 1 / 16}),
}


class Case(NamedTuple):
    """A state dict (prefixes gone), its network's name and fresh module, an input (b, h, w, c), torch's logits."""

    path: Path
    state: dict[str, np.ndarray]
    family: str
    net: nn.Module
    x: np.ndarray
    logits: np.ndarray


@pytest.fixture(scope="session")
def case() -> Callable[..., Case]:
    def make(name: str, num_classes: int = 5, **more: Any) -> Case:
        path = FOLDER / f"{name}.safetensors"
        family, options = NETS[name]
        state = weights.load(path)
        x = np.moveaxis(state.pop("fixture.input"), 1, -1)
        logits = state.pop("fixture.logits")
        net = models.build(family, num_classes=num_classes, **{**options, **more})
        return Case(path, state, family, net, x, logits)

    return make


class ByHand:
    """Files of torch's, put together as the protocol of pickles and torch's two layouts have them."""

    LAYOUTS = ("zip", "stream")
    KINDS: Mapping[str, str] = {
        "f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char",
        "u1": "Byte", "b1": "Bool", "c16": "ComplexDouble", "c8": "ComplexFloat",
    }  # fmt: skip

    @staticmethod
    def name(module: str, what: str) -> bytes:
        return f"c{module}\n{what}\n".encode()

    @staticmethod
    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    @staticmethod
    def whole(value: int) -> bytes:
        return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)  # LONG1, as long as torch's magic number

    @staticmethod
    def several(*parts: bytes) -> bytes:
        return b"(" + b"".join(parts) + b"t"

    def wholes(self, values: Iterable[int]) -> bytes:
        return self.several(*map(self.whole, values))

    def call(self, module: str, what: str, *arguments: bytes) -> bytes:
        return self.name(module, what) + self.several(*arguments) + b"R"

    def mapping(self, items: Mapping[str, bytes]) -> bytes:
        pairs = b"".join(self.text(key) + value for key, value in items.items())
        return self.call("collections", "OrderedDict") + b"(" + pairs + b"u"

    def storage(self, key: str, kind: str, count: int, *view: bytes) -> bytes:
        module = "torch.storage" if kind == "UntypedStorage" else "torch"
        parts = self.text("storage"), self.name(module, kind), self.text(key), self.text("cpu"), self.whole(count)
        return self.several(*parts, *view) + b"Q"

    def tensor(self, storage: bytes, shape: Iterable[int], stride: Iterable[int], offset: int = 0) -> bytes:
        rest = self.wholes(shape), self.wholes(stride), b"\x89", self.mapping({})
        return self.call("torch._utils", "_rebuild_tensor_v2", storage, self.whole(offset), *rest)

    def file(self, layout: str, body: bytes, storages: Mapping[str, tuple[int, bytes]], **options: Any) -> bytes:
        """The file around a pickled object, with storages by key: elements and bytes."""
        return self.zip(body, storages, **options) if layout == "zip" else self.stream(body, storages)

    @staticmethod
    def zip(body: bytes, storages: Mapping[str, tuple[int, bytes]], byteorder: str = "little", **more: Any) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", more.pop("compression", zipfile.ZIP_STORED)) as archive:
            archive.writestr("net/data.pkl", b"\x80\x02" + body + b".")
            archive.writestr("net/byteorder", byteorder)
            for key, (_, data) in storages.items():
                archive.writestr(f"net/data/{key}", data)
            for name, data in more.items():
                archive.writestr(f"net/{name.replace('__', '/')}", data)
        return out.getvalue()

    def stream(self, body: bytes, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
        keys = b"](" + b"".join(map(self.text, storages)) + b"e"
        heads = self.whole(0x1950A86A20F9469CFC6C), self.whole(1001), b"}", body, keys
        pickles = b"".join(b"\x80\x02" + part + b"." for part in heads)
        return pickles + b"".join(struct.pack("<q", count) + data for count, data in storages.values())

    def state_dict(self, layout: str, arrays: Mapping[str, np.ndarray], prefix: str = "", order: str = "<") -> bytes:
        """A file of contiguous tensors, a storage each."""
        items, storages = {}, {}
        for i, (name, array) in enumerate(arrays.items()):
            stored = array.astype(array.dtype.newbyteorder(order))
            kind = self.KINDS[array.dtype.str.lstrip("<>|")]
            stride = [step // array.itemsize for step in array.strides]
            view = [b"N"] if layout == "stream" else []
            items[prefix + name] = self.tensor(
                self.storage(str(i), f"{kind}Storage", array.size, *view), array.shape, stride
            )
            storages[str(i)] = array.size, stored.tobytes()
        options = {"byteorder": "big"} if order == ">" else {}
        return self.file(layout, self.mapping(items), storages, **options)


@pytest.fixture(scope="session")
def by_hand() -> ByHand:
    return ByHand()
