"""Films in folders: which are there, what is passed over, and what a name that is not there may mean."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from cxrjax.data import decode, dicom, splits
from cxrjax.errors import UserError, did_you_mean

# What the decoder reads, by the names that Pillow knows it under, and DICOM, which often has none.
_PLAIN = (suffix for suffix, kind in Image.registered_extensions().items() if kind in decode.FORMATS)
SUFFIXES = (*sorted(_PLAIN), ".dcm", ".dicom")
PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
PARTS |= {"test": "test", "testing": "test"}
SHOWN = 5


def is_film(path: Path) -> bool:
    if path.suffix.strip(".0123456789"):  # DICOM files may be called by a number with points, or IM0001
        return path.suffix.lower() in SUFFIXES
    return dicom.is_dicom(path) and path.name != "DICOMDIR"


def files(folder: Path, strict: bool = True) -> Iterator[Path]:
    """Every file in `folder` and below, links to folders followed; hidden ones (macOS leaves `._name.jpeg`) are none.

    Raises:
      UserError: a folder cannot be read (passed over where not `strict`), or a name is no UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); make it readable, or move it elsewhere")

    seen = set()
    for place, inner, names in os.walk(folder, onerror=refuse if strict else None, followlinks=True):
        inner[:] = sorted(name for name in inner if not _is_hidden(name))
        names = [name for name in names if not _is_hidden(name)]
        if odd := [name for name in (*inner, *names) if not _is_utf8(name)]:
            shown = ", ".join(repr(os.fsencode(name))[1:] for name in odd[:SHOWN])
            raise UserError(f"{len(odd)} names in {_text(place)!r} are no UTF-8 ({shown}); rename them")
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above would go round for ever
            inner.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in sorted(names))


def by_class(
    root: Path, classes: Mapping[str, str], whole: Collection[str]
) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """The films of `root/PART/CLASS/` and below.

    Args:
      root: holds folders called as in `PARTS`.
      classes: what a class folder means, by its name in capitals.
      whole: the parts that need a film of every class.

    Returns:
      (part, meaning, film) of every film, and a warning that counts by suffix and folder what is left out, if any is.

    Raises:
      UserError: a class folder of another name holds a film, a class of a whole part has none, or as `files`.
    """
    found = []
    left: Counter[tuple[str, str]] = Counter()
    for folder in inside(root):
        part = PARTS.get(folder.name.lower())
        if part is None:  # perhaps nothing of ours
            left.update((path.suffix.lower(), folder.name) for path in files(folder, strict=False) if is_film(path))
            continue
        films = of_classes(folder, classes, root, left)
        found += [(part, meaning, path) for meaning, path in films]
        seen = {meaning for meaning, _ in films}
        if part in whole and (lost := [name for name, meaning in classes.items() if meaning not in seen]):
            raise UserError(f"{str(folder / lost[0])!r} holds no film ({', '.join(SUFFIXES)}); every class needs some")
    found.sort(key=lambda film: (splits.ORDER.index(film[0]), film[2]))
    return found, left_out(left)


def inside(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones apart, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def of_classes(
    folder: Path, classes: Mapping[str, str], root: Path, left: Counter[tuple[str, str]]
) -> list[tuple[str, Path]]:
    """(meaning, film) of every film of `folder/CLASS/` and below; what is no film is counted in `left`.

    Raises:
      UserError: a class folder of another name holds a film, or as `files`.
    """
    found = []
    for path in files(folder):
        inner = path.relative_to(folder).parts
        if len(inner) == 1 or not is_film(path):
            left[path.suffix.lower(), path.parent.relative_to(root).as_posix()] += 1
            continue
        name = inner[0].upper()
        if name not in classes:
            hint = did_you_mean(name, classes)
            raise UserError(f"{str(folder / inner[0])!r} is no class of this set: expected {', '.join(classes)}{hint}")
        found.append((classes[name], path))
    return found


def left_out(left: Mapping[tuple[str, str], int]) -> list[str]:
    """A warning of files that are not read, from their number by suffix and folder; none where there are none."""
    parts = [f"{count} {suffix or 'without suffix'} in {place}/" for (suffix, place), count in sorted(left.items())]
    return [f"{sum(left.values())} files were left out: {', '.join(parts)}"] if parts else []


def stamps(names: Sequence[str], paths: Iterable[Path]) -> list[tuple[str, tuple[int, int]]]:
    """(name, (bytes, time of the last change)) of each film, which differ where a film was written anew.

    Raises:
      UserError: films that cannot be opened, counted and named.
    """
    out, lost = [], []
    for name, path in zip(names, paths, strict=True):
        try:
            found = path.stat()
            out.append((name, (found.st_size, found.st_mtime_ns)))
        except OSError as error:
            lost.append(f"{path} ({f'a link to {os.readlink(path)}, ' if path.is_symlink() else ''}{error.strerror})")
    if lost:
        raise UserError(
            f"{len(lost)} of {len(names)} films cannot be opened: {', '.join(lost[:SHOWN])}"
            f"{', ...' if len(lost) > SHOWN else ''}; put the films there, or take the names away"
        )
    return out


def plain(name: str) -> str:
    """A path as a table gives it, in one form: no blanks around it, `/` between its parts, no `./`."""
    return os.path.normpath(name.strip().replace("\\", "/"))


# In how much a name may differ from another and still mean the same film, the strictest first.
FORMS: dict[str, Callable[[str], str]] = {
    "Unicode form (NFC or NFD)": lambda name: unicodedata.normalize("NFC", name),
    "case": lambda name: unicodedata.normalize("NFC", name).casefold(),
    "suffix": lambda name: os.path.splitext(unicodedata.normalize("NFC", name).casefold())[0],
}


def like(name: str, here: Iterable[str]) -> str:
    """The end of a message on a missing `name`: which one of those `here` differs from it in its form only."""
    here = list(here)
    for what, form in FORMS.items():
        for other in here:
            if form(other) == form(name):
                return f"; {other!r} is there, which differs in its {what} only: make the names agree"
    return ""


def like_path(path: Path) -> str:
    """`like` for a missing file: of its name, or of the first folder on the way to it that is missing."""
    while not os.path.isdir(path.parent) and path.parent != path:
        path = path.parent
    if os.path.islink(path):
        return f"; {str(path)!r} is a link to {os.readlink(path)!r}, which is not there"
    try:
        return like(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _is_utf8(name: str) -> bool:
    return _text(name) == name


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
