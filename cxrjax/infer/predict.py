"""What a finished run says of films from files: probabilities, verdicts and maps; a broken film stops none of the rest.

The verdict is by what was chosen on the run's validation films, whose predictions its workdir keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cxrjax import files
from cxrjax.errors import lookup
from cxrjax.infer import films as door
from cxrjax.infer.classifier import TASKS, Classifier
from cxrjax.metrics import operating, thresholds, triage
from cxrjax.tasks import classify
from cxrjax.types import Arrays

if TYPE_CHECKING:
    from cxrjax.infer.finished import Run

FOLDER = "predictions"  # of a workdir
BATCH = 32
HALF = 0.5  # the threshold of a finding where no validation film chose another


class Operating(NamedTuple):
    """What a classifier's validation films chose.

    Attributes:
      temperature: that calibrates; None where there are no validation films.
      thresholds: (k,) of findings, each of the greatest F1 (0.5 without validation films); () of exclusive classes,
        of which the most probable one is called.
      aside: the score of disease below which 1 % of the diseased lie; None where no class is Normal, or no film chose.
      words: what was chosen on which films.
    """

    temperature: float | None
    thresholds: tuple[float, ...]
    aside: float | None
    words: str


class Prediction(NamedTuple):
    """What is said of one film.

    Attributes:
      path: its file.
      fault: why nothing is said; "" where something is, and only then the rest is set.
      probability: (k,) float64 in [0, 1], the network's own.
      calibrated: (k,) after the temperature; None where the run has none.
      called: the classes that the operating point calls.
      set_aside: whether it lies below `Operating.aside`; None where there is none.
      shown: (h, w) uint8, the film at its own proportions; where nothing is mapped, as the network was given it.
      heat: by class, (size, size) float32 in [0, 1].
      by: what a DICOM file's stored values became gray by, and whether they were inverted; "" of other files.
    """

    path: Path
    fault: str = ""
    probability: np.ndarray = np.zeros(0)
    calibrated: np.ndarray | None = None
    called: tuple[str, ...] = ()
    set_aside: bool | None = None
    shown: np.ndarray = np.zeros((0, 0), np.uint8)
    heat: dict[str, np.ndarray] = {}  # noqa: RUF012
    by: str = ""


class Predictor(NamedTuple):
    """A trained classifier, or the mean of the seeds or folds of one, with its operating point.

    Attributes:
      name: a phase, or one seed or fold of it.
      members: each network.
      operating: see `Operating`.
    """

    name: str
    members: tuple[Classifier, ...]
    operating: Operating

    @property
    def classes(self) -> tuple[str, ...]:
        """Of its probabilities."""
        return self.members[0].classes

    def films(
        self, paths: Sequence[str | Path], maps: Sequence[str] | None = (), batch: int = BATCH
    ) -> Iterator[Prediction]:
        """What is said of each film, in order; files are decoded while the network runs.

        Args:
          paths: of PNG, JPEG, TIFF, BMP or DICOM files, in any mixture.
          maps: classes to map; () maps each film's most probable class that is not Normal, None none.
          batch: films at once.

        Raises:
          UserError: an unknown class; of a film nothing is raised, its `fault` is set.
        """
        columns = [self.members[0].column(name) for name in maps or ()]
        size, depth = self.members[0].size, self.members[0].depth
        for part in door.stream(paths, size, depth, batch, shown=maps is not None):
            whole = [read.pixels for read in part if read.pixels is not None]
            said = iter(self._said(np.stack(whole), min(batch, len(paths)), columns, maps is not None) if whole else ())
            for read in part:
                if read.pixels is None:
                    yield Prediction(read.path, read.fault)
                else:
                    film = next(said)._replace(path=read.path, by=read.by)
                    yield film if read.shown is None else film._replace(shown=read.shown)

    def called(self, films: np.ndarray, batch: int) -> np.ndarray:
        """The classes that the operating point calls of films (n, h, w) in [0, 1], (n, k) bool."""
        return self._called(self._mean([member.read(films) for member in self.members], batch)["probability"])

    def _called(self, probability: np.ndarray) -> np.ndarray:
        cut = self.operating.thresholds
        return probability >= cut if cut else np.eye(len(self.classes), dtype=bool)[probability.argmax(axis=1)]

    def _mean(self, image: list[np.ndarray], batch: int) -> Arrays:
        """What the members say together, each of its own reading of the films."""
        found = [self._own(member, member.logits(x, batch)) for member, x in zip(self.members, image, strict=True)]
        return found[0] if len(found) == 1 else mean_of(found)

    def _said(self, pixels: np.ndarray, batch: int, columns: list[int], mapped: bool) -> Iterator[Prediction]:
        """Of films (n, size, size) uint8."""
        image = [member.read(pixels) for member in self.members]
        mean = self._mean(image, batch)
        options, (t, _, aside, _) = self.members[0].options, self.operating
        probability, cooled = mean["probability"], None if t is None else classify.scores(options, mean["logits"] / t)
        wanted = [np.full(len(pixels), c) for c in columns]
        if mapped and not wanted:
            ill = [name.lower() not in operating.NORMAL for name in self.classes]
            wanted = [np.where(ill if any(ill) else True, probability, -1).argmax(axis=1)]
        maps = [np.mean([m.maps(x, column, batch) for m, x in zip(self.members, image, strict=True)], axis=0)
                for column in wanted]  # fmt: skip
        called = self._called(probability)
        sick = operating.disease(probability, probability, self.classes)
        for i, film in enumerate(pixels):
            if not np.isfinite(probability[i]).all():
                yield Prediction(Path(), f"the answer of {self.name} is not finite: a network that diverged")
                continue
            yield Prediction(
                Path(), "", probability[i], None if cooled is None else cooled[i],
                tuple(name for name, yes in zip(self.classes, called[i], strict=True) if yes),
                None if aside is None or sick is None else bool(sick[1][i] < aside), film,
                {self.classes[column[i]]: heat[i] for column, heat in zip(wanted, maps, strict=True)},
            )  # fmt: skip

    @staticmethod
    def _own(member: Classifier, logits: np.ndarray) -> Arrays:
        return {"logits": logits.astype(np.float64), "probability": classify.scores(member.options, logits)}


def of(run: Run, name: str = "") -> Predictor:
    """The predictor of a run.

    Args:
      run: a finished one.
      name: one of `run.classifiers`, or a phase, whose seeds or folds are averaged; may be left out where there is one
        `run.last_classifier`.

    Raises:
      UserError: no such classifier, or several and no name.
    """
    phases = [phase for phase in run.config.phases if run.config[phase].task in TASKS]
    name = name or run.last_classifier()
    lookup(dict.fromkeys((*phases, *run.classifiers)), name, f"a classifier of {run.workdir}")
    name = run.roles.get(name, name)
    names = run.members(name) if name in phases else [name]
    members = tuple(run.classifier(member) for member in names)
    return Predictor(name, members, _operating(run.workdir, names, members[0]))


def _operating(workdir: Path, names: Sequence[str], classifier: Classifier) -> Operating:
    kept = [path for member in names if (path := path_of(workdir, member, "val")).is_file()]
    exclusive, k = classifier.options.exclusive, len(classifier.classes)
    if len(kept) < len(names):
        rule = "the most probable class is called" if exclusive else f"a finding is called from {HALF} up"
        return Operating(None, () if exclusive else (HALF,) * k, None, f"no validation film chose anything: {rule}")
    seen = [files.read_arrays(path) for path in kept]
    found = seen[0] if len(seen) == 1 else mean_of(seen)
    label, logits, probability = found["label"], found["logits"], found["probability"]
    t = operating.temperature((label, logits), logits, "softmax" if exclusive else "sigmoid")
    words = f"chosen on {len(label)} validation films: the temperature, "
    if not exclusive:
        best = [thresholds.best_f1_threshold(label[:, c], probability[:, c]) for c in range(k)]
        cut = tuple(HALF if np.isnan(value) else float(value) for value in best)
        return Operating(t, cut, None, f"{words}and of each finding the threshold of the greatest F1")
    sick = operating.disease(label, probability, classifier.classes)
    at = float("nan") if sick is None else triage.threshold(*sick)
    if np.isnan(at):
        return Operating(t, (), None, f"{words}nothing else; the most probable class is called")
    words += "and the score of disease below which a film is set aside, at a sensitivity of 99 % there"
    return Operating(t, (), at, f"{words}; the most probable class is called")


def path_of(workdir: Path, name: str, split: str = "", folder: str = FOLDER) -> Path:
    """The file of a member's, a system's or the floor's predictions; `split` only for the validation part's."""
    return workdir / folder / (f"{name}.{split}.npz" if split else f"{name}.npz")


def mean_of(found: list[Arrays]) -> Arrays:
    """Several networks as one system: the mean of their probabilities, and the logits that give it."""
    probability = np.mean([arrays["probability"] for arrays in found], axis=0)
    exclusive_classes = np.allclose(probability.sum(axis=1), 1)
    odds = 1.0 if exclusive_classes else np.clip(1 - probability, 1e-12, 1)
    return {**found[0], "probability": probability, "logits": np.log(np.clip(probability, 1e-12, 1) / odds)}
