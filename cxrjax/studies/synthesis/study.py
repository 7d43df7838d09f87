"""The study of a generator of films: how far its films are from patients', what they show, what they are good for."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from cxrjax import data
from cxrjax.data import prepared
from cxrjax.errors import UserError, lookup
from cxrjax.infer import finished, generator
from cxrjax.infer.classifier import Classifier
from cxrjax.metrics import scoring
from cxrjax.ops import conditions
from cxrjax.phases import Context
from cxrjax.studies import footing
from cxrjax.studies.arrays import write_arrays
from cxrjax.studies.synthesis import fdd, features, shown, tables, use
from cxrjax.tasks import gan
from cxrjax.types import Results

STEPS = 7  # films from one finding to the next


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
    elif missing := set(classes) - set(finished.classes_of(config, config.fdd.own_phase)):
        raise UserError(f"{config.fdd.own_phase}.classes lacks {min(missing)}, which data.classes has")
    lookup(dict.fromkeys(("train", prepared.ALL)), phase.part, f"{study.gan_phase}.part")
    unknown = [layer for layer in config.fdd.layers if layer not in features.LAYERS]
    if unknown:
        raise UserError(f"fdd.layers has {unknown[0]!r}: expected some of {', '.join(features.LAYERS)}")
    if study.baseline_run:
        run = finished.load(study.baseline_run)
        run.phase_of("gan")
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
    """The part that generated films are held against."""
    return "train" if config.study.reference == "train" else films.held_out


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses films without a part to compare with; returns what a reader has to know.

    Raises:
      UserError: no held-out part.
    """
    split = split_of(config, films)
    if not films.splits.get(split):
        raise UserError("the films have no test and no validation part to hold generated films against; set data.carve")
    notes = []
    if split in shown.trained_on(config):
        notes.append("The reference films of every distance were in the generator's training set.")
    classes = (*config.data.classes, conditions.NORMAL)
    label = data.labels.select(films.table(split)["labels"], films.columns, tuple(config.data.classes))
    count = np.bincount(class_of(config, label), minlength=len(classes))
    few = [f"{name} ({n})" for name, n in zip(classes, count, strict=True) if n < 2 * len(config.data.classes)]
    if few:
        notes.append(f"Too few films of the {split} part for a distance: {', '.join(few)}.")
    if config.study.baseline_run:
        run = finished.load(config.study.baseline_run)
        ours = footing.Side("the proposed generator", config, config.study.gan_phase)
        notes += footing.notes([(ours, footing.Side("the baseline", run.config, run.phase_of("gan")))])
    return notes


def reference(context: Context) -> shown.Reference:
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
    return shown.Reference(split, index, condition[index], image, table["patient"][index], table["key"][index])


def run(context: Context) -> Results:
    """Makes films of every model, measures them, shows how they are made, and tries what they are good for."""
    config, study = context.config, context.config.study
    folder = context.workdir / "synthesis"
    network = features.of(context)
    real = reference(context)
    phase, mesh = config[study.gan_phase], context.mesh
    own = generator.of(phase, context.states[study.gan_phase], context.classes, mesh)
    generators = [own, generator.untrained(phase, context.classes, config.data.size, config.seed, mesh)]
    if study.baseline_run:
        generators.insert(1, finished.load(study.baseline_run, mesh).generator())
    context.log.say(f"synthesis: {len(real.place):,} {real.split} films, as many of each of {len(generators)} models")

    def looked(image: np.ndarray, condition: np.ndarray, patients: np.ndarray) -> fdd.Sets:
        return fdd.Sets(features.extract(network, image, study.batch), condition, patients)

    films, sets = {}, {}
    for trained in generators:
        z = generator.noise(trained.options, len(real.place), config.seed + 1)
        films[trained.name] = trained.films(z, generator.codes(trained.options, real.condition), study.batch)
        sets[trained.name] = looked(films[trained.name][-1], real.condition, np.arange(len(real.place)).astype(str))
    real_sets = looked(real.image, real.condition, real.patient)
    with threadpool_limits(1):  # small matrices: threads would wait for each other
        results = _measure(context, network, real, real_sets, sets)
    results["memorization"] = shown.write_neighbors(context, real, films[own.name][-1])
    trained_films = {name: found for name, found in films.items() if name != generator.UNTRAINED}
    shown.write_shown(context, network, real, own, trained_films)
    write_arrays(folder / "interpolation.npz", **shown.interpolation(own, STEPS, config.seed + 2, study.batch))
    if found := shown.attention(own, config.seed + 3):
        write_arrays(folder / "attention.npz", **found)
    results["use"] = use.run(context, own, class_of)
    results["model"] = own.name
    results["feature_network"] = network.source
    results["tables"] = tables.make(results, context, own.names)
    results["headline"] = tables.headline(results)
    return results


def _measure(
    context: Context, network: Classifier, real: shown.Reference, real_sets: fdd.Sets, sets: dict[str, fdd.Sets]
) -> Results:
    config, classes = context.config, tuple(context.config.data.classes)
    names = (*classes, conditions.NORMAL)
    draws, seed = config.fdd.draws, config.seed
    own = next(iter(sets))
    baseline = next((name for name in list(sets)[1:] if name != generator.UNTRAINED), None)
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
