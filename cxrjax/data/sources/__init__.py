"""Every data set by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cxrjax.data.source import Source
from cxrjax.data.sources import kermany, medmnist, phantom

SOURCES: dict[str, Callable[[Any], Source]] = {
    "phantom": phantom.source,
    "kermany": kermany.source,
    "medmnist": medmnist.source,
}
