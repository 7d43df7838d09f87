"""A prepared folder that was damaged says so by its name and what to do; nothing of it is read in silence."""

import pytest

from cxrjax.data import builder, prepared
from cxrjax.errors import UserError


@pytest.fixture
def folder(fake, tmp_path):
    return fake.prepared(tmp_path, train=6, val=4).directory


def flip(path, at=0.4):
    content = bytearray(path.read_bytes())
    told = [i for i, byte in enumerate(content) if byte]  # record files are padded with zeros
    start = told[int(len(told) * at)]
    for i in range(start, min(start + 64, len(content))):
        content[i] ^= 0xFF
    path.write_bytes(bytes(content))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def look(folder):
    found = prepared.load(folder)
    found.table("train")
    return [builder.read(folder, "train")[i] for i in range(6)]


FILES = ("index.npz", "prepared.json", "features.json", "dataset_info.json", "*-train.array_record*")


@pytest.mark.parametrize("harm", [flip, cut])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_names_the_folder(folder, name, harm):
    assert len(look(folder)) == 6
    (path,) = folder.rglob(name)
    harm(path)
    with pytest.raises(UserError, match=rf"{folder} is damaged .*: delete this folder, and the next run prepares"):
        look(folder)
