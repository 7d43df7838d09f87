"""Drawn chests: unlimited, free of patients, and each with the truth about itself."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.data import phantom, splits, truth
from cxrjax.data.labels import FINDINGS
from cxrjax.data.sources.base import Record, Source, digest
from cxrjax.errors import UserError

LABEL_VERSION = "phantom-1"
LINEAR = (1.0, 1.0)  # gray as it is drawn


def _drawing_digest() -> str:
    """Of the code that draws, so that films of another drawing are never taken for these."""
    sources = sorted(Path(phantom.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def source(data: Any) -> Source:
    """A data set of phantoms.

    Reads `data.size`, `data.seed`, `data.num` (films by split), `data.findings`, `data.findings_per_film` (1),
    `data.normal_share` (0.5), `data.severity` and `data.gamma` (low, high). Findings are dealt evenly over the diseased
    films; severities and powers of the gray are uniform in their range. No two splits share a seed, and each seed is a
    patient.

    Raises:
      UserError: an unknown finding, or a number out of range.
    """
    findings = tuple(data.findings)
    for name in findings:
        if name not in FINDINGS:
            near = difflib.get_close_matches(name, FINDINGS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(FINDINGS)}"
            raise UserError(f"data.findings has {name!r}, which no phantom can show{hint}")
    per_film = int(data.get("findings_per_film", 1))
    normal_share = float(data.get("normal_share", 0.5))
    low, high = (float(x) for x in data.get("severity", (0.4, 1.0)))
    if not 1 <= per_film <= max(1, len(findings)):
        raise UserError(f"data.findings_per_film is {per_film}: expected 1 to {len(findings)} (data.findings)")
    if not 0 <= normal_share <= 1 or (normal_share < 1 and not findings):
        raise UserError(f"data.normal_share is {normal_share}: expected 0 to 1, and 1 where data.findings is empty")
    if not 0 < low <= high <= 1:
        raise UserError(f"data.severity is ({low}, {high}): expected 0 < low <= high <= 1")
    weak, strong = (float(x) for x in data.get("gamma", LINEAR))
    if not 0 < weak <= strong:
        raise UserError(f"data.gamma is ({weak}, {strong}): expected 0 < low <= high")
    counts = {name: int(data.num.get(name, 0)) for name in splits.ORDER if data.num.get(name, 0)}
    options = {
        "num": counts,
        "findings": findings,
        "per_film": per_film,
        "normal_share": normal_share,
        "severity": (low, high),
        "seed": int(data.seed),
        "labels": LABEL_VERSION,
        "drawing": _drawing_digest(),
    } | ({} if (weak, strong) == LINEAR else {"gamma": (weak, strong)})
    draw = partial(_draw, int(data.size), int(data.seed), findings, per_film, (low, high), (weak, strong))

    def between(first: int, last: int | None) -> Iterator[Record]:
        start = 0
        for split, count in counts.items():
            rng = np.random.default_rng([int(data.seed), splits.ORDER.index(split)])
            diseased = count - round(count * normal_share)
            # -1 is a normal film, j >= 0 a film whose first finding is findings[j].
            kinds = np.full(count, -1)
            kinds[:diseased] = np.arange(diseased) % max(1, len(findings))
            drawn = rng.permutation(kinds)
            for i in range(count)[max(0, first - start) : None if last is None else max(0, last - start)]:
                yield draw(split, i, int(drawn[i]))
            start += count

    return Source(
        "phantom", findings, LABEL_VERSION, digest(options), lambda: between(0, None), True, counts, between=between
    )


def _draw(
    size: int,
    seed: int,
    findings: tuple[str, ...],
    per_film: int,
    severity: tuple[float, float],
    gamma: tuple[float, float],
    split: str,
    i: int,
    kind: int,
) -> Record:
    number = (seed * len(splits.ORDER) + splits.ORDER.index(split)) * 2**28 + i
    chosen: dict[str, float] = {}
    if kind >= 0:
        rng = np.random.default_rng(number)
        others = [name for j, name in enumerate(findings) if j != kind]
        names = [findings[kind], *rng.choice(others, per_film - 1, replace=False)] if per_film > 1 else [findings[kind]]
        chosen = {str(name): float(rng.uniform(*severity)) for name in names}
    film = phantom.render(number, size, chosen)
    power = np.random.default_rng([number, 1]).uniform(*gamma)
    gray = np.rint(255 * np.linspace(0, 1, 256) ** power).astype(np.uint8)
    return Record(
        key=f"{split}-{i:06d}",
        split=split,
        patient=f"phantom{number}",
        labels=np.array([name in chosen for name in findings], np.float32),
        film=gray[film.image],
        severity=max(chosen.values(), default=math.nan),
        twin=gray[film.twin],
        truth=truth.pack(film.masks, film.lungs, film.heart),
    )
