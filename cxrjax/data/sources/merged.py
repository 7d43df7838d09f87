"""ChestX-ray14 and MIMIC-CXR together: the 179,130 films of the fully convolutional DenseNet's second table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cxrjax.data import splits
from cxrjax.data.sources import mimic_cxr, nih
from cxrjax.data.sources.base import Record, Source, digest, existing

# 179,130 films in all less the 112,120 of NIH, and the share of them that was not trained on.
LIMIT = 67_010
EVAL_SHARE = 21_205 / 67_010


def source(data: Any) -> Source:
    """NIH's films from `data.nih_root` as `nih` splits them, and MIMIC's from `data.mimic_root`.

    NIH keeps its split (`data.split`). Of MIMIC, `data.limit` films are taken (67,010 in the paper; 0 for all), and
    31.6 % of them, by patient, go into val and test in the proportion that these have on NIH's side. The seven
    findings that MIMIC does not label are unknown there. All other options are those of `nih` and `mimic_cxr`.

    Raises:
      UserError: as the two sources.
    """
    first = nih.read(existing(data.nih_root, nih.WHAT, "data.nih_root"), data)
    held = {name: count for name, count in first.splits.items() if name != "train"}
    shares = {name: EVAL_SHARE * count / sum(held.values()) for name, count in held.items()}
    limit = data.get("limit", None)
    second = mimic_cxr.read(
        existing(data.mimic_root, mimic_cxr.WHAT, "data.mimic_root"),
        data,
        LIMIT if limit is None else int(limit),
        shares,
    )
    both = {"nih": first, "mimic": second}
    counts = {
        name: sum(part.splits.get(name, 0) for part in both.values())
        for name in splits.ORDER
        if any(name in part.splits for part in both.values())
    }

    def records() -> Iterator[Record]:
        found = {name: list(part.records()) for name, part in both.items()}
        for split in counts:
            for name, record in ((name, record) for name, part in found.items() for record in part):
                if record.split == split:
                    patient = f"nih{record.patient}" if name == "nih" and record.patient else record.patient
                    yield record._replace(key=f"{name}/{record.key}", patient=patient, site=name)

    warnings = tuple(f"{name}: {warning}" for name, part in both.items() for warning in part.warnings)
    version = f"{first.label_version}+{second.label_version}"
    fingerprint = digest({name: part.fingerprint for name, part in both.items()})
    return Source("merged", first.columns, version, fingerprint, records, False, counts, warnings, first.aliases)
