"""Films in folders: what the decoder reads is found wherever it lies, and what is left out, lost or odd is told."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from cxrjax.data import decode, folders
from cxrjax.errors import UserError

CLASSES = {"NORMAL": "", "PNEUMONIA": "Pneumonia"}


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("film")


def test_every_suffix_that_is_offered_is_read(tmp_path):
    kinds = {suffix: kind for suffix, kind in Image.registered_extensions().items() if suffix in folders.SUFFIXES}
    assert set(kinds.values()) == set(decode.FORMATS)
    for suffix, kind in kinds.items():
        path = tmp_path / f"film{suffix}"
        Image.fromarray(np.full((20, 20), 77, np.uint8)).save(path, format=kind)
        assert folders.is_film(path)
        np.testing.assert_allclose(decode.decode(path, 16), 77, atol=1)


def test_films_below_and_of_any_kind_are_found_and_the_rest_is_counted(tmp_path):
    write(tmp_path, "train/NORMAL/a.jpeg", "train/normal/b.TIF", "train/NORMAL/old/more/c.bmp", "train/PNEUMONIA/d.png")
    write(tmp_path, "valid/NORMAL/e.png", "Testing/PNEUMONIA/f.png", "train/loose.png", "train/NORMAL/g.nii")
    write(tmp_path, "train/NORMAL/h.nii", "train/notes/readme", "extra/x/i.png", "extra/j.txt")
    write(tmp_path, "train/NORMAL/._a.jpeg", "train/.hidden/k.png", "__MACOSX/train/l.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "train/PNEUMONIA/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train/PNEUMONIA/round").symlink_to(tmp_path / "train/PNEUMONIA")
    write(tmp_path, "elsewhere/m.png")
    found, (warning,) = folders.by_class(tmp_path, CLASSES, ("train",))
    assert [(part, finding, path.name) for part, finding, path in found] == [
        ("train", "", "a.jpeg"),
        ("train", "", "c.bmp"),
        ("train", "Pneumonia", "d.png"),
        ("train", "Pneumonia", "m.png"),
        ("train", "", "b.TIF"),
        ("val", "", "e.png"),
        ("test", "Pneumonia", "f.png"),
    ]
    assert warning == (
        "6 files were left out: 1 without suffix in train/notes/, 2 .nii in train/NORMAL/, 1 .png in elsewhere/, "
        "1 .png in extra/, 1 .png in train/"
    )


def test_class_folders_of_another_name_and_empty_ones_are_refused(tmp_path):
    write(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIAS/deep/b.tif")
    with pytest.raises(UserError, match=r"train/PNEUMONIAS' is no class of this set.*did you mean 'PNEUMONIA'"):
        folders.by_class(tmp_path, CLASSES, ("train",))
    (tmp_path / "train/PNEUMONIAS").rename(tmp_path / "train/PNEUMONIA")
    write(tmp_path, "val/NORMAL/c.png", "val/PNEUMONIA/no-film.txt")
    folders.by_class(tmp_path, CLASSES, ("train",))
    with pytest.raises(UserError, match=r"val/PNEUMONIA' holds no film \(.*\.bmp.*\.tiff, \.dcm, \.dicom\)"):
        folders.by_class(tmp_path, CLASSES, ("train", "val"))


def test_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png", "lost+found/c.png")
    scandir = os.scandir

    def locked(path):
        if os.path.basename(path) in ("PNEUMONIA", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(UserError, match=r"train/PNEUMONIA cannot be read \(Permission denied\)"):
        folders.by_class(tmp_path, CLASSES, ("train",))
    assert [path.name for path in folders.files(tmp_path / "lost+found", strict=False)] == []


def test_names_that_are_no_utf8_are_counted_and_shown(tmp_path):
    for name in (b"caf\xe9.png", b"\xff.png"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    with pytest.raises(UserError, match=r"2 names in .* are no UTF-8 \(.*caf\\xe9\.png.*rename them") as error:
        list(folders.files(tmp_path))
    str(error.value).encode()  # and the message itself can be written


def test_films_that_cannot_be_opened_are_counted_and_named(tmp_path):
    write(tmp_path, "a.png")
    for i in range(7):
        (tmp_path / f"l{i}.png").symlink_to(f"gone{i}.png")
    paths = list(folders.files(tmp_path))
    assert len(paths) == 8
    with pytest.raises(
        UserError, match=r"7 of 8 films cannot be opened: .*l0\.png \(a link to gone0\.png, No such .*\.\.\."
    ):
        folders.stamps([path.name for path in paths], paths)
    assert folders.stamps(["a"], paths[:1]) == [("a", (4, paths[0].stat().st_mtime_ns))]


def test_a_missing_name_is_compared_with_those_that_are_there(tmp_path):
    composed, taken_apart = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    for name, here, what in [
        (composed, taken_apart, "Unicode form (NFC or NFD)"),
        ("A1.png", "a1.PNG", "case"),
        ("a1.png", "a1.jpg", "suffix"),
    ]:
        assert folders.like(name, ["b.png"]) == ""
        message = folders.like(name, ["b.png", here])
        assert message.startswith(f"; {here!r} is there, which differs in its")
        assert what in message


def test_a_missing_path_is_followed_to_where_it_breaks_off(tmp_path):
    write(tmp_path, "Films/a.png")
    assert "'Films' is there, which differs in its case" in folders.like_path(tmp_path / "films/a.png")
    assert "'a.png' is there, which differs in its suffix" in folders.like_path(tmp_path / "Films/a.jpg")
    (tmp_path / "Films/b.png").symlink_to("c.png")
    assert "is a link to 'c.png', which is not there" in folders.like_path(tmp_path / "Films/b.png")
    assert folders.like_path(tmp_path / "Films/z.png") == ""


def test_plain_paths():
    assert {folders.plain(name) for name in ("a/b.png", " ./a/b.png ", "a\\b.png", "a/c/../b.png", "a//b.png")} == {
        "a/b.png"
    }
