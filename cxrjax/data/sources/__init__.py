"""Every data set by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from cxrjax.data.sources import (
    chexpert,
    covid3,
    csv_table,
    folder,
    kaggle4,
    kermany,
    medmnist,
    merged,
    mimic_cxr,
    nih,
    phantom,
    rsna,
    vindr,
)
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
    "chexpert": _told(chexpert.source),
    "rsna": _told(rsna.source),
    "vindr": _told(vindr.source),
    "csv": _told(csv_table.source),
    "merged": _told(merged.source),
    "folder": _told(folder.source),
}
# Sources whose classes are their films' own and may be left open, or have to be compared with those asked for.
OPEN: dict[str, Callable[[Any], tuple[str, ...]]] = {
    "folder": _told(folder.classes),
    "csv": _told(csv_table.classes),
    "chexpert": lambda data: SOURCES["chexpert"](data).classes,
    "rsna": lambda data: SOURCES["rsna"](data).classes,
    "vindr": lambda data: SOURCES["vindr"](data).classes,
}


def classes_of(data: Any) -> tuple[str, ...]:
    """`data.classes`, or where a config leaves them open those that the source names.

    Raises:
      UserError: they are open, and the source names none; or a table of one's own lacks one of them.
    """
    if data.classes and data.name != "csv":  # what the others have is known to who wrote the config
        return tuple(data.classes)
    if data.name not in OPEN:
        raise UserError(f"data.classes is empty: name the classes; only {', '.join(OPEN)} (data.name) names its own")
    return OPEN[data.name](data)
