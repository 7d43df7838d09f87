"""The study of a generator of films: how far its films are from patients', what they show, what they are good for."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from cxrjax import data
from cxrjax.infer import finished
from cxrjax.infer import generator as made
from cxrjax.metrics import bootstrap, scoring
from cxrjax.ops import conditions
from cxrjax.studies import floor
from cxrjax.studies.arrays import write_arrays
from cxrjax.studies.classification import predictions
from cxrjax.studies.synthesis import fdd, features, tables, use
from cxrjax.tasks import gan
from cxrjax.types import Results, UserError

SHOWN = 4  # films a class on the page
STEPS = 7  # films from one finding to the next
NEAREST = 8  # pairs on the page
BLINDED = 24  # films of each kind in the blinded reading


class Reference(NamedTuple):
    """The real films that made ones are held against.

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


def check(config: Any) -> None:
    """Refuses before any training what the study could not do.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    study, classes = config.study, tuple(config.data.classes)
    if study.gan_phase not in config.phases:
        raise UserError(f"study.gan_phase = {study.gan_phase!r} is none of the phases {', '.join(config.phases)}")
    phase = config[study.gan_phase]
    if phase.task != "gan":
        raise UserError(f"study.gan_phase = {study.gan_phase!r} has task {phase.task!r}: expected gan")
    sizes = sorted(int(name.removeprefix("d")) for name in gan.networks(phase).d)
    if sizes[-1] != config.data.size:
        raise UserError(
            f"data.size is {config.data.size}, the largest scale of {study.gan_phase} {sizes[-1]}; set both"
        )
    if conditions.NORMAL in classes:
        raise UserError("data.classes names Normal; a generator's classes are the findings, and no finding is Normal")
    if config.fdd.run:
        features.check(config.fdd.run, config.fdd.phase, classes)
    elif config.fdd.own_phase not in config.phases:
        raise UserError(f"fdd.own_phase = {config.fdd.own_phase!r} is no phase, and fdd.run is empty; set one of them")
    unknown = [layer for layer in config.fdd.layers if layer not in features.LAYERS]
    if unknown:
        raise UserError(f"fdd.layers has {unknown[0]!r}: expected some of {', '.join(features.LAYERS)}")
    if study.baseline_run:
        run = finished.open_run(study.baseline_run)
        finished.phase_of(run, "gan")
        if run.classes != classes or run.config.data.size != config.data.size:
            raise UserError(
                f"study.baseline_run = {study.baseline_run}: it makes films of {run.config.data.size} px of "
                f"{', '.join(run.classes)}, this run of {config.data.size} px of {', '.join(classes)}"
            )
    use.check(config)


def class_of(config: Any, labels: np.ndarray) -> np.ndarray:
    """(n, k) labels -> (n,) position of each film's one class by the priority rule, Normal last."""
    options = gan.options_of(config[config.study.gan_phase], tuple(config.data.classes))
    rank = conditions.ranks(options.classes, options.priority)
    return np.asarray(conditions.number(conditions.first_of(jnp.asarray(labels), rank)))


def split_of(config: Any, films: data.Prepared) -> str:
    """The part that made films are held against."""
    return "train" if config.study.reference == "train" else films.held_out


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses films without a part to compare with; returns what a reader has to know.

    Raises:
      UserError: no held-out part.
    """
    split = split_of(config, films)
    if not films.splits.get(split):
        raise UserError("the films have no test and no validation part to hold made films against; set data.carve")
    notes = []
    if split == "train":
        notes.append("The reference films of every distance were in the generator's training set, as in the paper.")
    classes = (*config.data.classes, conditions.NORMAL)
    label = data.labels.select(films.table(split)["labels"], films.columns, tuple(config.data.classes))
    count = np.bincount(class_of(config, label), minlength=len(classes))
    few = [f"{name} ({n})" for name, n in zip(classes, count, strict=True) if n < 2 * len(config.data.classes)]
    if few:
        notes.append(f"Too few films of the {split} part for a distance: {', '.join(few)}.")
    return notes


def reference(context: Any) -> Reference:
    """The held-out films by their class, at most `study.cap` of each, drawn by the run's seed."""
    config, films = context.config, context.films
    split = split_of(config, films)
    table = films.table(split)
    label = data.labels.select(table["labels"], films.columns, tuple(config.data.classes))
    condition = class_of(config, label)
    rng = np.random.default_rng(config.seed)
    kept = [rng.permutation(np.flatnonzero(condition == i))[: config.study.cap] for i in range(condition.max() + 1)]
    index = np.sort(np.concatenate(kept))
    image = np.rint(data.films(films, split, index)["image"][..., 0] * 255).astype(np.uint8)
    return Reference(split, index, condition[index], image, table["patient"][index], table["key"][index])


def run(context: Any) -> Results:
    """Makes films of every model, measures them, shows how they are made, and tries what they are good for."""
    config, study = context.config, context.config.study
    folder = context.workdir / "synthesis"
    network = features.of(context)
    real = reference(context)
    own = made.own(context, study.gan_phase)
    generators = [own, made.untrained(context, study.gan_phase)]
    if study.baseline_run:
        generators.insert(1, made.another(context, study.baseline_run))
    context.log.say(f"synthesis: {len(real.place):,} {real.split} films, as many of each of {len(generators)} models")

    def looked(image: np.ndarray, condition: np.ndarray, patients: np.ndarray) -> fdd.Sets:
        return fdd.Sets(features.extract(context, network, image, study.batch), condition, patients)

    films, sets = {}, {}
    for generator in generators:
        z, c = (
            made.noise(generator.options, len(real.place), config.seed + 1),
            made.codes(generator.options, real.condition),
        )
        films[generator.name] = made.films(context, generator, z, c, study.batch)
        sets[generator.name] = looked(films[generator.name][-1], real.condition, np.arange(len(real.place)).astype(str))
    real_sets = looked(real.image, real.condition, real.patient)
    with threadpool_limits(1):  # small matrices: threads would wait for each other
        results = _measure(context, network, real, real_sets, sets)
    results["memorization"] = _neighbors(context, real, films[own.name][-1])
    _write_shown(context, network, real, own, {name: found for name, found in films.items() if name != made.UNTRAINED})
    write_arrays(folder / "interpolation.npz", **made.interpolation(context, own, STEPS, config.seed + 2, study.batch))
    if found := made.attention(context, own, config.seed + 3):
        write_arrays(folder / "attention.npz", **found)
    results["use"] = use.run(context, own, class_of)
    results["model"] = own.name
    results["feature_network"] = network.source
    results["tables"] = tables.make(results, context, own.names)
    results["headline"] = tables.headline(results)
    return results


def _measure(
    context: Any, network: features.Network, real: Reference, real_sets: fdd.Sets, sets: dict[str, fdd.Sets]
) -> Results:
    config, classes = context.config, tuple(context.config.data.classes)
    names = (*classes, conditions.NORMAL)
    draws, seed = config.fdd.draws, config.seed
    own = next(iter(sets))
    baseline = next((name for name in list(sets)[1:] if name != made.UNTRAINED), None)
    columns = [network.column(name) for name in classes]
    table = context.films.table(real.split)
    label = data.labels.select(table["labels"], context.films.columns, classes)[real.place]
    out: Results = {"fdd": {}, "notes": [], "width": {}}
    for layer in config.fdd.layers:
        found, means, notes = fdd.by_class(real_sets, sets, layer, names, draws, seed)
        entry: Results = {"by_class": found, "mean": means}
        if baseline:
            entry["minus_baseline"] = fdd.mean_difference(
                real_sets, sets[own], sets[baseline], layer, names, draws, seed
            )
        out["fdd"][layer] = entry
        out["width"][layer] = int(real_sets.features[layer].shape[1])
        out["notes"] += notes
    out["asked"] = {name: fdd.asked(found, names, columns, draws, seed) for name, found in sets.items()}
    out["inception_score"] = fdd.inception({"real": real_sets, **sets})
    scored = scoring.multilabel(label, real_sets.features["prob"][:, columns], real.patient, classes)
    out["classifier"] = {real.split: {"auroc": scored["auroc"], "per_class": {
        name: {"auroc": found["auroc"]} for name, found in scored["per_class"].items() if "auroc" in found
    }}}  # fmt: skip
    return out


def _neighbors(context: Any, real: Reference, image: np.ndarray) -> Results:
    """Each made film's distance to the nearest training film, against what held-out films of patients have."""
    train, _ = predictions.films_of(context, "train")
    as_rows = [floor.small(films[..., None] / np.float32(255)) for films in (image, real.image)]
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    (made_distance, place), (held_out, _) = (search.kneighbors(rows) for rows in as_rows)
    made_distance, held_out = made_distance[:, 0] / 32, held_out[:, 0] / 32  # root mean square of gray levels
    closest = np.argsort(made_distance)[:NEAREST]
    nearest = data.films(context.films, "train", place[closest, 0])["image"][..., 0]
    write_arrays(
        context.workdir / "synthesis" / "neighbors.npz", made=image[closest],
        nearest=np.rint(nearest * 255).astype(np.uint8), distance=made_distance[closest],
        made_distance=made_distance, held_out_distance=held_out,
    )  # fmt: skip
    limit = float(np.quantile(held_out, 0.01))
    n, close = len(made_distance), int((made_distance < limit).sum())
    unit = "gray level"
    return {
        "closer_than_1_percent_of_held_out": bootstrap.leaf(*bootstrap.wilson(close, n), n=n, unit="fraction"),
        "median_distance": bootstrap.leaf(*bootstrap.interval(np.median, (made_distance,)), n=n, unit=unit),
        "median_distance_held_out": bootstrap.leaf(
            *bootstrap.interval(np.median, (held_out,), real.patient), n=len(held_out), unit=unit
        ),
    }


def _write_shown(
    context: Any,
    network: features.Network,
    real: Reference,
    own: made.Generator,
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
            else features.maps(context, network, image[place], finding, batch) for finding, place in rows
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
