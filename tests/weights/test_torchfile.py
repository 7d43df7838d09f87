"""torch's files without torch: the numbers that stand in them, and nothing of what should not."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrjax import weights
from cxrjax.errors import UserError
from cxrjax.weights import torchfile

both = pytest.mark.parametrize("layout", ["zip", "stream"])


def _drawn(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.startswith("c"):
        return (rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3))).astype(dtype)
    return (50 * rng.standard_normal((2, 3))).astype(dtype) if dtype != "b1" else rng.random((2, 3)) < 0.5


@both
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1", "c16", "c8"])
def test_numbers_of_every_type_are_read_bit_for_bit(by_hand: Any, layout: str, dtype: str) -> None:
    array = _drawn(dtype)
    found = torchfile.state_dict(by_hand.state_dict(layout, {"a": array, "scalar": array[0, 0], "none": array[:0]}))
    wanted = np.float32 if dtype == "f2" else array.dtype
    assert [value.dtype for value in found.values()] == [wanted] * 3
    np.testing.assert_array_equal(found["a"], array.astype(wanted))
    assert found["scalar"] == array[0, 0]
    assert found["none"].shape == (0, 3)


@both
def test_bfloat16_is_widened(by_hand: Any, layout: str) -> None:
    values = np.array([1.0, -0.5, 384.0, np.nan], np.float32)  # exact in bfloat16, the upper half of a float32
    half = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    body = by_hand.mapping({"a": by_hand.tensor(by_hand.storage("0", "BFloat16Storage", 4), (4,), (1,))})
    found = torchfile.state_dict(by_hand.file(layout, body, {"0": (4, half)}))["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_big_endian_archives_and_storages_without_a_type(by_hand: Any) -> None:
    for dtype in ("f4", "i8", "f2"):
        found = torchfile.state_dict(by_hand.state_dict("zip", {"a": _drawn(dtype)}, order=">"))["a"]
        np.testing.assert_array_equal(found, _drawn(dtype))
    numbers = np.array([1, 2**15, 2**16 - 1], "<u2")
    rest = by_hand.wholes((3,)), by_hand.wholes((1,)), b"\x89", by_hand.mapping({}), by_hand.name("torch", "uint16")
    storage = by_hand.storage("0", "UntypedStorage", 6)
    body = by_hand.mapping({"a": by_hand.call("torch._utils", "_rebuild_tensor_v3", storage, by_hand.whole(0), *rest)})
    found = torchfile.state_dict(by_hand.zip(body, {"0": (6, numbers.tobytes())}))["a"]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, numbers)


@both
def test_strides_offsets_and_shared_storages(by_hand: Any, layout: str) -> None:
    base = np.arange(12, dtype=np.float32)
    storage = by_hand.storage("7", "FloatStorage", 12)
    tied = by_hand.tensor(storage, (3, 4), (4, 1))
    items = {
        "a": tied,
        "tied": by_hand.call("torch._utils", "_rebuild_parameter", tied, b"\x88", by_hand.mapping({})),
        "turned": by_hand.tensor(storage, (4, 3), (1, 4)),
        "part": by_hand.tensor(storage, (2, 2), (4, 2), 5),
        "spread": by_hand.tensor(storage, (5, 2), (0, 1), 10),
        "old": by_hand.call(
            "torch._utils", "_rebuild_tensor", storage, by_hand.whole(2), by_hand.wholes((2,)), by_hand.wholes((3,))
        ),
    }
    if layout == "stream":  # a stretch of the storage, as torch of before 2018 wrote
        view = by_hand.several(by_hand.text("v"), by_hand.whole(4), by_hand.whole(6))
        items["stretch"] = by_hand.tensor(by_hand.storage("7", "FloatStorage", 12, view), (2,), (2,), 1)
    found = torchfile.state_dict(by_hand.file(layout, by_hand.mapping(items), {"7": (12, base.tobytes())}))
    a = base.reshape(3, 4)
    expected = {"a": a, "tied": a, "turned": a.T, "part": [[5, 7], [9, 11]], "spread": [[10, 11]] * 5, "old": [2, 5]}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    if layout == "stream":
        np.testing.assert_array_equal(found["stretch"], [5, 7])
    assert np.shares_memory(found["a"], found["turned"])
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0, 0] = 1


@both
def test_the_tensors_of_a_checkpoint_among_what_it_says_of_its_training(by_hand: Any, layout: str) -> None:
    """As Lightning writes it, with a schedule's Counter, versions of modules, and a dictionary as Python 2 wrote it."""
    tensor = by_hand.tensor(by_hand.storage("0", "FloatStorage", 2), (2,), (1,))
    old = by_hand.call("collections", "OrderedDict", b"](](U\x01w" + tensor + b"ee")
    versions = b"}" + by_hand.text("_metadata") + by_hand.mapping({}) + b"sb"
    whole = by_hand.mapping({
        "epoch": by_hand.whole(3), "rates": b"](G?\xe0\x00\x00\x00\x00\x00\x00Ne", "done": b"\x88",
        "milestones": by_hand.call("collections", "Counter", b"}" + by_hand.whole(30) + by_hand.whole(1) + b"s"),
        "state_dict": old + versions,
    })  # fmt: skip
    numbers = np.array([1.5, -2], np.float32)
    found = torchfile.state_dict(by_hand.file(layout, whole, {"0": (2, numbers.tobytes())}))
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], numbers)


def test_what_runs_code_is_refused_by_its_name_and_not_run(by_hand: Any, tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = by_hand.text(str(made))
    module = by_hand.several(by_hand.text("module"), by_hand.name("torch", "Size"), b"N", b"N", b"N") + b"Q"
    cases = {
        r"posix\.mkdir": by_hand.call("posix", "mkdir", path),
        r"builtins\.eval": by_hand.call("builtins", "eval", by_hand.text("1")),
        r"os\.system": by_hand.text("os") + by_hand.text("system") + b"\x93" + by_hand.several(path) + b"R",
        r"numpy\.core\.multiarray\.scalar": by_hand.call("numpy.core.multiarray", "scalar"),
        r"torchvision\.models\.resnet\.ResNet": by_hand.name("torchvision.models.resnet", "ResNet") + b")\x81",
        "a call of torch.FloatStorage": by_hand.call("torch", "FloatStorage", by_hand.whole(10**12)),
        "a call of str": path + b")R",
        "the pickle instruction INST": b"(" + path + b"iposix\nmkdir\n",
        "the pickle instruction EXT1": b"\x82\x01",
        "the pickle instruction NEWOBJ": by_hand.name("torch", "Size") + b")\x81",
        "the state of an object": by_hand.name("torch", "Size") + b"}b",
        "an object in place of a dictionary": by_hand.name("torch", "Size") + b"(NNu",
        "an object in place of a list": by_hand.name("torch", "Size") + b"Na",
        "an object outside the pickle": module,
    }
    for layout in by_hand.LAYOUTS:
        for words, body in cases.items():
            file = tmp_path / "w.pth"
            file.write_bytes(by_hand.file(layout, by_hand.mapping({"a": body}), {}))
            with pytest.raises(UserError, match=rf"w\.pth: holds {words}.*save_file") as caught:
                weights.load(file)
            assert len(str(caught.value)) < 500
    assert not made.exists()
    script = by_hand.zip(by_hand.mapping({}), {}, code__net="def forward(self): ...")
    with pytest.raises(UserError, match="TorchScript program, which is code"):
        torchfile.state_dict(script)


def _one(by_hand: Any, layout: str, count: int = 4, there: int = 4, data: int = 16, **tensor: Any) -> bytes:
    """A file of one tensor (4,), and what it tells of it."""
    about = {"shape": (4,), "stride": (1,), **tensor}
    body = by_hand.mapping({"a": by_hand.tensor(by_hand.storage("0", "FloatStorage", count), **about)})
    return by_hand.file(layout, body, {"0": (there, bytes(data))})


@both
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 10**12}, "storage '0' is told to have"),
        ({"count": 10**12, "there": 10**12}, "storage '0' is told to have"),
        ({"data": 12}, "storage '0' is told to have"),
        ({"count": 2, "there": 2, "data": 8}, "a reaches element 3 of a storage of 2"),
        ({"offset": 1}, "a reaches element 4 of a storage of 4"),
        ({"shape": (2, 2), "stride": (3, 1)}, "a reaches element 4 of a storage of 4"),
        ({"shape": (10**6, 10**6), "stride": (0, 0)}, r"a is told to have 1,000,000,000,000 elements, more than"),
        ({"shape": (4,), "stride": (1, 1)}, "a stride for each axis"),
        ({"offset": -1}, "no whole number of 0 or more"),
        ({"stride": (-1,)}, "no whole number of 0 or more"),
        ({"shape": (2**70,)}, "no whole number of 0 or more"),
        ({"shape": (1,) * 65, "stride": (1,) * 65}, "no list of numbers"),
    ],
)
def test_sizes_that_are_not_so_are_refused(by_hand: Any, layout: str, changes: dict[str, Any], words: str) -> None:
    assert torchfile.state_dict(_one(by_hand, layout))["a"].shape == (4,)
    with pytest.raises(UserError, match=words):
        torchfile.state_dict(_one(by_hand, layout, **changes))


def test_storages_that_contradict_each_other_are_refused(by_hand: Any) -> None:
    pair = [by_hand.tensor(by_hand.storage("0", kind, 4), (4,), (1,)) for kind in ("FloatStorage", "IntStorage")]
    body = by_hand.mapping({"a": pair[0], "b": pair[1]})
    for layout in by_hand.LAYOUTS:
        with pytest.raises(UserError, match="'0' is told of twice"):
            torchfile.state_dict(by_hand.file(layout, body, {"0": (4, bytes(16))}))
        with pytest.raises(UserError, match=r"storage '0' .* it is missing|not those that its tensors name"):
            torchfile.state_dict(by_hand.file(layout, by_hand.mapping({"a": pair[0]}), {}))
    with pytest.raises(UserError, match="3 bytes follow the last storage"):
        torchfile.state_dict(_one(by_hand, "stream") + b"abc")


def test_an_archive_that_unpacks_to_more_than_it_is_long_is_refused_unread(by_hand: Any) -> None:
    body = by_hand.mapping({"a": by_hand.tensor(by_hand.storage("0", "FloatStorage", 2**20), (2**20,), (1,))})
    bomb = by_hand.zip(body, {"0": (2**20, bytes(2**22))}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**14
    with pytest.raises(UserError, match="packed, doubled or overlapping"):
        torchfile.state_dict(bomb)
    # The same record told of a hundred times by the archive's own list, one body among them.
    plain = by_hand.zip(by_hand.mapping({}), {str(10 + i): (2**10, bytes(2**12)) for i in range(2)})
    end = plain.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", plain[end + 12 : end + 20])
    listed = plain[start : start + size]
    last = listed[listed.rindex(b"PK\x01\x02") :]
    many = listed + b"".join(last.replace(b"data/11", b"data/%d" % i) for i in range(20, 90))
    count = struct.pack("<HHII", 74, 74, len(many), start)
    folded = plain[:start] + many + plain[end : end + 8] + count + plain[end + 20 :]
    with pytest.raises(UserError, match="packed, doubled or overlapping"):
        torchfile.state_dict(folded)


@both
def test_a_file_cut_anywhere_is_refused_by_its_name(by_hand: Any, layout: str, tmp_path: Path) -> None:
    whole = by_hand.state_dict(layout, {"a": _drawn("f4"), "b": _drawn("i8")})
    path = tmp_path / "w.pth"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"w\.pth: "):
            weights.load(path)


@both
def test_a_damaged_byte_is_told_or_changes_a_number_and_raises_nothing_else(by_hand: Any, layout: str) -> None:
    whole = by_hand.state_dict(layout, {"a": _drawn("f4"), "b": _drawn("i8")})
    rng, told = np.random.default_rng(0), 0
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= int(rng.integers(1, 256))
        try:
            torchfile.state_dict(bytes(broken))
        except UserError:
            told += 1
    assert told > len(whole) / 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged or cut"),
        (b"<!doctype html>", "damaged or cut, or no file of torch's"),
        (b"PK\x03\x04", "damaged or cut"),
        (b"\x80\x02}.\x80\x02}.", "neither of torch's layouts"),
        (b"\x80\x02cos\nsystem\n.", r"holds os\.system"),
        (bytes(257) + b"ustar" + bytes(250), "torch's first layout, a tar"),
    ],
)
def test_what_is_no_file_of_torchs(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        torchfile.state_dict(data)


@both
def test_what_is_no_state_dict(by_hand: Any, layout: str) -> None:
    tensor = by_hand.tensor(by_hand.storage("0", "FloatStorage", 4), (4,), (1,))
    for body, words in (
        (tensor, "holds a tensor; expected a state dict"),
        (by_hand.mapping({"epoch": by_hand.whole(3), "a": tensor}), "epoch are no tensors"),
        (by_hand.mapping({"state_dict": by_hand.mapping({"a": tensor, "who": by_hand.text("me")})}), "who are no"),
    ):
        with pytest.raises(UserError, match=words):
            torchfile.state_dict(by_hand.file(layout, body, {"0": (4, bytes(16))}))
    itself = b"}q\x00" + by_hand.text("state_dict") + b"h\x00s"  # a dictionary that is in itself
    with pytest.raises(UserError, match="state_dict are no tensors"):
        torchfile.state_dict(by_hand.file(layout, itself, {}))
