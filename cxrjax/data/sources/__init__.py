"""Every data set by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from cxrjax.data.sources import covid3, folder, kaggle4, kermany, medmnist, merged, mimic_cxr, nih, phantom
from cxrjax.data.sources.base import Source
from cxrjax.errors import UserError

T = TypeVar("T")


def _told(source: Callable[[Any], T]) -> Callable[[Any], T]:
    """`source`, or what reads its classes, where what the file system refuses is a message and no traceback."""

    @functools.wraps(source)
    def read(data: Any) -> T:
        try:
            return source(data)
        except OSError as error:
            raise UserError(
                f"cannot read the films of {source.__module__.rpartition('.')[2]}: {error.filename or 'a file'}: "
                f"{error.strerror or error}; make it readable"
            ) from error

    return read


SOURCES: dict[str, Callable[[Any], Source]] = {
    "phantom": _told(phantom.source),
    "kermany": _told(kermany.source),
    "medmnist": _told(medmnist.source),
    "nih": _told(nih.source),
    "kaggle4": _told(kaggle4.source),
    "covid3": _told(covid3.source),
    "mimic_cxr": _told(mimic_cxr.source),
    "merged": _told(merged.source),
    "folder": _told(folder.source),
}
OPEN: dict[str, Callable[[Any], tuple[str, ...]]] = {"folder": _told(folder.classes)}


def classes_of(data: Any) -> tuple[str, ...]:
    """`data.classes`, or where a config leaves them open those that the source names.

    Raises:
      UserError: they are open, and the source names none.
    """
    if data.classes:
        return tuple(data.classes)
    if data.name not in OPEN:
        raise UserError(f"data.classes is empty: name the classes; only {', '.join(OPEN)} (data.name) names its own")
    return OPEN[data.name](data)
