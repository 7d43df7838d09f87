"""A data set on disk: what is known of it without reading a film."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cxrjax import files
from cxrjax.data.sources.base import Box, Record
from cxrjax.errors import UserError

# What is known of the patient and the film beside the labels, and how it is written where it is not known. Nothing
# trains on it, and the fingerprint leaves it out.
WHO = {"age": np.float32("nan"), "sex": "", "view": "", "site": ""}
ALL = "all"  # the split of all films, in the order of the parts


@contextlib.contextmanager
def whole(directory: Path) -> Iterator[None]:
    """Turns what reading a damaged folder raises into a UserError that says what to do."""
    try:
        yield
    except (*files.TORN, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{directory} is damaged ({error}): delete this folder, and the next run prepares the films again"
        ) from error


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set on disk, ready to be read.

    Attributes:
      directory: the folder.
      columns: names of the labels' columns.
      splits: number of films by split.
      fingerprint: hex sha256 of the films, their labels, patients and parts, and of how they are stored. It is the same
        for a copy elsewhere, and boxes, which no training reads, are not in it.
      label_version: which edition of the labels this is.
      size: side of the films in pixels.
      has_truth: whether the films carry a healthy twin and masks.
      quarantined: films that could not be read; `quarantine.csv` in `directory` lists them.
      warnings: what a reader of results has to know.
      has_enh: whether the films' phase features (local phase, its energy, its attenuation) are stored too.
      aliases: splits that are the films of another under a second name.
      bit_depth: bits of what the 16-bit files were taken to hold; 0 where there are none.
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
    bit_depth: int = 0

    def table(self, split: str) -> dict[str, np.ndarray]:
        """Everything about a split but the images.

        Returns:
          `key` (n,) str, `patient` (n,) str (a film of unknown patient has a name of its own), `labels` (n, k) float32
          with 1 present, 0 absent, NaN unknown, `severity` and `age` (n,) float32, NaN where unknown, and `sex`,
          `view` and `site` (n,) str, "" where unknown.

        Raises:
          UserError: no such split.
        """
        parts = self.stored(split).split("+")
        with whole(self.directory), np.load(self.directory / "index.npz") as index:
            table = {
                name: np.concatenate([index[f"{part}.{name}"] for part in parts])
                for name in ("key", "patient", "labels", "severity")
            }
            for name, unknown in WHO.items():
                # Stored where a film of the part has it.
                found = {part: index.get(f"{part}.{name}") for part in parts}
                columns = [np.full(self.splits[p], unknown) if c is None else c for p, c in found.items()]
                table[name] = np.concatenate(columns)
            return table

    @property
    def held_out(self) -> str:
        """The part to report on: test, or val where the source has no test part."""
        return "test" if self.splits.get("test") else "val"

    def check_split(self, split: str) -> None:
        """Raises UserError if there is no split of this name."""
        if split != ALL and split not in self.splits:
            raise UserError(f"{self.directory.name} has no split {split!r}; it has {', '.join(self.splits)}")

    def stored(self, split: str) -> str:
        """The name under which a split's films are stored; of `ALL` the names, with "+" between.

        Raises:
          UserError: no such split.
        """
        self.check_split(split)
        if split == ALL:
            return "+".join(name for name in self.splits if name not in self.aliases)
        return self.aliases.get(split, split)

    def count(self, split: str) -> int:
        """Films of a split. Raises UserError where there is no such split."""
        return sum(self.splits[part] for part in self.stored(split).split("+"))

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
        with whole(self.directory):
            found = json.loads(path.read_text()).get(split, {}) if path.exists() else {}
        return {int(i): [(box[0], *(float(v) for v in box[1:5])) for box in boxes] for i, boxes in found.items()}

    def boxes_digest(self) -> str:
        """Hex sha256 of all boxes, which the fingerprint leaves out."""
        with whole(self.directory):
            path = self.directory / "boxes.json"
            return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def save(prepared: Prepared, rows: Mapping[str, Sequence[Record]], folder: Path) -> None:
    """Writes all that is known of a data set into `folder`, beside the records that are there already."""
    arrays = {}
    for split, found in rows.items():
        arrays[f"{split}.key"] = np.array([r.key for r in found])
        arrays[f"{split}.patient"] = np.array([r.patient or f"film:{r.key}" for r in found])
        arrays[f"{split}.labels"] = np.stack([np.asarray(r.labels, np.float32) for r in found])
        arrays[f"{split}.severity"] = np.array([r.severity for r in found], np.float32)
        for name, unknown in WHO.items():
            column = np.array([getattr(r, name) for r in found], np.asarray(unknown).dtype.char)
            if (np.isfinite(column) if name == "age" else column != "").any():
                arrays[f"{split}.{name}"] = column
    np.savez(folder / "index.npz", **arrays)  # type: ignore[arg-type]
    boxes = {split: {i: r.boxes for i, r in enumerate(records) if r.boxes} for split, records in rows.items()}
    if any(boxes.values()):
        (folder / "boxes.json").write_text(json.dumps(boxes))
    facts = {**dataclasses.asdict(prepared), "directory": "", "files": _sizes(folder)}
    (folder / "prepared.json").write_text(json.dumps(facts, indent=2))


def load(directory: Path) -> Prepared:
    """Opens a folder that `save` completed, and sees that no file in it was cut since.

    Raises:
      UserError: the folder is damaged.
    """
    with whole(directory):
        facts = json.loads((directory / "prepared.json").read_text())
        sizes = _sizes(directory)
        for name, size in facts.pop("files").items():
            if sizes.get(name) != size:
                raise ValueError(f"{name} has {sizes.get(name, 0):,} bytes instead of {size:,}")
        return Prepared(**{**facts, "directory": directory, "columns": tuple(facts["columns"])})


def _sizes(folder: Path) -> dict[str, int]:
    paths = [folder / "index.npz", folder / "boxes.json", *(folder / "films").rglob("*")]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths if path.is_file()}
