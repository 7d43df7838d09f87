"""What a page shows of a generator: its films, walks between findings, its attention, the nearest patients' films."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from cxrjax import data
from cxrjax.data.prepared import ALL
from cxrjax.infer import generator
from cxrjax.infer.classifier import Classifier
from cxrjax.infer.generator import Generator
from cxrjax.metrics import bootstrap, entries
from cxrjax.ops import conditions
from cxrjax.phases import Context
from cxrjax.studies import floor
from cxrjax.studies.arrays import write_arrays
from cxrjax.studies.synthesis import features
from cxrjax.tasks import gan
from cxrjax.types import Array, Results, State

SHOWN = 4  # films a class on the page
NEAREST = 8  # pairs on the page
BLINDED = 24  # films of each kind in the blinded reading
# Where attention is looked at: both lungs, the heart and the diaphragm, as shares of the side (row, column).
POINTS = ((0.4, 0.3), (0.4, 0.7), (0.6, 0.55), (0.8, 0.3))


class Reference(NamedTuple):
    """The real films that generated ones are held against.

    Attributes:
      split: the part that they are of.
      place: (n,) positions in it.
      condition: (n,) position of their class, Normal last.
      image: (n, s, s) uint8.
      patient, key: (n,) str.
    """

    split: str
    place: np.ndarray
    condition: np.ndarray
    image: np.ndarray
    patient: np.ndarray
    key: np.ndarray


def trained_on(config: Any) -> tuple[str, ...]:
    """The parts of the films that the generator trained on."""
    part = config[config.study.gan_phase].get("part", "train")
    return ("train", "val", "test", part) if part == ALL else (part,)


def write_neighbors(context: Context, real: Reference, image: np.ndarray) -> Results:
    """Each generated film's distance to the nearest training film, against what held-out films of patients have.

    A reference film that was trained on is held against the others.
    """
    from sklearn.neighbors import NearestNeighbors

    part = trained_on(context.config)[-1]
    train, _ = floor.films_of(context, part)
    as_rows = [floor.small(films[..., None] / np.float32(255)) for films in (image, real.image)]
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(train)
    (made_distance, place), (held_out, _) = (search.kneighbors(rows) for rows in as_rows)
    itself = int(real.split in trained_on(context.config))
    made_distance, held_out = made_distance[:, 0] / 32, held_out[:, itself] / 32  # root mean square of gray levels
    closest = np.argsort(made_distance)[:NEAREST]
    nearest = data.films(context.films, part, place[closest, 0])["image"][..., 0]
    write_arrays(
        context.workdir / "synthesis" / "neighbors.npz", made=image[closest],
        nearest=np.rint(nearest * 255).astype(np.uint8), distance=made_distance[closest],
        made_distance=made_distance, held_out_distance=held_out,
    )  # fmt: skip
    limit = float(np.quantile(held_out, 0.01))
    n, close = len(made_distance), int((made_distance < limit).sum())
    unit = "gray level"
    return {
        "closer_than_1_percent_of_held_out": entries.entry(*bootstrap.wilson(close, n), n=n, unit="fraction"),
        "median_distance": entries.entry(*bootstrap.interval(np.median, (made_distance,)), n=n, unit=unit),
        "median_distance_held_out": entries.entry(
            *bootstrap.interval(np.median, (held_out,), real.patient), n=len(held_out), unit=unit
        ),
    }


def write_shown(
    context: Context,
    network: Classifier,
    real: Reference,
    own: Generator,
    films: dict[str, tuple[np.ndarray, ...]],
) -> None:
    """The films of the page: evenly through each class, not picked."""
    folder, batch = context.workdir / "synthesis", context.config.study.batch
    order = [len(own.names) - 1, *range(len(own.names) - 1)]  # Normal first
    rows = []
    for i in order:
        place = np.flatnonzero(real.condition == i)
        if len(place):
            rows.append((own.names[i], place[np.linspace(0, len(place) - 1, SHOWN).astype(int)]))
    groups = {"real": real.image, "made": films[own.name][-1]}
    for found in [found for name, found in films.items() if name != own.name]:
        groups["baseline"] = found[-1]
    out: dict[str, np.ndarray] = {"finding": np.array([name for name, _ in rows])}
    for name, image in groups.items():
        out[name] = np.stack([image[place] for _, place in rows])
        maps = [
            np.full((SHOWN, *image.shape[1:]), np.nan) if finding == conditions.NORMAL
            else features.maps(network, image[place], finding, batch) for finding, place in rows
        ]  # fmt: skip
        out[f"{name}_map"] = np.stack(maps).astype(np.float32)
    write_arrays(folder / "shown.npz", **out)
    scales = {f"made_{found.shape[1]}": np.stack([found[place[:2]] for _, place in rows]) for found in films[own.name]}
    write_arrays(folder / "scales.npz", finding=out["finding"], **scales)
    chosen = np.random.default_rng(context.config.seed + 4).permutation(len(real.place))[: 2 * BLINDED]
    ours, theirs = chosen[::2], chosen[1::2]
    finding = np.array(own.names)[real.condition]
    write_arrays(
        folder / "blinded.npz", real=real.image[theirs], made=films[own.name][-1][ours],
        real_name=real.key[theirs].astype(str), made_name=np.array([f"made-{i}" for i in ours]),
        real_finding=finding[theirs], made_finding=finding[ours],
    )  # fmt: skip


def interpolation(trained: Generator, steps: int, seed: int, batch: int) -> dict[str, np.ndarray]:
    """One noise vector while the condition moves from each class to the next, from Normal to begin with."""
    names = (trained.names[-1], *trained.names[:-1])
    ends = generator.codes(trained.options, np.array([trained.names.index(name) for name in names]))
    share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    path = np.concatenate([(1 - share) * a + share * b for a, b in itertools.pairwise(ends)])
    z = np.repeat(generator.noise(trained.options, 1, seed), len(path), axis=0)
    walk = trained.films(z, path, batch)[-1]
    return {
        "start": np.array(names[:-1]), "end": np.array(names[1:]),
        "films": walk.reshape(len(names) - 1, steps, *walk.shape[1:]),
    }  # fmt: skip


def attention(trained: Generator, seed: int) -> dict[str, np.ndarray]:
    """A film of each class and where the attention of a few of its points goes; empty for a network without any."""
    n = len(trained.names)
    options = trained.options
    z, c = generator.noise(options, n, seed), generator.codes(options, np.arange(n))

    @jax.jit
    def look(state: State, z: Array, c: Array) -> tuple[Array, dict[str, Array]]:
        variables = gan.variables_of(options, state)
        tau = gan.sampling_tau(options, state.step)
        scales, _, endpoints = gan.generate(trained.nets.g, variables, z, c, tau, False)
        return generator.to_uint8(0.5 * (scales[-1][..., 0] + 1)), endpoints

    film, endpoints = look(trained.state, z, c)
    if "query" not in endpoints:
        return {}
    query, key = np.asarray(endpoints["query"], np.float64), np.asarray(endpoints["key"], np.float64)
    side = round(query.shape[1] ** 0.5)
    at = [min(int(row * side), side - 1) * side + min(int(column * side), side - 1) for row, column in POINTS]
    scores = np.einsum("bqd,bnd->bqn", query[:, at], key)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    small = round(key.shape[1] ** 0.5)
    return {
        "film": np.asarray(film), "finding": np.array(trained.names),
        "point": np.broadcast_to(np.array(POINTS), (n, len(POINTS), 2)).copy(),
        "map": weights.reshape(n, len(POINTS), small, small).astype(np.float32),
    }  # fmt: skip
