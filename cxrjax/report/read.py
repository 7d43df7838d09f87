"""Reads what a finished run left in its workdir, and checks it; nothing here draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.errors import UserError
from cxrjax.report.files import load, read_json, read_lines
from cxrjax.report.study import Channels, Maps, System, read_channels, read_maps, read_systems, titled

MODE_ORDER = ("uniform", "noise_matrix", "time_gated", "time_gated_hard", "mask_blend")
JUDGE_ORDER = ("independent", "cam_network")
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
class Run:
    """A finished run, in memory.

    `treated` is by mode, then lambda in rising order. `results` is all of results.json, `leaves` its numbers less the
    parts that are drawn as tables and figures. `systems`, `maps`, `channels` and `grid` are a classification study's.
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

    @property
    def name(self) -> str:
        """The run's name: the manifest's, else the config's, else the folder's."""
        config = self.manifest.get("config")
        named = config.get("name") if isinstance(config, dict) else None
        return str(self.manifest.get("name") or named or self.workdir.resolve().name)

    def leaf(self, *path: object) -> Leaf | None:
        """The leaf at a path of results.json, or None."""
        wanted = tuple(str(part) for part in path)
        return next((leaf for leaf in self.leaves if leaf.path == wanted), None)

    def children(self, *path: object) -> list[str]:
        """The names one level below a path, in the order of results.json."""
        wanted = tuple(str(part) for part in path)
        depth = len(wanted)
        below = (leaf.path[depth] for leaf in self.leaves if leaf.path[:depth] == wanted and len(leaf.path) > depth)
        return list(dict.fromkeys(below))

    def modes(self) -> list[str]:
        """Every treatment mode that the run has films or results of, the known ones in their usual order."""
        found = set(self.treated) | set(self.children("progress")) | set(self.children("control"))
        for judge in self.children("equal_rate"):
            for rate in self.children("equal_rate", judge):
                found |= set(self.children("equal_rate", judge, rate))
        return in_order(found - {"untreated"}, MODE_ORDER)

    def judges(self) -> list[str]:
        """Every judge of treated films, the independent one first."""
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
    if films is not None or "progress" in results:  # a treatment's page is about the treatment
        return run
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
    modes = in_order(set(treated), MODE_ORDER)
    return {mode: dict(sorted(treated[mode].items())) for mode in modes}
