"""What a study of treated films entries in its workdir beside its numbers: films, treated films, masks, residuals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.report.read.files import load, load_checked
from cxrjax.report.read.workdir import Entry, Run, is_number

MODE_ORDER = ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend")
JUDGE_ORDER = ("independent", "cam_network")
PIXEL = "pixel_"  # before the name of an arm that another run's diffusion walked, in pixel space
_TREATED_FILE = re.compile(r"(?P<mode>.+)_(?P<lam>\d{4,})\.npz")
_RANKED = "Arms ranked at normal rate "  # how the title of a ranking begins; the rate follows


@dataclass(frozen=True)
class Films:
    """The films that were treated, before treatment.

    Attributes:
      key: (n,) str. disease: (n,) bool, False for a healthy control. severity: (n,) float, NaN where unknown.
      image, cam: (n, h, w) in [0, 1]. twin: the same patient without the lesion (phantoms). lesion: (n, h, w) bool.
      probability: by judge, (n,) probability of "normal" before treatment, where the run recorded it.
    """

    key: np.ndarray
    disease: np.ndarray
    severity: np.ndarray
    image: np.ndarray
    cam: np.ndarray
    twin: np.ndarray | None
    lesion: np.ndarray | None
    probability: dict[str, np.ndarray]


@dataclass(frozen=True)
class Treated:
    """The same films after one mode of treatment at one lambda: image (n, h, w), and (n,) per judge."""

    image: np.ndarray
    probability: dict[str, np.ndarray]


@dataclass(frozen=True)
class Residuals:
    """Located films of an anomaly study, and how far each arm's treated film is from the film, at its best lambda.

    Attributes:
      image: (n, h, w) in [0, 1]. truth: (n, h, w) bool, the lesion or its boxes. key: (n,) str.
      names: (k,) str, an arm and its lambda. scores: (k, n, h, w), 0 or more.
    """

    image: np.ndarray
    truth: np.ndarray
    key: np.ndarray
    names: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Anomaly(Run):
    """A finished anomaly study."""

    residuals: Residuals | None = None


@dataclass(frozen=True, kw_only=True)
class Treatment(Run):
    """A finished study of treatment progress.

    `treated` is by mode, then lambda in rising order; `masks` (n, h, w) is by mode, one array for all that share it.
    """

    films: Films | None = None
    treated: dict[str, dict[int, Treated]] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def modes(self) -> list[str]:
        """Every treatment arm that the run has films or results of, in the order of `arm_order`."""
        found = set(self.treated) | set(self.children("progress")) | set(self.children("control"))
        for judge in self.children("equal_rate"):
            for rate in self.children("equal_rate", judge):
                found |= set(self.children("equal_rate", judge, rate))
        return arm_order(found - {"untreated"}, self.study)

    @cached_property
    def judges(self) -> list[str]:
        """Every judge of treated films, the independent one first."""
        found = {entry.path[-1] for entry in self.entries if entry.path[-2:-1] == ("normal_rate",)}
        for by_lambda in self.treated.values():
            for treated in by_lambda.values():
                found |= set(treated.probability)
        return in_order(found | set(self.children("equal_rate")), JUDGE_ORDER)

    def curve(self, group: str, mode: str, *measure: str) -> list[tuple[int, Entry]]:
        """The entries `group.mode.lambda.measure` with a finite value, by rising lambda."""
        points = []
        for name in self.children(group, mode):
            entry = self.entry(group, mode, name, *measure)
            if name.isdecimal() and entry is not None and is_number(entry.value):
                points.append((int(name), entry))
        return sorted(points, key=lambda point: point[0])

    @cached_property
    def ranking(self) -> tuple[str, list[str]]:
        """The lowest normal rate at which arms were compared, and the arms in the study's order; "" and none else."""
        for table in self.results.get("tables") or []:
            if (title := str(table.get("title"))).startswith(_RANKED):
                return title.removeprefix(_RANKED), [str(row.get("name")) for row in table["rows"]]
        return "", []


def in_order(names: set[str], known: tuple[str, ...]) -> list[str]:
    """The names, the known ones first and in their order, the others by the alphabet."""
    return [name for name in known if name in names] + sorted(names - set(known))


def arm_order(names: set[str], study: dict[str, Any]) -> list[str]:
    """Arms in the order of every figure and table: the known modes, the others as `study.modes` lists them, the rest.

    The arms of another run's diffusion (`pixel_...`) come after all of them, in the same order.
    """
    known = tuple(dict.fromkeys((*MODE_ORDER, *map(str, study.get("modes") or ()))))
    return in_order(names, (*known, *(PIXEL + name for name in known)))


def read(run: Run) -> Treatment:
    """The films, treated films and masks of `progress/`.

    Raises:
      UserError: a file that cannot be read, or arrays whose shapes disagree.
    """
    folder = run.workdir / "progress"
    films = _read_films(folder / "films.npz")
    if films is None:
        return run.extended(Treatment)
    found = run.extended(Treatment, films=films, treated=_read_treated(folder, films), masks=_read_masks(folder, films))
    return replace(found, treated={mode: found.treated[mode] for mode in found.modes if mode in found.treated})


def read_anomaly(run: Run) -> Anomaly:
    """The residuals of `anomaly/films.npz`. Raises UserError where it cannot be read or its arrays disagree."""
    return run.extended(Anomaly, residuals=_read_residuals(run.workdir / "anomaly" / "films.npz"))


def _finite(image: np.ndarray, name: str, path: Path) -> None:
    bad = ~np.isfinite(image).all(axis=(1, 2))
    if bad.any():
        raise UserError(
            f"{path}: {name} of {bad.sum()} of {len(bad)} films holds NaN or infinity; the sampling diverged there. "
            "Run the study again, or move the file away to report the rest"
        )


def _probabilities(arrays: dict[str, np.ndarray], n: int, path: Path) -> dict[str, np.ndarray]:
    prefix = "normal_probability_"
    found = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
    for judge, value in found.items():
        if value.shape != (n,):
            raise UserError(f"{path}: {prefix}{judge} has shape {value.shape}, expected ({n},), one for each film")
    return found


def _read_films(path: Path) -> Films | None:
    if not path.is_file():
        return None
    arrays = load(path)
    missing = {"key", "disease", "severity", "image", "cam"} - set(arrays)
    if missing:
        raise UserError(f"{path}: array(s) {', '.join(sorted(missing))} missing; run the study again")
    shape = arrays["image"].shape
    if len(shape) != 3:
        raise UserError(f"{path}: image has shape {shape}, expected (n, h, w)")
    _finite(arrays["image"], "image", path)
    _finite(arrays["cam"], "cam", path)
    for name in ("key", "disease", "severity", "cam", "twin", "lesion"):
        expected = shape if name in ("cam", "twin", "lesion") else shape[:1]
        if name in arrays and arrays[name].shape != expected:
            raise UserError(f"{path}: {name} has shape {arrays[name].shape}, expected {expected}")
    return Films(
        key=arrays["key"],
        disease=arrays["disease"].astype(bool),
        severity=arrays["severity"].astype(np.float64),
        image=arrays["image"],
        cam=arrays["cam"],
        twin=arrays.get("twin"),
        lesion=arrays.get("lesion"),
        probability=_probabilities(arrays, shape[0], path),
    )


def _read_treated(folder: Path, films: Films) -> dict[str, dict[int, Treated]]:
    treated: dict[str, dict[int, Treated]] = {}
    for path in sorted(folder.glob("*.npz")):
        match = _TREATED_FILE.fullmatch(path.name)
        if match is None:
            continue
        arrays = load(path)
        if "image" not in arrays or arrays["image"].shape != films.image.shape:
            found = arrays["image"].shape if "image" in arrays else "none"
            raise UserError(f"{path}: image has shape {found}, films.npz has {films.image.shape}; run the study again")
        _finite(arrays["image"], "image", path)
        probability = _probabilities(arrays, len(films.key), path)
        treated.setdefault(match["mode"], {})[int(match["lam"])] = Treated(arrays["image"], probability)
    return {mode: dict(sorted(by_lambda.items())) for mode, by_lambda in treated.items()}


def _read_masks(folder: Path, films: Films) -> dict[str, np.ndarray]:
    """The masks of every arm, where the run kept them; equal ones become one array, since many arms share theirs."""
    masks: dict[str, np.ndarray] = {}
    for name in ("masks.npz", PIXEL + "masks.npz"):
        path = folder / name
        for arm, mask in (load(path) if path.is_file() else {}).items():
            if mask.shape != films.image.shape:
                raise UserError(
                    f"{path}: {arm} has shape {mask.shape}, films.npz has {films.image.shape}; run the study again"
                )
            _finite(mask, arm, path)
            masks[arm] = next((known for known in masks.values() if np.array_equal(known, mask)), mask)
    return masks


def _read_residuals(path: Path) -> Residuals | None:
    arrays = load_checked(path, {"image": 3, "truth": 3, "key": 1})
    if arrays is None or not len(arrays["image"]):
        return None
    scored = load_checked(path, {"names": 1, "scores": 4}) or {}
    image, truth, scores = arrays["image"], arrays["truth"], scored["scores"]
    if truth.shape != image.shape or scores.shape[1:] != image.shape:
        raise UserError(
            f"{path}: image {image.shape}, truth {truth.shape} and scores {scores.shape} disagree; run the study again"
        )
    for name, score in zip(scored["names"], scores, strict=True):
        _finite(score, str(name), path)
    return Residuals(image, truth > 0.5, arrays["key"].astype(str), scored["names"].astype(str), scores)
