"""Text, JSON, .npz and .npy files: written whole or not at all, and read with a message that names what is damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cxrjax.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST = (errno.EIO, errno.EROFS, errno.ESTALE, errno.EACCES, errno.EPERM, errno.ENOTCONN, errno.ETIMEDOUT)
# What numpy and zipfile raise for an .npz that was cut or changed; a file that is not there is no damage.
TORN = (ValueError, KeyError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class Damaged(UserError):
    """A file is there and cannot be read."""


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; arrays and configs as lists and dicts, no NaN.

    Raises:
      UserError: the disk is full, or lost.
    """
    text = json.dumps(value, indent=1, default=_plain, allow_nan=False) + "\n"
    _write(path, lambda file: file.write(text.encode()))


def write_text(path: Path, text: str) -> None:
    """Writes a text file.

    Raises:
      UserError: the disk is full, or lost.
    """
    _write(path, lambda file: file.write(text.encode()))


def read_json(path: Path, mend: str = "restore it from a copy") -> Any:
    """The value of a JSON file.

    Raises:
      FileNotFoundError: it is not there.
      Damaged: it is no JSON; `mend` says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} is damaged ({error}); {mend}") from error


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed .npz.

    Raises:
      UserError: the disk is full, or lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def write_raw_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an .npz as it is, for what is read once and deleted.

    Raises:
      UserError: the disk is full, or lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an .npz.

    Raises:
      FileNotFoundError: it is not there.
      Damaged: it was cut, or has changed on disk.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise
    except TORN as error:
        raise _damaged(path, error) from error


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an .npy, which `map_array` reads without holding it in memory.

    Raises:
      UserError: the disk is full, or lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lambda file: np.save(file, array))


def map_array(path: Path) -> np.ndarray:
    """The array of an .npy, read where it is asked for.

    Raises:
      FileNotFoundError: it is not there.
      Damaged: it was cut, or its header has changed on disk.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except TORN as error:
        raise _damaged(path, error) from error


def check_arrays(path: Path) -> bool:
    """Whether an .npz is there; its bytes are checked, and none is kept.

    Raises:
      Damaged: it was cut, or has changed on disk.
    """
    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except FileNotFoundError:
        return False
    except TORN as error:
        raise _damaged(path, error) from error
    if bad:
        raise _damaged(path, f"the checksum of {bad} is wrong")
    return True


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples and arrays are lists."""
    return json.loads(json.dumps(value, default=_plain))


def name_of(text: str) -> str:
    """A text, as a class or a film is called, as part of a file's name: VinDr has a class Nodule/Mass."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def trouble(error: BaseException) -> str:
    """What of the storage an error or its causes tell: "full", "storage" for any other trouble of it, or ""."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__

    def tells(numbers: tuple[int, ...]) -> bool:  # libraries in C++ tell it in their texts only
        return any(getattr(e, "errno", 0) in numbers or os.strerror(n) in str(e) for e in chain for n in numbers)

    return "full" if tells(NO_ROOM) else "storage" if tells(LOST) else ""


def told(error: BaseException, path: Path) -> UserError | None:
    """The message for trouble with the storage that `path` lies on; None for any other error."""
    kind = trouble(error)
    if not kind:
        return None
    words = " ".join(str(error).split())[:300]
    if kind == "storage":
        return UserError(f"{path}: its storage fails ({words}); see to the storage, and the same command goes on")
    place = next(place for place in (path, *path.absolute().parents) if place.exists())
    free = f"{shutil.disk_usage(place).free:,} bytes are free there"
    return UserError(f"{path}: the disk is full, {free} ({words}); make room, and the same command goes on")


def _damaged(path: Path, why: object) -> Damaged:
    return Damaged(f"{path} is damaged ({' '.join(str(why).split())}): without it the same command makes it again")


def _write(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before what it names
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise told(error, path) or error from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping) or hasattr(value, "to_dict"):
        return value.to_dict() if hasattr(value, "to_dict") else dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
