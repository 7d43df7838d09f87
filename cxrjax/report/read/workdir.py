"""Reads what a finished run left in its workdir, and checks it; nothing here draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.report.read.classification import Channels, Maps, System, read_channels, read_maps, read_systems, titled
from cxrjax.report.read.files import load, load_checked, read_json, read_lines

MODE_ORDER = ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend")
JUDGE_ORDER = ("independent", "cam_network")
PIXEL = "pixel_"  # before the name of an arm that another run's diffusion walked, in pixel space
# Parts of results.json that the page draws as tables, figures and the headline.
DRAWN = ("tables", "headline", "ntk", "seeds")
_TREATED_FILE = re.compile(r"(?P<mode>.+)_(?P<lam>\d{4,})\.npz")


@dataclass(frozen=True)
class Leaf:
    """One result: its path in results.json, its value, a 95 % interval where there is one, and what it counts."""

    path: tuple[str, ...]
    value: Any
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""


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


@dataclass(frozen=True)
class Run:
    """A finished run, in memory.

    `treated` is by mode, then lambda in rising order; `masks` (n, h, w) is by mode, one array for all that share it.
    `results` is all of results.json, `leaves` its numbers less the parts that are drawn as tables and figures.
    `systems`, `maps`, `channels` and `grid` are a classification study's, `residuals` an anomaly study's.
    """

    workdir: Path
    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]
    leaves: list[Leaf]
    films: Films | None
    treated: dict[str, dict[int, Treated]]
    notes: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    systems: list[System] = field(default_factory=list)
    maps: Maps | None = None
    channels: Channels | None = None
    grid: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    residuals: Residuals | None = None

    @property
    def name(self) -> str:
        """The run's name: the manifest's, else the config's, else the folder's."""
        config = self.manifest.get("config")
        named = config.get("name") if isinstance(config, dict) else None
        return str(self.manifest.get("name") or named or self.workdir.resolve().name)

    @property
    def study(self) -> dict[str, Any]:
        """`study` of the config, empty where the manifest has none."""
        config = self.manifest.get("config")
        found = config.get("study") if isinstance(config, dict) else None
        return found if isinstance(found, dict) else {}

    @cached_property
    def _by_path(self) -> dict[tuple[str, ...], Leaf]:
        return {leaf.path: leaf for leaf in reversed(self.leaves)}

    @cached_property
    def _below(self) -> dict[tuple[str, ...], dict[str, None]]:
        """The names one level below each path, in order: a page of many arms asks for thousands."""
        found: dict[tuple[str, ...], dict[str, None]] = {}
        for leaf in self.leaves:
            for depth, name in enumerate(leaf.path):
                found.setdefault(leaf.path[:depth], {})[name] = None
        return found

    def leaf(self, *path: object) -> Leaf | None:
        """The leaf at a path of results.json, or None."""
        return self._by_path.get(tuple(str(part) for part in path))

    def children(self, *path: object) -> list[str]:
        """The names one level below a path, in the order of results.json."""
        return list(self._below.get(tuple(str(part) for part in path), ()))

    def modes(self) -> list[str]:
        """Every treatment arm that the run has films or results of, in the order of `arm_order`."""
        return list(self._modes)

    @cached_property
    def _modes(self) -> list[str]:
        found = set(self.treated) | set(self.children("progress")) | set(self.children("control"))
        for judge in self.children("equal_rate"):
            for rate in self.children("equal_rate", judge):
                found |= set(self.children("equal_rate", judge, rate))
        return arm_order(found - {"untreated"}, self.study)

    def judges(self) -> list[str]:
        """Every judge of treated films, the independent one first."""
        return list(self._judges)

    @cached_property
    def _judges(self) -> list[str]:
        found = {leaf.path[-1] for leaf in self.leaves if leaf.path[-2:-1] == ("normal_rate",)}
        for by_lambda in self.treated.values():
            for treated in by_lambda.values():
                found |= set(treated.probability)
        return in_order(found | set(self.children("equal_rate")), JUDGE_ORDER)

    def curve(self, group: str, mode: str, *measure: str) -> list[tuple[int, Leaf]]:
        """The leaves `group.mode.lambda.measure` with a finite value, by rising lambda."""
        points = []
        for name in self.children(group, mode):
            leaf = self.leaf(group, mode, name, *measure)
            if name.isdecimal() and leaf is not None and is_number(leaf.value):
                points.append((int(name), leaf))
        return sorted(points, key=lambda point: point[0])


def is_number(value: object) -> bool:
    """Whether a value is a finite number (True and False are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def in_order(names: set[str], known: tuple[str, ...]) -> list[str]:
    """The names, the known ones first and in their order, the others by the alphabet."""
    return [name for name in known if name in names] + sorted(names - set(known))


def arm_order(names: set[str], study: dict[str, Any]) -> list[str]:
    """Arms in the order of every figure and table: the known modes, the others as `study.modes` lists them, the rest.

    The arms of another run's diffusion (`pixel_...`) come after all of them, in the same order.
    """
    known = tuple(dict.fromkeys((*MODE_ORDER, *map(str, study.get("modes") or ()))))
    return in_order(names, (*known, *(PIXEL + name for name in known)))


def leaves_of(tree: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Walks nested results: a dict whose "value" is not itself a dict is a leaf, and so is whatever is no dict."""
    if not isinstance(tree, dict):
        yield Leaf(path, tree)
    elif "value" in tree and not isinstance(tree["value"], dict):
        yield Leaf(path, tree["value"], tree.get("low"), tree.get("high"), tree.get("n"), str(tree.get("unit") or ""))
    else:
        for name, below in tree.items():
            yield from leaves_of(below, (*path, str(name)))


def read_run(workdir: Path) -> Run:
    """Reads a workdir. Only manifest.json must be there; what else is missing is left out, and noted if unusual.

    Raises:
      UserError: no manifest, a file that cannot be read, or arrays whose shapes disagree.
    """
    workdir = Path(workdir)
    if not (workdir / "manifest.json").is_file():
        raise UserError(f"{workdir}: no manifest.json here; give the workdir of a finished run")
    manifest = read_json(workdir / "manifest.json")
    notes: list[str] = []
    results: dict[str, Any] = {}
    if (workdir / "results.json").is_file():
        results = read_json(workdir / "results.json")
    else:
        notes.append("results.json is missing: the run may not have finished, and this page has no numbers.")
    numbers = leaves_of({name: tree for name, tree in results.items() if name not in DRAWN})
    leaves = [leaf for leaf in numbers if not isinstance(leaf.value, list)]  # a list is drawn, or a table's
    metrics = read_lines(workdir / "metrics.jsonl")
    films = _read_films(workdir / "progress" / "films.npz")
    treated = _read_treated(workdir / "progress", films) if films is not None else {}
    run = Run(workdir, manifest, metrics, leaves, films, treated, notes, results)
    if films is not None:
        ordered = {mode: treated[mode] for mode in run.modes() if mode in treated}
        return replace(run, treated=ordered, masks=_read_masks(workdir / "progress", films))
    if "progress" in results:  # a treatment's page is about the treatment
        return run
    if (residuals := _read_residuals(workdir / "anomaly" / "films.npz")) is not None:
        return replace(run, residuals=residuals)
    systems = titled(read_systems(workdir / "predictions", notes), manifest.get("config"))
    maps, channels = read_maps(workdir / "maps.npz"), read_channels(workdir / "enh.npz")
    searched = results.get("grid")
    phase = searched.get("phase") if isinstance(searched, dict) else None
    grid = read_lines(workdir / str(phase or "grid") / "rows.jsonl")
    return replace(run, systems=systems, maps=maps, channels=channels, grid=grid)


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
