"""Every data set by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from cxrjax.data.sources import (
    chexpert,
    covid3,
    csv_table,
    folder,
    kaggle4,
    kermany,
    medianomaly,
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


def _told(source: Callable[[Any], Source]) -> Callable[[Any], Source]:
    """`source`, where what the file system refuses is a message and no traceback."""

    @functools.wraps(source)
    def read(data: Any) -> Source:
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
    "medianomaly": _told(medianomaly.source),
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
