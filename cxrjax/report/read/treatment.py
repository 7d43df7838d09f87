"""What a study of treated films entries in its workdir beside its numbers: films, treated films, masks, residuals."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.report.read.files import check, each, load, load_checked
from cxrjax.report.read.workdir import Entry, Run, is_number

MODE_ORDER = ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend")
JUDGE_ORDER = ("independent", "cam_network")
PIXEL = "pixel_"  # before the name of an arm that another run's diffusion walked, in pixel space
_TREATED_FILE = re.compile(r"(?P<mode>.+)_(?P<lam>\d{4,})\.npz")
_NORMAL = "normal_probability_"  # before the name of a judge
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
    """The same films after one mode of treatment at one lambda: (h, w) of those shown, by index, and (n,) per judge."""

    image: Mapping[int, np.ndarray]
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

    `treated` is by mode, then lambda in rising order; `masks` is by mode, (h, w) of the films shown by index, one
    object for all that share it.
    """

    films: Films | None = None
    treated: dict[str, dict[int, Treated]] = field(default_factory=dict)
    masks: dict[str, Mapping[int, np.ndarray]] = field(default_factory=dict)

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

    def curve(self, group: str | tuple[str, ...], mode: str, *measure: str) -> list[tuple[int, Entry]]:
        """The entries `group.mode.lambda.measure` with a finite value, by rising lambda."""
        points, place = [], (group,) if isinstance(group, str) else group
        for name in self.children(*place, mode):
            entry = self.entry(*place, mode, name, *measure)
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


def read(run: Run, shown: Callable[[Treatment], Iterable[int]] | None = None) -> Treatment:
    """The films, treated films and masks of `progress/`.

    Args:
      run: of the workdir.
      shown: says, of a run whose films are not treated yet, which ones will be drawn: of those alone are treated films
        and masks kept in memory, whatever the number of films. None keeps all.

    Raises:
      UserError: a file that cannot be read, or arrays whose shapes disagree.
    """
    folder = run.workdir / "progress"
    films = _read_films(folder / "films.npz")
    if films is None:
        return run.extended(Treatment)
    paths = _treated_files(folder)
    bare = {mode: {lam: Treated({}, {}) for lam in by_lambda} for mode, by_lambda in paths.items()}
    found = run.extended(Treatment, films=films, treated=bare)
    rows = range(len(films.key)) if shown is None else sorted({*shown(found)})
    treated = {
        mode: {lam: _read_treated(path, films, rows) for lam, path in paths[mode].items()}
        for mode in found.modes if mode in paths
    }  # fmt: skip
    return replace(found, treated=treated, masks=_read_masks(folder, films, rows))


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


def _shape(films: Films) -> str:
    return " ".join(map(str, films.image.shape))


def _probabilities(arrays: dict[str, np.ndarray], n: int, path: Path) -> dict[str, np.ndarray]:
    found = {key: value for key, value in arrays.items() if key.startswith(_NORMAL)}
    check(path, found, dict.fromkeys(found, str(n)))
    return {key.removeprefix(_NORMAL): value for key, value in found.items()}


def _read_films(path: Path) -> Films | None:
    films = dict.fromkeys(("image", "cam", "twin?", "lesion?"), "n h w")
    arrays = load_checked(path, films | dict.fromkeys(("key", "disease", "severity"), "n"))
    if arrays is None:
        return None
    _finite(arrays["image"], "image", path)
    _finite(arrays["cam"], "cam", path)
    return Films(
        key=arrays["key"],
        disease=arrays["disease"].astype(bool),
        severity=arrays["severity"].astype(np.float64),
        image=arrays["image"],
        cam=arrays["cam"],
        twin=arrays.get("twin"),
        lesion=arrays.get("lesion"),
        probability=_probabilities(arrays, len(arrays["key"]), path),
    )


def _treated_files(folder: Path) -> dict[str, dict[int, Path]]:
    """The files of treated films by mode, then lambda in rising order."""
    paths: dict[str, dict[int, Path]] = {}
    for path in folder.glob("*.npz"):
        if match := _TREATED_FILE.fullmatch(path.name):
            paths.setdefault(match["mode"], {})[int(match["lam"])] = path
    return {mode: dict(sorted(by_lambda.items())) for mode, by_lambda in sorted(paths.items())}


def _kept(image: np.ndarray, rows: Sequence[int]) -> dict[int, np.ndarray]:
    return {i: image[i].copy() for i in rows}  # a view would hold all of them


def _read_treated(path: Path, films: Films, rows: Sequence[int]) -> Treated:
    arrays = load(path)
    check(path, arrays, {"image": _shape(films)})
    _finite(arrays["image"], "image", path)
    return Treated(_kept(arrays["image"], rows), _probabilities(arrays, len(films.key), path))


def _read_masks(folder: Path, films: Films, rows: Sequence[int]) -> dict[str, Mapping[int, np.ndarray]]:
    """The masks of every arm, where the run kept them; equal ones become one object, since many arms share theirs."""
    masks: dict[str, Mapping[int, np.ndarray]] = {}
    known: dict[bytes, Mapping[int, np.ndarray]] = {}
    for name in ("masks.npz", PIXEL + "masks.npz"):
        path = folder / name
        for arm, mask in each(path) if path.is_file() else ():
            check(path, {arm: mask}, {arm: _shape(films)})
            _finite(mask, arm, path)
            digest = hashlib.sha256(np.ascontiguousarray(mask, np.float32).tobytes()).digest()
            masks[arm] = known.setdefault(digest, _kept(mask, rows))
    return masks


def _read_residuals(path: Path) -> Residuals | None:
    axes = {"image": "n h w", "truth": "n h w", "key": "n", "names": "k", "scores": "k n h w"}
    if (arrays := load_checked(path, axes)) is None:
        return None
    for name, score in zip(arrays["names"], arrays["scores"], strict=True):
        _finite(score, str(name), path)
    names, key = arrays["names"].astype(str), arrays["key"].astype(str)
    return Residuals(arrays["image"], arrays["truth"] > 0.5, key, names, arrays["scores"])
