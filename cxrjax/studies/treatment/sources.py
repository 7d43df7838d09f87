"""The films that a treatment study takes: of the run's own held-out part, and of each set from elsewhere.

Of each source some films are treated, and its healthy films tell how far a judge can be believed there: untreated ones
it should call normal, at its own threshold and at one that is set on a few healthy films of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxrjax import data
from cxrjax.data import external
from cxrjax.data.sources.base import digest
from cxrjax.errors import UserError
from cxrjax.metrics import entries, thresholds
from cxrjax.phases import Context
from cxrjax.studies.tables import Table, ends, table
from cxrjax.types import Arrays, Results

INSIDE = "inside"  # the name of the run's own films as a source
OWN = 0.5  # a judge's own threshold, of the probability of Normal
SHARE = 0.9  # of a source's healthy films that a threshold set on them calls normal
TRUSTED = 0.8  # share of healthy films called normal below which a judge is warned of


class Source(NamedTuple):
    """The films of one source.

    Attributes:
      name: `INSIDE`, or the set's in `data.external`.
      films, split: where they are.
      keep: (n,) positions of the films that are treated, the diseased first.
      sick: (n,) bool, which of them are diseased.
      held: positions of healthy films that thresholds are set on, one a patient, of no patient who is treated or asked.
      asked: positions of untreated healthy films that judges are tried on, one a patient.
    """

    name: str
    films: data.Prepared
    split: str
    keep: np.ndarray
    sick: np.ndarray
    held: np.ndarray
    asked: np.ndarray

    def read(self, rows: np.ndarray) -> dict[str, Any]:
        """Its films at some positions, as `data.films`."""
        return data.films(self.films, self.split, rows)

    def folder(self, root: Path) -> Path:
        """Where its treated films go: `root` inside, else a folder of these very films."""
        if self.name == INSIDE:
            return root
        keys = self.films.table(self.split)["key"][self.keep].tolist()
        return root / "external" / f"{self.name}-{digest({'films': self.films.fingerprint, 'keys': keys})[:12]}"


def every(context: Context) -> dict[str, data.Prepared]:
    """The films of every source of a run, its own first."""
    return {INSIDE: context.films, **context.external}


def labels(config: Any, name: str, films: data.Prepared) -> np.ndarray:
    """(n, k) labels of a source's films by the run's classes."""
    if name != INSIDE:
        return external.labels(config, name, films)
    return data.labels.select(films.table(films.held_out)["labels"], films.columns, tuple(config.data.classes))


def known(config: Any, name: str, films: data.Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Positions (m,) and labels (m, k) of a source's films; outside of those of known class alone."""
    if name != INSIDE:
        taken = external.take(config, name, films, exclusive=True)
        return taken.keep, taken.label
    label = labels(config, name, films)
    return np.arange(len(label)), label


def of(config: Any, name: str, films: data.Prepared) -> Source:
    """The films that a progress study takes of a source.

    Raises:
      UserError: unknown labels inside, or films of one kind only.
    """
    study, split, normal = config.study, films.held_out, tuple(config.data.classes).index(data.labels.NORMAL)
    rows, label = known(config, name, films)
    if np.isnan(label).any():
        raise UserError(f"the {split} part has films of unknown label; the progress study needs every label of it")
    patients = films.table(split)["patient"][rows]
    counts = study if name == INSIDE else study.outside
    try:
        chosen = choose(label, normal, patients, counts.num_diseased, counts.num_controls, config.seed)
    except UserError as error:
        raise UserError(f"{where(name, split)} {error}") from error
    return with_healthy(config, name, films, rows[chosen], label[chosen, normal] != 1, rows, label)


def with_healthy(
    config: Any,
    name: str,
    films: data.Prepared,
    keep: np.ndarray,
    sick: np.ndarray,
    rows: np.ndarray,
    label: np.ndarray,
) -> Source:
    """A source whose treated films are chosen, with its healthy ones.

    Args:
      config: the run's.
      name: of the source.
      films: of it.
      keep, sick: see `Source`.
      rows, label: see `known`.
    """
    normal = tuple(config.data.classes).index(data.labels.NORMAL)
    patients = films.table(films.held_out)["patient"]
    held, asked = healthy(
        label[:, normal] == 1, patients[rows], np.isin(patients[rows], patients[keep]), config.study.num_threshold,
        config.study.num_healthy, config.seed,
    )  # fmt: skip
    return Source(name, films, films.held_out, keep, sick, rows[held], rows[asked])


def choose(
    label: np.ndarray, normal: int, patients: np.ndarray, num_diseased: int, num_controls: int, seed: int
) -> np.ndarray:
    """Indices of diseased films, then of healthy controls: one film a patient, so that films are independent.

    Raises:
      UserError: there are none of one kind.
    """
    out = []
    for name, value, count in (("diseased", 0, num_diseased), ("normal", 1, num_controls)):
        pool = one_each(label[:, normal] == value, patients, seed)  # a film of unknown label is neither
        if not len(pool):
            raise UserError(f"has no {name} film; the progress study needs both kinds")
        out.append(np.sort(pool[:count]))
    return np.concatenate(out)


def healthy(
    normal: np.ndarray, patients: np.ndarray, studied: np.ndarray, count: int, most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of healthy films that thresholds are set on, and of those that judges are tried on: one film a patient.

    Args:
      normal: (m,) bool, whether a film is healthy.
      patients: (m,).
      studied: (m,) bool, whether the film's patient is treated, on whom no threshold is set.
      count: films to set thresholds on; at most half of the patients that are left.
      most: films that judges are tried on; the controls of `choose`, of the same seed, are among the first.
      seed: of the choice.
    """
    pool = one_each(normal, patients, seed)
    free = pool[~studied[pool]]
    held = free[len(free) - min(count, len(free) // 2) :]
    return np.sort(held), np.sort(pool[~np.isin(pool, held)][:most])


def one_each(wanted: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    """Indices of the wanted films in a seeded order, the first of each patient alone."""
    order = np.random.default_rng(seed).permutation(len(wanted))
    pool = order[wanted[order]]
    return pool[np.sort(np.unique(patients[pool], return_index=True)[1])]


def notes(config: Any, source: Source) -> list[str]:
    """What a reader has to know of the films that a progress study found."""
    counts, controls = config.study if source.name == INSIDE else config.study.outside, ~source.sick
    found = {
        "diseased films": (int(source.sick.sum()), counts.num_diseased),
        "healthy controls": (int(controls.sum()), counts.num_controls),
        "healthy films to set thresholds on": (len(source.held), config.study.num_threshold),
    }
    place = where(source.name, source.split)
    return [
        f"{place[0].upper()}{place[1:]} has {some} patients with {kind}, fewer than the {asked} asked for."
        for kind, (some, asked) in found.items()
        if some < asked
    ]


def where(name: str, split: str) -> str:
    """A source in words."""
    return f"the {split} part" if name == INSIDE else f"data.external.{name}"


class Judged(NamedTuple):
    """What a source's untreated healthy films tell of its judges.

    Attributes:
      figures: by judge, `normal` and `normal_set`, the share that it calls normal at its own and at the set threshold,
        and that `threshold`; empty where there are no such films.
      cuts: by judge, the set threshold of the probability of Normal; empty where there is no film to set it on.
      pooled: (m, d) features of healthy films that are not treated.
    """

    figures: Results
    cuts: dict[str, float]
    pooled: np.ndarray


def judge(source: Source, score: Callable[[np.ndarray], Arrays], judges: tuple[str, ...]) -> Judged:
    """Tries judges on a source's untreated healthy films; `score` as `sweep.scorer` gives it."""
    rows = np.concatenate([source.held, source.asked])
    if not len(rows):
        return Judged({}, {}, np.zeros((0, 1), np.float32))
    said, held = score(source.read(rows)["image"]), len(source.held)
    out, cuts = {}, {}
    for name in judges:
        normal = said[f"normal_probability_{name}"].astype(np.float64)
        if held < len(rows):
            out[name] = {"normal": entries.rate(normal[held:] > OWN)}
        if held:
            cuts[name] = thresholds.at_share(normal[:held], SHARE)
            out.setdefault(name, {})["threshold"] = entries.plain(cuts[name], held, "1")
        if 0 < held < len(rows):
            out[name]["normal_set"] = entries.rate(normal[held:] > cuts[name])
    return Judged(out, cuts, said["pooled"][~np.isin(rows, source.keep)])


def judges_table(found: Mapping[str, Results]) -> Table:
    """How many untreated healthy films of each source each judge calls normal.

    Args:
      found: `Judged.figures` by source.
    """
    rows = [
        (f"{_words(name)}, {source}", [one.get(key) for key in ("normal", "threshold", "normal_set")])
        for name in dict.fromkeys(name for by_judge in found.values() for name in by_judge)
        for source, by_judge in found.items()
        if (one := by_judge.get(name))
    ]
    note = (
        f"One film a patient; Wilson intervals. A judge calls a film normal where its probability of Normal is above "
        f"{OWN:g}, or above a threshold that {SHARE:.0%} of a few other healthy films of the same source lie above, of "
        f"patients who are in no other figure. One that calls fewer than {TRUSTED:g} of these films normal measures "
        "the source more than the treatment."
    )
    columns = ["called normal", "threshold set on healthy films", "called normal at the set threshold"]
    return table("Healthy untreated films called normal", note, columns, rows)


def sentences(found: Mapping[str, Results], name: str) -> list[str]:
    """How many healthy untreated films of each source a judge calls normal; nothing where there are none."""
    known = {source: by_judge[name] for source, by_judge in found.items() if "normal" in by_judge.get(name, {})}
    parts = [f"{ends(one['normal'])} {_of(source)}" for source, one in known.items()]
    return [f"Its {_words(name)} calls a share of {' and '.join(parts)} normal."] if parts else []


def warnings(found: Mapping[str, Results]) -> list[str]:
    """A sentence on each judge that calls fewer than `TRUSTED` of a source's healthy untreated films normal."""
    return [
        f"The {_words(name)} calls a share of {ends(one['normal'])} {_of(source)} normal, less than {TRUSTED:g}: how "
        "many treated films it calls normal there says more of the source than of the treatment; read the rates at the "
        "threshold that was set on healthy films of that source."
        for source, by_judge in found.items()
        for name, one in by_judge.items()
        if "normal" in one and one["normal"]["value"] < TRUSTED
    ]


def _words(judge: str) -> str:
    return {"independent": "independent judge", "cam_network": "CAM network"}.get(judge, judge)


def _of(source: str) -> str:
    return "of healthy untreated films " + ("of this run's own set" if source == INSIDE else f"of {source}")


def check_names(config: Any) -> None:
    """Raises UserError where a set from elsewhere has the name of the run's own films."""
    if taken := [name for name in config.data.get("external", {}) if re.fullmatch(INSIDE, name, re.IGNORECASE)]:
        raise UserError(f"data.external.{taken[0]}: the run's own films are called so in figures; give another name")
