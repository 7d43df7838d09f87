"""The films of the page: which to show, and one sprite sheet for each film and mode, all lambdas side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrjax.files import name_of
from cxrjax.report.draw.overlay import cam_overlay, difference_sheet, resized
from cxrjax.report.draw.png import data_uri, encode_png, gray_to_uint8, save_synthetic_png
from cxrjax.report.draw.style import spread
from cxrjax.report.read.treatment import Films, Treatment
from cxrjax.report.read.workdir import is_number
from cxrjax.report.treatment import arms

FILMS, FEWEST = 16, 5  # shown films, at most and at least; a quarter are healthy controls
_BUDGET = 7_300_000  # pixels of all sprite sheets: 6 MB of page where every film is noisy
_SMALLEST, _LARGEST = 64, 160  # pixels on a side of a shown film, unless films are smaller


@dataclass(frozen=True)
class Sprite:
    """One film under one mode: data URIs of the treated films and of their signed differences from the original."""

    mode: str
    treated: str
    difference: str


@dataclass(frozen=True)
class Row:
    """One film's row on the page. `twin` is None where no healthy twin is known."""

    key: str
    disease: bool
    severity: float | None
    original: str
    cam: str
    twin: str | None
    sprites: list[Sprite]


@dataclass(frozen=True)
class Strips:
    """All rows; `lambdas[0]` is 0, the untreated film. `live` is what the page's script reads (JSON-ready).

    `at_first` are the arms shown before a reader asks for others, `left_out` those that the page has no room for.
    """

    rows: list[Row]
    lambdas: list[int]
    tile: tuple[int, int]
    shrunk: bool
    total: int
    live: dict[str, Any]
    at_first: list[str]
    left_out: list[str]


def choose_films(films: Films, diseased: int, controls: int) -> list[int]:
    """Indices of diseased films spread evenly over severity (unknown last), then of healthy controls.

    The spread is by rank: a choice by hand would show the best.
    """
    order = np.lexsort((np.arange(len(films.key)), films.severity))  # NaN sorts last
    sick, well = order[films.disease[order]].tolist(), order[~films.disease[order]].tolist()
    return [sick[i] for i in spread(len(sick), diseased)] + [well[i] for i in spread(len(well), controls)]


@dataclass(frozen=True)
class Plan:
    """What of a run the page has room for: films by index, arms, and the size `(h, w)` that films are shown at."""

    films: list[int]
    modes: list[str]
    tile: tuple[int, int]


def plan(run: Treatment, films: Films) -> Plan:
    """Films stay large enough to see: of many arms fewer films are shown, and of very many the last-ranked arms go."""
    modes, shape = list(run.treated), films.image.shape[1:]
    lambdas = len({0} | {lam for by_lambda in run.treated.values() for lam in by_lambda})
    smallest = min(_SMALLEST, max(shape))
    sheets = _BUDGET // (2 * lambdas * smallest**2)
    count = min(FILMS, max(FEWEST, sheets // max(1, len(modes))))
    room = max(arms.AT_FIRST, sheets // count)
    if len(modes) > room:
        kept = dict.fromkeys((*arms.at_first(run, modes), *arms.ranked(run)))
        best = [mode for mode in kept if mode in modes][:room]
        modes = [mode for mode in modes if mode in best]
    chosen = choose_films(films, count - max(1, count // 4), max(1, count // 4))
    affordable = math.sqrt(_BUDGET / max(1, 2 * len(chosen) * len(modes) * lambdas))
    side = min(_LARGEST, max(smallest, affordable))
    scale = min(1.0, side / max(shape))
    return Plan(chosen, modes, (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))))


def build(run: Treatment) -> Strips | None:
    """The strips of a run, or None where it has no films."""
    films = run.films
    if films is None:
        return None
    planned = plan(run, films)
    lambdas = sorted({0} | {lam for by_lambda in run.treated.values() for lam in by_lambda})
    rows = [_row(run, films, index, planned.modes, lambdas, planned.tile) for index in planned.films]
    probability = {mode: _probability(run, films, mode, planned.films, lambdas) for mode in planned.modes}
    rates = {mode: _rates(run, mode, lambdas) for mode in planned.modes}
    present = {mode: [lam == 0 or lam in run.treated[mode] for lam in lambdas] for mode in planned.modes}
    live = {"lambdas": lambdas, "probability": probability, "rates": rates, "present": present}
    shrunk, left_out = planned.tile != films.image.shape[1:], [m for m in run.treated if m not in planned.modes]
    first = arms.at_first(run, planned.modes)
    return Strips(rows, lambdas, planned.tile, shrunk, len(films.key), live, first, left_out)


def export(run: Treatment, folder: Path) -> None:
    """Writes the shown films as they were treated, one PNG a mode and lambda at full size, each labeled synthetic."""
    if run.films is None:
        return
    for index in plan(run, run.films).films:
        key = str(run.films.key[index])
        for mode, by_lambda in run.treated.items():
            for lam, treated in by_lambda.items():
                path = folder / f"{name_of(key)}_{mode}_{lam:04d}.png"
                save_synthetic_png(path, treated.image[index], Source=key, Mode=mode, Lambda=str(lam))


def _row(run: Treatment, films: Films, index: int, modes: list[str], lambdas: list[int], tile: tuple[int, int]) -> Row:
    original = resized(films.image[index], tile)
    sprites = []
    for mode in modes:
        by_lambda = run.treated[mode]
        pictures = [
            resized(by_lambda[lam].image[index], tile) if lam in by_lambda else original for lam in lambdas
        ]  # where a mode lacks a lambda, the page's script hides the tile
        treated = np.concatenate(pictures, axis=1)  # (h, lambdas * w)
        difference = treated - np.tile(original, (1, len(lambdas)))
        sprites.append(
            Sprite(
                mode,
                data_uri(encode_png(gray_to_uint8(treated), synthetic=True)),
                data_uri(encode_png(difference_sheet(difference), synthetic=True)),
            )
        )
    severity = float(films.severity[index])
    twin = None if films.twin is None else data_uri(encode_png(gray_to_uint8(resized(films.twin[index], tile)), False))
    overlay = cam_overlay(original, resized(films.cam[index], tile))
    return Row(
        key=str(films.key[index]),
        disease=bool(films.disease[index]),
        severity=severity if math.isfinite(severity) else None,
        original=data_uri(encode_png(gray_to_uint8(original), synthetic=False)),
        cam=data_uri(encode_png(overlay, synthetic=False)),
        twin=twin,
        sprites=sprites,
    )


def _probability(
    run: Treatment, films: Films, mode: str, chosen: list[int], lambdas: list[int]
) -> dict[str, list[list[float | None]]]:
    """By judge: for each shown film, the probability of "normal" at each lambda; None where it was not measured."""
    table: dict[str, list[list[float | None]]] = {}
    judges = {judge for treated in run.treated[mode].values() for judge in treated.probability} | set(films.probability)
    for judge in sorted(judges):
        by_lambda = []
        for lam in lambdas:
            source = run.treated[mode][lam].probability if lam in run.treated[mode] else {}
            if lam == 0 and not source:
                source = films.probability
            by_lambda.append(source.get(judge))
        table[judge] = [[None if p is None else _finite(float(p[i])) for p in by_lambda] for i in chosen]
    return table


def _rates(run: Treatment, mode: str, lambdas: list[int]) -> dict[str, list[float | None]]:
    """By judge: the normal rate of all diseased films at each lambda."""
    rates = {}
    for judge in run.judges:
        curve = {lam: entry.value for lam, entry in run.curve("progress", mode, "normal_rate", judge)}
        untreated = run.entry("progress", "untreated", "normal_rate", judge)
        if untreated is not None and is_number(untreated.value):
            curve.setdefault(0, untreated.value)
        rates[judge] = [curve.get(lam) for lam in lambdas]
    return rates


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
