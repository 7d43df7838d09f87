"""Treatments again: of a film by other seeds, of a film once treated, and back, where a mode has a way back.

Monteiro et al. 2023, "Measuring axiomatic soundness of counterfactual image models": a counterfactual to what is so
already must change nothing, however often (composition), and one to the other and back must return (reversibility). To
treat a healthy film is the first; few modes have the second, since most know normal films alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax.errors import UserError
from cxrjax.infer.arms import Arm
from cxrjax.metrics import counterfactual, entries, similarity
from cxrjax.ops import guidance
from cxrjax.studies.arrays import read_arrays, there, write_arrays
from cxrjax.studies.tables import Table, table
from cxrjax.studies.treatment.sweep import Job, Part, Sweep, make_masks, run_jobs
from cxrjax.types import Results

FOLDER = "again"  # below that of the films
GRAY = "gray level"
COLUMNS = {
    ("spread", "inside"): "spread over seeds, in the mask",
    ("spread", "outside"): "outside it",
    ("sure", "inside"): "pixels changed beyond the seeds' interval, in the mask",
    ("sure", "outside"): "outside it",
    ("covered", "inside"): "twin within the seeds' interval, in the lesion",
    ("composition", "once"): "healthy film, change after one treatment",
    ("composition", "twice"): "after two",
    ("composition", "drift"): "the second alone",
    ("repeated", "whole"): "diseased film, change by a second treatment",
    ("reversed", "whole"): "there and back, error to the film",
}


class Block(NamedTuple):
    """Films (n, h, w, 1) that some arms treat by noise of these keys (n, ...), into one folder."""

    name: str
    image: np.ndarray
    keys: np.ndarray
    arms: tuple[Arm, ...]


def check(study: Any) -> None:
    """Refuses before any training a lambda that no arm is run at, or a single seed.

    Raises:
      UserError: names the key and what was expected.
    """
    again = study.again
    if not again["lambda"]:
        return
    if again["lambda"] not in study.lambdas:
        raise UserError(f"study.again.lambda = {again['lambda']}: expected one of study.lambdas, "
                        f"{', '.join(map(str, study.lambdas))}, or 0 for nothing")  # fmt: skip
    if again.seeds < 2 or again.films < 1:
        raise UserError(f"study.again has seeds = {again.seeds}, films = {again.films}; expected 2 or more, 1 or more")


def chosen(sick: np.ndarray, most: int) -> np.ndarray:
    """Positions of the first diseased films and of the first controls (n,), at most so many of each."""
    return np.concatenate([np.flatnonzero(sick)[:most], np.flatnonzero(~sick)[:most]])


def other_keys(keys: np.ndarray, number: int) -> np.ndarray:
    """Key data (n, ...) of another draw for each film."""
    folded = jax.vmap(lambda key: jax.random.fold_in(key, number))(jax.random.wrap_key_data(jnp.asarray(keys)))
    return np.asarray(jax.random.key_data(folded))


def blocks(
    image: np.ndarray, keys: np.ndarray, arms: tuple[Arm, ...], treated: Callable[[str], np.ndarray], seeds: int
) -> list[Block]:
    """What is treated again.

    Args:
      image: films (n, h, w, 1).
      keys: (n, ...), those of the first treatment.
      arms: which treat them.
      treated: `name of an arm -> (n, h, w, 1)`, the films after the first treatment.
      seeds: the first one's noise and as many others as make this number.
    """
    out = [Block(f"seed{i}", image, other_keys(keys, i), arms) for i in range(1, seeds)]
    for arm in arms:
        done = treated(arm.name)
        out.append(Block(f"twice_{arm.name}", done, other_keys(keys, seeds), (arm,)))
        if back := guidance.MODES[arm.mode].back:
            options = tuple(sorted((dict(arm.options) | dict(back)).items()))
            out.append(Block(f"back_{arm.name}", done, other_keys(keys, seeds), (arm._replace(options=options),)))
    return out


def run(whole: Sweep, arms: tuple[Arm, ...], lam: int, seeds: int, rows: np.ndarray) -> Path:
    """Treats some films of a finished sweep's first source again; `again/<block>/<arm>.npz` with `image` (m, h, w).

    Args:
      whole: the sweep.
      arms: that it ran.
      lam: a lambda that it ran them at.
      seeds: how many, the first among them.
      rows: (m,) positions in the first source.

    Returns:
      the folder.
    """
    own = whole.parts[0]
    root = own.folder / FOLDER

    def treated(name: str) -> np.ndarray:
        return read_arrays(own.folder / f"{name}_{lam:04d}.npz")["image"][rows][..., None]

    every = blocks(own.of(whole.image)[rows], own.of(whole.keys)[rows], arms, treated, seeds)
    n = len(rows)
    parts = tuple(Part(root / block.name, i * n, (i + 1) * n) for i, block in enumerate(every))
    jobs = [
        Job(arm, lam, part.folder / f"{arm.name}.npz", part)
        for part, block in zip(parts, every, strict=True) for arm in block.arms
    ]  # fmt: skip
    if all(there([job.path for job in jobs])):
        return root
    again = whole._replace(
        image=np.concatenate([block.image for block in every]), keys=np.concatenate([block.keys for block in every]),
        parts=parts,
    )  # fmt: skip
    # A second treatment looks for its own mask in the film that it is given.
    run_jobs(
        again, jobs, make_masks(again, arms), lambda job, films, _: write_arrays(job.path, image=films[..., 0]), "again"
    )
    return root


def measured(
    image: np.ndarray,
    sick: np.ndarray,
    mask: np.ndarray,
    repeats: np.ndarray,
    twice: np.ndarray,
    back: np.ndarray | None = None,
    twin: np.ndarray | None = None,
    lesion: np.ndarray | None = None,
) -> Results:
    """The figures of one arm, entries by measure and place as in `COLUMNS`.

    Args:
      image: films (n, h, w).
      sick: (n,) bool, the others are healthy.
      mask: (n, h, w) bool, inside and outside of which the seeds are told.
      repeats: (seeds, n, h, w) treated films, the first seed's the ones that `twice` and `back` begin with.
      twice, back: (n, h, w), those treated once more, and taken back.
      twin, lesion: (n, h, w), where the truth is known.
    """
    once, healthy = repeats[0], ~sick
    spread, (low, high) = counterfactual.spread(repeats), counterfactual.seed_interval(repeats)
    out: dict[str, dict[str, Results]] = {"spread": {}, "sure": {}}
    for where, region in (("inside", mask), ("outside", ~mask)):
        out["spread"][where] = entries.mean(similarity.mae(spread, np.zeros_like(spread), region)[sick], GRAY)
        out["sure"][where] = entries.mean(1 - counterfactual.within(image, low, high, region)[sick], "fraction")
    if twin is not None and lesion is not None:
        out["covered"] = {"inside": entries.mean(counterfactual.within(twin, low, high, lesion)[sick], "fraction")}
    if healthy.any():
        changes = {"once": similarity.mae(image, once), "twice": similarity.mae(image, twice),
                   "drift": similarity.mae(once, twice)}  # fmt: skip
        out["composition"] = {name: entries.mean(values[healthy], GRAY) for name, values in changes.items()}
    out["repeated"] = {"whole": entries.mean(similarity.mae(once, twice)[sick], GRAY)}
    if back is not None:
        out["reversed"] = {"whole": entries.mean(similarity.mae(image, back)[sick], GRAY)}
    return out


def results(folder: Path, root: Path, arms: tuple[Arm, ...], lam: int, seeds: int, rows: np.ndarray) -> Results:
    """`measured` of every arm by name, of the files of a finished sweep in `folder` and of `run` in `root`."""
    films = {name: value[rows] for name, value in read_arrays(folder / "films.npz").items() if value.ndim}
    out = {}
    for arm in arms:
        first = read_arrays(folder / f"{arm.name}_{lam:04d}.npz")["image"][rows]
        of = {path.parent.name: read_arrays(path)["image"] for path in sorted(root.glob(f"*/{arm.name}.npz"))}
        repeats = np.stack([first, *(of[f"seed{i}"] for i in range(1, seeds))])
        out[arm.name] = measured(
            films["image"], films["disease"], films["cam"] > 0.5, repeats, of[f"twice_{arm.name}"],
            of.get(f"back_{arm.name}"), films.get("twin"), films.get("lesion"),
        )  # fmt: skip
    return out


def tables(found: Results, lam: int, seeds: int) -> list[Table]:
    """Every arm, in the order of `found`."""
    there = [key for key in COLUMNS if any(key[0] in entry for entry in found.values())]
    rows = [(name, [entry.get(measure, {}).get(where) for measure, where in there]) for name, entry in found.items()]
    note = (
        f"Some diseased films and some healthy ones at lambda {lam}, not at equal rate: read it beside the normal "
        f"rates there. Spread: standard deviation over {seeds} seeds, of diseased films; it rewards a model that "
        "leaves open what a film does not decide, and noise as well; 0 draws nothing. Changed beyond the interval: "
        "the film lies outside 95 % of what one more seed would draw; it rewards change that no chance explains, "
        "wherever it is. Healthy films treated once and twice: composition, 0 is sound; it rewards changing nothing. "
        "A second treatment of a diseased film: it rewards being done after the first. There and back: "
        "reversibility, of modes that have a way back; it rewards losing nothing of the patient, and doing nothing."
    )
    return [table("Treated again", note, [COLUMNS[key] for key in there], rows)]
