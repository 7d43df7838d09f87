"""The whole progress study of a run: score the classifiers, choose the films, sweep, and gather every figure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.infer import arms, classifier, diffusion, masks, treat
from cxrjax.infer.batches import in_batches
from cxrjax.infer.finished import ROLES
from cxrjax.metrics import entries, similarity
from cxrjax.phases import Context
from cxrjax.studies.arrays import read_arrays, write_arrays
from cxrjax.studies.treatment import classifiers, measures, pixels, ranking, realism, solvers, sweep
from cxrjax.types import Results


def check(config: Any) -> None:
    """Refuses before any training what the sweep could not do.

    Raises:
      UserError: a missing phase, classifiers that are no judges of Normal against one disease, an arm that could not be
        run, or a pixel run of other films.
    """
    study = config.study
    for key in ("cam_phase", "judge_phase", "diffusion_phase"):
        if study[key] not in config.phases:
            raise UserError(f"study.{key} = {study[key]!r} is none of the phases {', '.join(config.phases)}")
    for key in ("cam_phase", "judge_phase"):
        classifier.check_normal(config[study[key]], tuple(config.data.classes))
    arms.check(config)
    solvers.check(config)
    if study.pixel_run:
        pixels.check(config)


def held_out_labels(config: Any, films: data.Prepared) -> tuple[str, np.ndarray, np.ndarray]:
    """The held-out part, its labels (n, 2), and the indices of the study's films: diseased first, then controls.

    Raises:
      UserError: unknown labels, or films of one kind only.
    """
    split, classes, study = films.held_out, tuple(config.data.classes), config.study
    table = films.table(split)
    label = data.labels.select(table["labels"], films.columns, classes)
    if np.isnan(label).any():
        raise UserError(f"the {split} part has films of unknown label; the progress study needs every label of it")
    normal = classes.index("Normal")
    chosen = choose(label, normal, table["patient"], study.num_diseased, study.num_controls, config.seed)
    return split, label, chosen


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses before any training films that the study could not use; returns what a reader has to know.

    Raises:
      UserError: see `held_out_labels`.
    """
    split, label, chosen = held_out_labels(config, films)
    normal = tuple(config.data.classes).index("Normal")
    controls = int((label[chosen, normal] == 1).sum())
    notes = []
    for name, found, asked in (
        ("diseased films", len(chosen) - controls, config.study.num_diseased),
        ("healthy controls", controls, config.study.num_controls),
    ):
        if found < asked:
            notes.append(f"The {split} part has {found} patients with {name}, fewer than the {asked} asked for.")
    if split == "val":
        notes.append("There is no test part: figures are of the validation part, which phases may have selected by.")
    return notes


def choose(
    label: np.ndarray, normal: int, patients: np.ndarray, num_diseased: int, num_controls: int, seed: int
) -> np.ndarray:
    """Indices of diseased films, then of healthy controls: one film a patient, so that films are independent.

    Raises:
      UserError: there are none of one kind.
    """
    order = np.random.default_rng(seed).permutation(len(label))
    out = []
    for name, value, count in (("diseased", 0, num_diseased), ("normal", 1, num_controls)):
        pool = order[label[order, normal] == value]  # a film of unknown label is neither
        if not len(pool):
            raise UserError(f"the held-out part has no {name} film; the progress study needs both kinds")
        first = np.sort(np.unique(patients[pool], return_index=True)[1])
        out.append(np.sort(pool[first][:count]))
    return np.concatenate(out)


def _healthy(
    context: Context, score: Callable[[np.ndarray], dict[str, np.ndarray]], label: np.ndarray, keep: np.ndarray
) -> np.ndarray:
    """Features (n, d) of the held-out healthy films that are not treated."""
    normal = tuple(context.config.data.classes).index("Normal")
    rest = np.setdiff1d(np.flatnonzero(label[:, normal] == 1), keep)
    films = data.films(context.films, context.films.held_out, rest)["image"] if len(rest) else None
    return np.zeros((0, 1), np.float32) if films is None else score(films)["pooled"]


def shared(context: Context, image: np.ndarray) -> sweep.Sweep:
    """What every treatment of the run's films shares."""
    config, states, mesh = context.config, context.states, context.mesh
    study, classes = config.study, tuple(config.data.classes)
    seen = [name for name in config.phases if config[name].task in classifier.TASKS]
    looking = {
        name: classifier.of(config[name], states[name], classes, config.data.size, mesh, source=f"phase {name}")
        for name in seen
    }
    trained = [name for name in config.phases if config[name].task in arms.DIFFUSIONS]
    return sweep.Sweep(
        image, {name: diffusion.of(config[name], states[name], mesh) for name in trained}, looking,
        {role: looking[study[key]] for role, key in ROLES.items() if study[key] in looking},
        context.workdir / "progress", mesh, study.batch, treat.keys_of(config.seed, len(image)), context.log.console,
    )  # fmt: skip


def _round_trip(whole: sweep.Sweep, study: Any, sick: np.ndarray) -> Results:
    """What the autoencoder alone does to the diseased films, where the diffusion is of latents."""
    system = whole.diffusions[study.diffusion_phase]
    if system.codec is None:
        return {}

    @jax.jit
    def through(variables: Any, image: Any) -> Any:
        return diffusion.round_trip(system._replace(variables=variables), image)

    image = whole.image[sick]
    back = in_batches(whole.mesh, whole.batch, partial(through, system.variables), image)
    same = {"mae": similarity.mae, "ssim": similarity.ssim, "psnr": similarity.psnr}
    figures = {k: entries.mean(f(image[..., 0], back[..., 0]), measures.UNITS[k]) for k, f in same.items()}
    return {"round_trip": figures}


def run(context: Context) -> Results:
    """Scores, sweep and figures; the films and every treated film go to `progress/*.npz`."""
    config, films, workdir = context.config, context.films, context.workdir
    study, classes = config.study, tuple(config.data.classes)
    split, label, keep = held_out_labels(config, films)
    chosen = data.films(films, split, keep)
    sick = label[keep, classes.index("Normal")] != 1
    whole = shared(context, chosen["image"])
    out = classifiers.score_all(context, tuple(whole.classifiers), 1 - classes.index("Normal"))

    listed = arms.of(study)
    made = sweep.run(whole, listed, tuple(study.lambdas))
    base = masks.base(study)
    cam = masks.make((base,), whole.classifiers, whole.image, whole.mesh, whole.batch)[base][..., 0]
    truth = {}
    if chosen["twin"] is not None:
        lesion = np.any(np.stack(list(chosen["masks"].values())), axis=0)
        truth = {"twin": chosen["twin"][..., 0], "lesion": lesion}
    untreated = read_arrays(workdir / "progress" / "untreated.npz")
    before = {name: value for name, value in untreated.items() if name.startswith("normal_probability_")}
    write_arrays(
        workdir / "progress" / "films.npz", key=np.asarray(chosen["key"], dtype=str), disease=sick,
        severity=chosen["severity"], image=chosen["image"][..., 0], cam=cam, **before, **truth,
    )  # fmt: skip

    names, roles = tuple(study.modes), tuple(whole.scoring)
    if study.pixel_run:
        names += pixels.run(context, whole)
    healthy = realism.reference(_healthy(context, sweep.scorer(whole), label, keep), int(sick.sum()))
    out |= measures.results(workdir, names, tuple(study.lambdas), roles, healthy)
    lost = (cam.reshape(len(cam), -1).max(axis=1) == 0)[sick]
    out["progress"]["untreated"]["empty_mask"] = entries.rate(lost)
    out["tables"] = ranking.tables(out, names, "independent", measures.LEVELS, bool(truth))
    out["tables"].append(classifiers.table(out, tuple(whole.classifiers), split))
    if study.pixel_run:
        out["tables"] += pixels.tables(out, names, "independent", measures.LEVELS)
    out |= _round_trip(whole, study, sick)
    if study.solvers.evaluations:
        only = {name: value[sick] for name, value in truth.items()}
        part = whole._replace(image=whole.image[sick], keys=whole.keys[sick])
        out |= solvers.run(part, study, {"cam": cam[sick], **{k: v[sick] for k, v in made.items()}}, only)
        out["tables"] += solvers.tables(out, study)
    severities = {
        str(key): entries.plain(float(value), 1, "severity (0 to 1)")
        for key, value, ill in zip(chosen["key"], chosen["severity"], sick, strict=True)
        if ill and np.isfinite(value)
    }
    if severities:
        out["severity"] = severities
    return out
