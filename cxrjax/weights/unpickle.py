"""A pickle as data: tensors, dictionaries, lists and plain values; whatever else one may hold is refused by its name.

Nothing that a pickle names is imported or called. Each of its instructions makes at most one thing of what it took, so
that what a pickle makes is no larger than itself.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from cxrjax.errors import UserError

AS_SAFETENSORS = "from safetensors.torch import save_file; save_file(net.state_dict(), 'weights.safetensors')"
DTYPES = {
    "torch.DoubleStorage": "f8", "torch.FloatStorage": "f4", "torch.HalfStorage": "f2", "torch.BFloat16Storage": "bf16",
    "torch.LongStorage": "i8", "torch.IntStorage": "i4", "torch.ShortStorage": "i2", "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1", "torch.BoolStorage": "b1", "torch.ComplexDoubleStorage": "c16",
    "torch.ComplexFloatStorage": "c8", "torch.storage.UntypedStorage": "u1",
    "torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8",
}  # fmt: skip


class Storage(NamedTuple):
    """A stretch of one storage of the file, as the pickle tells of it.

    Attributes:
      key: of the storage.
      dtype: of its elements, a value of `DTYPES`.
      start, count: the stretch, in elements.
    """

    key: str
    dtype: str
    start: int
    count: int


class Tensor(NamedTuple):
    """A tensor as the pickle tells of it; offset and strides in elements of `dtype`, from the start of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


class Global(NamedTuple):
    """A name in a pickle: one of `CALLS` or `DTYPES`, nothing that could be run."""

    name: str


def refused(what: str) -> UserError:
    """The error for something that is neither tensor nor dictionary, in words or by its name."""
    return UserError(
        f"holds {what}, and only tensors and dictionaries are read; if you trust the file, load it where its code is "
        f"and write its tensors: {AS_SAFETENSORS}"
    )


def _whole(*numbers: Any) -> tuple[int, ...]:
    if not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        raise ValueError("a size, offset or stride that is no whole number of 0 or more")
    return numbers


def _sizes(numbers: Any = ()) -> tuple[int, ...]:
    if type(numbers) not in (tuple, list) or len(numbers) > 64:
        raise ValueError("a shape or strides that are no list of numbers")
    return _whole(*numbers)


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any = None, hooks: Any = None, metadata: Any = None,
    dtype: str = "",
) -> Tensor:  # fmt: skip
    if not isinstance(storage, Storage) or len(_sizes(shape)) != len(_sizes(stride)):
        raise ValueError("a tensor without a storage, or of a stride for each axis")
    if metadata and any(metadata.values()):  # conjugation and sign, which torch may leave to be done
        raise UserError(f"a tensor with {', '.join(map(str, metadata))} still to be applied: save it resolved")
    return Tensor(storage, *_whole(offset), _sizes(shape), _sizes(stride), dtype or storage.dtype)


def _tensor_with_dtype(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> Tensor:
    return _tensor(storage, offset, shape, stride, metadata=metadata, dtype=DTYPES[dtype.name])


def _parameter(data: Any, *rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter without a tensor")
    return data


def _dictionary(pairs: Any = None) -> dict[Any, Any]:
    """A dictionary, of the pairs that Python 2 wrote; they are taken, so that no file can have them copied often."""
    if type(pairs) is dict:
        return pairs
    flat = [x for key, value in pairs or () for x in (key, value)]
    if pairs:
        pairs.clear()
    return _filled({}, flat)


def _filled(target: Any, flat: list[Any]) -> dict[Any, Any]:
    """A dictionary with keys and values, one after the other, added."""
    keys, values = flat[::2], flat[1::2]
    if type(target) is not dict or any(type(key) not in (str, int, float, bool) for key in keys):
        raise refused("an object in place of a dictionary, or as the key of one")
    target.update(zip(keys, values, strict=True))
    return target


CALLS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "torch.Size": _sizes,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_AS_THEY_ARE = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "NONE", "NEWTRUE", "NEWFALSE",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(stream: BinaryIO) -> tuple[Any, dict[str, tuple[str, int]]]:
    """The next object of a stream, with `Tensor` for tensors, and the storages it tells of: by key, dtype and count."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    told: dict[str, tuple[str, int]] = {}

    def taken(count: int) -> list[Any]:
        """Takes this many off the stack."""
        if not 0 <= count <= len(stack):
            raise ValueError("a pickle that takes more than it has put")
        items = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return items

    for code, given, _ in pickletools.genops(stream):
        name = code.name
        if name in _AS_THEY_ARE:
            stack.append(_CONSTANTS.get(name, given))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[given] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[given])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _TUPLES:
            stack.append(tuple(taken(_TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(taken(len(stack) - marks.pop())))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("SETITEM", "SETITEMS"):
            pairs = taken(2 if name == "SETITEM" else len(stack) - marks.pop())
            _filled(stack[-1], pairs)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            items = taken(1 if name == "APPEND" else len(stack) - marks.pop())
            if type(stack[-1]) is not list:
                raise refused("an object in place of a list")
            stack[-1].extend(items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            parts = given.split(" ", 1) if name == "GLOBAL" else taken(2)
            stack.append(_named(".".join(map(str, parts))))
        elif name == "REDUCE":
            call, args = taken(2)
            if not isinstance(call, Global) or call.name not in CALLS or type(args) is not tuple:
                raise refused(f"a call of {call.name if isinstance(call, Global) else type(call).__name__}")
            stack.append(CALLS[call.name](*args))
        elif name == "BUILD":  # the `_metadata` of a state dict: versions of its modules
            taken(1)
            if type(stack[-1]) is not dict:
                raise refused("the state of an object")
        elif name == "BINPERSID":
            stack.append(_storage(*taken(1), told))
        elif name == "STOP":
            return stack.pop(), told
        elif name not in ("PROTO", "FRAME"):
            raise refused(f"the pickle instruction {name}")
    raise ValueError("a pickle without an end")


def _named(name: str) -> Global:
    if name not in CALLS and name not in DTYPES:
        raise refused(name[:120])
    return Global(name)


def _storage(given: Any, told: dict[str, tuple[str, int]]) -> Storage:
    """The storage, or the stretch of one, that a pickle's persistent id names."""
    if type(given) is not tuple or len(given) not in (5, 6) or given[0] != "storage":
        raise refused("an object outside the pickle that is no storage, such as a module with its source code")
    _, kind, key, _, count, *view = given
    if not isinstance(kind, Global) or not kind.name.endswith("Storage") or type(key) is not str:
        raise ValueError("a storage without a type or a key")
    dtype, (count,) = DTYPES[kind.name], _whole(count)
    if told.setdefault(key, (dtype, count)) != (dtype, count):
        raise UserError(f"storage {key[:40]!r} is told of twice, of another type or size: damaged")
    if view and view[0] is not None:
        _, start, length = view[0]
        start, length = _whole(start, length)
        if start + length > count:
            raise UserError(f"a stretch of storage {key[:40]!r} reaches beyond its {count:,} elements: damaged")
        return Storage(key, dtype, start, length)
    return Storage(key, dtype, 0, count)
