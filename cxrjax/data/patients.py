"""What tables and headers say of a patient, in one form; and names for patients whose own stay where they are."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import secrets
from pathlib import Path

from cxrjax.data.splits import is_nothing

_AGE = re.compile(r"(\d+(?:\.\d*)?)\s*([YMWD]?)", re.IGNORECASE)
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.25}
OLDEST = 120.0
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "unknown": "", "u": ""}


def years(text: str) -> float:
    """An age as tables (58, 58.0) and DICOM (058Y, 006M) write it; NaN where there is none or nobody is so old.

    Raises:
      ValueError: another form.
    """
    if is_nothing(text):
        return math.nan
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no age; expected years, or a number with Y, M, W or D")
    age = float(match[1]) / _PER_YEAR[match[2].upper()]
    return age if age <= OLDEST else math.nan


def sex(text: str) -> str:
    """ "M", "F", "" where there is nothing, else as written."""
    return "" if is_nothing(text) else _SEXES.get(text.strip().lower(), text.strip())


def word(text: str) -> str:
    """A cell that names something, "" where it says that there is nothing."""
    return "" if is_nothing(text) else text.strip()


def salt(cache: str) -> bytes:
    """The secret of a cache folder, drawn where there is none yet: with it a patient has one hash in all data sets.

    Who wants the same parts of the same DICOM films on another machine copies the file `patients.salt`.
    """
    folder = Path(os.path.expanduser(cache))
    path = folder / "patients.salt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / f".salt-{os.getpid()}-{secrets.token_hex(4)}"
        own.touch(mode=0o600)
        own.write_bytes(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(own, path)
        own.unlink()
    return path.read_bytes()


def pseudonym(patient: str, secret: bytes) -> str:
    """A name that tells patients apart and from which nobody without the secret finds the id; "" for none."""
    name = patient.strip()
    return f"dicom-{hashlib.blake2b(name.encode(), key=secret, digest_size=12).hexdigest()}" if name else ""
