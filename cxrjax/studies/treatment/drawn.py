"""The anatomy that a phantom was drawn with, as a measure: what a regression says of it, of treated films and of twins.

What no finding changes of a patient is known of a phantom. A ridge regression on 32x32 films of the training part, with
and without their lesion, learns to tell it; a treated film should tell what its healthy twin tells. How well it does on
held-out films stands beside the figures, and what it cannot tell there takes no part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxrjax import data
from cxrjax.data.phantom import anatomy as body
from cxrjax.errors import UserError
from cxrjax.metrics import bootstrap, entries
from cxrjax.phases import Context
from cxrjax.studies import floor
from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment import ranking
from cxrjax.types import Arrays, Results

# As they are on the film, in film heights where they are lengths.
PARAMETERS: dict[str, Callable[[body.Anatomy], float]] = {
    "thorax": lambda a: a.scale * a.geometry.width,
    "lungs": lambda a: a.scale * (a.geometry.dome[0] - a.geometry.apex),
    "heart": lambda a: a.scale * a.geometry.heart,
    "turn": lambda a: float(a.rotation),
    "aside": lambda a: a.offset[0],
    "down": lambda a: a.offset[1],
    "ribs": lambda a: a.rib_start,
    "fat": lambda a: a.fat,
    "breast": lambda a: a.breast,
    "air": lambda a: sum(a.air) / 2,
    "exposure": lambda a: a.exposure,
}
LEAST = 0.5  # held-out R2 below which a parameter takes no part
PENALTY = 1.0  # of the ridge, on gray levels in [0, 1]
MOST = 1000  # films that it learns from, and that it is tried on
ALL = "all"  # the mean over the parameters that take part
UNIT = "standard deviations"  # of the parameter among the training films
TITLE = "Drawn anatomy changed"  # how the title of the table begins


class Reader(NamedTuple):
    """A fitted regression.

    Attributes:
      names: of the parameters that it tells.
      center: (1024,), the mean of the small films.
      weights: (1024, k), to parameters in `UNIT`, 0 their mean.
    """

    names: tuple[str, ...]
    center: np.ndarray
    weights: np.ndarray

    def read(self, image: np.ndarray) -> Arrays:
        """By name, (n,) of films (n, h, w, 1) in [0, 1]."""
        told = (floor.small(image) - self.center) @ self.weights
        return dict(zip(self.names, told.T, strict=True))


def check_films(films: data.Prepared) -> None:
    """Raises UserError for films that nobody drew."""
    if not films.has_truth:
        raise UserError("study.anatomy is on: what a film was drawn with is known of phantoms alone; set it to False")


def of_patients(patients: np.ndarray) -> np.ndarray:
    """The parameters (n, k) of phantoms by the names of their patients."""
    drawn = (body.draw(int(str(name).removeprefix("phantom"))) for name in patients)
    return np.array([[of(anatomy) for of in PARAMETERS.values()] for anatomy in drawn])


def learn(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `center` (d,) and `weights` (d, k) of a ridge regression from rows (n, d) to targets (n, k) about 0."""
    from sklearn.linear_model import Ridge

    return x.mean(axis=0), np.atleast_2d(Ridge(alpha=PENALTY).fit(x, y).coef_).T


def explained(said: np.ndarray, truth: np.ndarray) -> Results:
    """R2 with its interval by resampling patients, of two films each: said (2, n), truth (n,)."""

    def r2(wrong: np.ndarray, truth: np.ndarray) -> float:
        return float(1 - wrong.mean() / truth.var())

    wrong = np.square(said - truth).mean(axis=0)
    return entries.entry(*bootstrap.interval(r2, (wrong, truth)), n=len(truth), unit="1")


def fit(context: Context) -> tuple[Reader, Results]:
    """Learns on the training part and tries on the held-out one.

    Returns:
      the regression, of the parameters that it tells there, and `r2` of every one by name.
    """
    films = context.films
    x, y = _rows(films, "train")
    center, spread = y.mean(axis=0), y.std(axis=0)
    middle, weights = learn(np.concatenate(x), np.concatenate([(y - center) / spread] * 2))
    asked, truth = _rows(films, films.held_out)
    said, truth = (asked - middle) @ weights, (truth - center) / spread
    told = {name: {"r2": explained(said[..., i], truth[:, i])} for i, name in enumerate(PARAMETERS)}
    sure = [i for i, entry in enumerate(told.values()) if entry["r2"]["value"] >= LEAST]
    names = tuple(PARAMETERS)
    return Reader(tuple(names[i] for i in sure), middle, weights[:, sure]), told


def _rows(films: data.Prepared, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Small films of a part (2, n, 1024) float64, as they are and as their twins are, and their parameters (n, k)."""
    patients = films.table(split)["patient"][:MOST]
    found = data.films(films, split, np.arange(len(patients)))
    both = np.stack([floor.small(found[kind]) for kind in ("image", "twin")])
    return both.astype(np.float64), of_patients(patients)


def changed(twin: Arrays, treated: Arrays) -> Arrays:
    """How far treated films (n,) are from their twins, by parameter and in the mean over `ALL` of them; in `UNIT`."""
    gaps = {name: np.abs(treated[name] - twin[name]) for name in twin}
    return {ALL: np.mean(list(gaps.values()), axis=0), **gaps} if gaps else {}


def tables(out: Results, modes: tuple[str, ...], judge: str, level: float) -> list[Table]:
    """Every arm at a normal rate, beside how well each parameter is told; none where it was not asked for."""
    if "anatomy" not in out:
        return []
    r2 = {name: entry["r2"] for name, entry in out["anatomy"].items()}
    names = [name for name, entry in r2.items() if entry["value"] >= LEAST]
    at = out["equal_rate"].get(judge, {}).get(str(level), {})
    untreated = out["progress"]["untreated"].get("anatomy", {})
    rows = [
        ("held-out R2", [None, None, *(r2[name] for name in names)]),
        ("untreated", [untreated.get(ALL), None, *(untreated.get(name) for name in names)]),
    ]
    for mode in ranking.order(out, modes, judge, str(level)):
        found = at.get(mode, {}).get("anatomy", {})
        cells = [found.get(ALL, {}).get(kind) for kind in ("value", "difference")]
        rows.append((mode, [*cells, *(found.get(name, {}).get("value") for name in names)]))
    left = ", ".join(f"{name} ({entry['value']:.2f})" for name, entry in r2.items() if name not in names)
    note = (
        "How far a treated film is from its healthy twin in what the phantom was drawn with, by a ridge regression on "
        "32x32 films, in standard deviations among training films; at equal rate, in the order of the ranking. It "
        "rewards an anatomy that stays, and doing nothing: what untreated films have is the lesion's doing. Means over "
        f"the parameters that the regression tells on held-out films (R2 of {LEAST:g} and more)"
        f"{f'; left out, with their R2: {left}' if left else ''}."
    )
    columns = ["all of them", ranking.LESS, *names]
    return [table(f"{TITLE} at normal rate {level:g}", note, columns, rows)]
