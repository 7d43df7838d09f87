"""A data set on disk: what is known of it without reading a film."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from cxrjax.data.sources.base import Box
from cxrjax.types import UserError


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set on disk, ready to be read.

    Attributes:
      directory: the folder.
      columns: names of the labels' columns.
      splits: number of films by split.
      fingerprint: hex sha256 of the source, its options, the size and the format.
      label_version: which edition of the labels this is.
      size: side of the films in pixels.
      has_truth: whether the films carry a healthy twin and masks.
      quarantined: films that could not be read; `quarantine.csv` in `directory` lists them.
      warnings: what a reader of results has to know.
      has_enh: whether the films' phase features (local phase, its energy, its attenuation) are stored too.
      aliases: splits that are the films of another under a second name.
    """

    directory: Path
    columns: tuple[str, ...]
    splits: dict[str, int]
    fingerprint: str
    label_version: str
    size: int
    has_truth: bool
    quarantined: int
    warnings: list[str]
    has_enh: bool = False
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)

    def table(self, split: str) -> dict[str, np.ndarray]:
        """Everything about a split but the images.

        Returns:
          `key` (n,) str, `patient` (n,) str (a film of unknown patient has a name of its own), `labels` (n, k) float32
          with 1 present, 0 absent, NaN unknown, and `severity` (n,) float32, NaN where unknown.

        Raises:
          UserError: no such split.
        """
        split = self.stored(split)
        with np.load(self.directory / "index.npz") as index:
            return {name: index[f"{split}.{name}"] for name in ("key", "patient", "labels", "severity")}

    @property
    def held_out(self) -> str:
        """The part to report on: test, or val where the source has no test part."""
        return "test" if self.splits.get("test") else "val"

    def check_split(self, split: str) -> None:
        """Raises UserError if there is no split of this name."""
        if split not in self.splits:
            raise UserError(f"{self.directory.name} has no split {split!r}; it has {', '.join(self.splits)}")

    def stored(self, split: str) -> str:
        """The name under which a split's films are stored.

        Raises:
          UserError: no such split.
        """
        self.check_split(split)
        return self.aliases.get(split, split)

    def boxes(self, split: str) -> dict[int, list[Box]]:
        """The boxes that radiologists drew, of the films that have one.

        Returns:
          By position in the split: a list of (finding, x0, y0, x1, y1), corners in fractions of the side, x to the
          right and y down. Empty where the data set has no boxes.

        Raises:
          UserError: no such split.
        """
        split = self.stored(split)
        path = self.directory / "boxes.json"
        found = json.loads(path.read_text()).get(split, {}) if path.exists() else {}
        return {int(i): [(box[0], *(float(v) for v in box[1:5])) for box in boxes] for i, boxes in found.items()}
