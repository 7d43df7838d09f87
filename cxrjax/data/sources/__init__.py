"""Every data set by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cxrjax.data.sources import covid3, kaggle4, kermany, medmnist, merged, mimic_cxr, nih, phantom
from cxrjax.data.sources.base import Source

SOURCES: dict[str, Callable[[Any], Source]] = {
    "phantom": phantom.source,
    "kermany": kermany.source,
    "medmnist": medmnist.source,
    "nih": nih.source,
    "kaggle4": kaggle4.source,
    "covid3": covid3.source,
    "mimic_cxr": mimic_cxr.source,
    "merged": merged.source,
}
