"""torch's own files without torch: an unpickler that knows tensors and dictionaries, and refuses everything else.

Both layouts are read: the zip archive of torch 1.6 and later, and the stream of pickles before it, behind which the
storages stand. A file is data here. Nothing that it names is imported or called, its numbers are held against each
other and against its length before anything is made of them, and what is made is no larger than the file, or twice that
where half precision is widened.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.weights import unpickle
from cxrjax.weights.unpickle import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model")
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch's, at the head of the older layout
# What reading raises where a file is not what it says.
_DAMAGE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError, EOFError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip


def state_dict(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote, by name; of a checkpoint, those under one of `WRAPPERS`.

    Args:
      data: the whole file.

    Returns:
      Read-only arrays of torch's shapes and numbers, those of half precision widened to float32, which holds them all.
      Tensors of one storage share its memory.

    Raises:
      UserError: it holds code, or anything beside tensors, dictionaries, lists and plain values, and names it; it is
        damaged or cut, or tells sizes that are not so; it holds no state dict.
    """
    try:
        found, storages = _zipped(data) if data[:4] == b"PK\x03\x04" else _stream(data)
        for _ in WRAPPERS:
            if isinstance(found, dict):
                found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
        if not isinstance(found, dict):
            raise UserError(f"holds a {type(found).__name__.lower()}; expected a state dict of tensors")
        odd = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
        if odd:
            raise UserError(
                f"{', '.join(odd[:5])} are no tensors; expected a state dict, or one under {', '.join(WRAPPERS)}"
            )
        largest = max(len(data), 2**20)
        return {str(key): _array(str(key), value, storages[value.storage.key], largest) for key, value in found.items()}
    except _DAMAGE as e:
        raise UserError(f"damaged or cut, or no file of torch's ({_short(e)}); copy it again") from e


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def _zipped(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The object of a zip archive, and its storages."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = archive.infolist()
        names = {record.filename: record for record in records}
        roots = [name.removesuffix("data.pkl") for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise UserError("a zip archive without torch's data.pkl; expected what torch.save writes")
        root = roots[0]
        if any(name.startswith(f"{root}code/") or name == f"{root}constants.pkl" for name in names):
            raise unpickle.refused("a TorchScript program, which is code")
        # torch packs nothing, so that a record is as long as it says and the records are no longer than the file.
        packed = any(one.compress_type != zipfile.ZIP_STORED or one.compress_size != one.file_size for one in records)
        if packed or len(names) != len(records) or sum(one.file_size for one in records) > len(data):
            raise UserError("a zip archive whose records are packed, doubled or overlapping, as torch.save writes none")
        byteorder = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        if byteorder not in (b"little", b"big"):
            raise UserError(f"byte order {byteorder[:20]!r}: expected little or big")
        found, told = unpickle.load(io.BytesIO(archive.read(f"{root}data.pkl")))
        storages = {}
        for key, (dtype, count) in told.items():
            record = names.get(f"{root}data/{key}")
            size = count * _itemsize(dtype)
            if record is None or record.file_size != size:
                there = f"{record.file_size:,} bytes are there" if record else "it is missing"
                raise UserError(f"storage {key[:40]!r} is told to have {size:,} bytes, and {there}: cut or damaged")
            storages[key] = _numbers(archive.read(record), dtype, "<" if byteorder == b"little" else ">")
        return found, storages


def _stream(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The object of a stream of pickles, and the storages behind it."""
    stream = io.BytesIO(data)
    if data[257:262] == b"ustar":
        raise UserError("torch's first layout, a tar of before 2017: load it and save it again with a torch of today")
    if (unpickle.load(stream)[0], unpickle.load(stream)[0]) != (MAGIC, PROTOCOL):
        raise UserError("neither of torch's layouts; expected what torch.save writes")
    unpickle.load(stream)  # the writer's machine; storages are little-endian whatever it was
    found, told = unpickle.load(stream)
    keys, _ = unpickle.load(stream)
    if not isinstance(keys, list) or sorted(keys) != sorted(told):
        raise UserError("the storages behind the pickle are not those that its tensors name: damaged")
    storages, at = {}, stream.tell()
    for key in keys:
        dtype, count = told[key]
        (there,) = struct.unpack_from("<q", data, at)
        size = count * _itemsize(dtype)
        if there != count or at + 8 + size > len(data):
            raise UserError(
                f"storage {key[:40]!r} is told to have {count:,} elements of {_itemsize(dtype)} bytes; {there:,} stand "
                f"at its head, and {len(data) - at - 8:,} bytes follow: cut or damaged"
            )
        storages[key] = _numbers(memoryview(data)[at + 8 : at + 8 + size], dtype, "<")
        at += 8 + size
    if at != len(data):
        raise UserError(f"{len(data) - at:,} bytes follow the last storage, of which the file does not tell: damaged")
    return found, storages


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bf16" else np.dtype(dtype).itemsize


def _numbers(data: bytes | memoryview, dtype: str, order: str) -> np.ndarray:
    """The numbers of a storage, in this machine's byte order, half precision widened."""
    if dtype == "bf16":  # the upper half of a float32
        return (np.frombuffer(data, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    if dtype == "b1":
        return np.frombuffer(data, np.uint8) != 0
    numbers = np.frombuffer(data, np.dtype(dtype).newbyteorder(order))
    return numbers.astype(np.float32 if dtype == "f2" else np.dtype(dtype), copy=False)


def _array(name: str, tensor: Tensor, numbers: np.ndarray, largest: int) -> np.ndarray:
    """The array of a tensor, a view of its storage's numbers.

    Raises:
      UserError: it reaches beyond its storage, or is larger than `largest` bytes.
    """
    stretch = numbers[tensor.storage.start :][: tensor.storage.count]
    if tensor.dtype != tensor.storage.dtype:  # of a storage without a type
        stretch = stretch.view(tensor.dtype)
    size = math.prod(tensor.shape)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if size * stretch.itemsize > largest:
        raise UserError(f"{name} is told to have {size:,} elements, more than the file could hold: damaged")
    if not size:
        return np.empty(tensor.shape, stretch.dtype)
    if last >= len(stretch):
        raise UserError(f"{name} reaches element {last:,} of a storage of {len(stretch):,}: damaged")
    steps = [step * stretch.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(stretch[tensor.offset :], tensor.shape, steps, writeable=False)
