"""The whole progress study of a run: score the classifiers, choose the films, sweep, and gather every figure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import starmap
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cxrjax import data
from cxrjax.data import external
from cxrjax.errors import UserError
from cxrjax.infer import arms, classifier, diffusion, finished, masks, predict, treat
from cxrjax.infer.batches import in_batches
from cxrjax.infer.finished import ROLES
from cxrjax.metrics import entries, similarity
from cxrjax.phases import Context
from cxrjax.studies.arrays import read_arrays, write_arrays
from cxrjax.studies.treatment import (
    again,
    classifiers,
    contest,
    drawn,
    foreign,
    judging,
    measures,
    outside,
    pixels,
    ranking,
    realism,
    reidentification,
    solvers,
    sources,
    sweep,
)
from cxrjax.types import Results


def check(config: Any) -> None:
    """Refuses before any training what the sweep could not do.

    Raises:
      UserError: a missing phase, classifiers that are no judges of Normal against one disease, an arm that could not be
        run, or a pixel run of other films.
    """
    study = config.study
    sources.check_names(config)
    for key in ("cam_phase", "judge_phase", "diffusion_phase"):
        if study[key] not in config.phases:
            raise UserError(f"study.{key} = {study[key]!r} is none of the phases {', '.join(config.phases)}")
    for key in ("cam_phase", "judge_phase"):
        classifier.check_normal(config[study[key]], tuple(config.data.classes))
    arms.check(config)
    again.check(study)
    foreign.check(study)
    solvers.check(config)
    if study.attributes.run:
        _findings(config)
    reidentification.check(config)
    if study.pixel_run:
        pixels.check(config)


def _findings(config: Any, mesh: Mesh | None = None) -> predict.Predictor:
    """The classifier of `study.attributes`. Raises UserError where there is none, or it knows the disease alone."""
    run, classes = finished.load(config.study.attributes.run, mesh), tuple(config.data.classes)
    predictor = run.predictor(config.study.attributes.phase)
    if set(predictor.classes) <= set(classes):
        known = ", ".join(predictor.classes)
        raise UserError(f"study.attributes.run = {run.workdir}: its {predictor.name} knows {known}; expected findings "
                        "beside the disease")  # fmt: skip
    return predictor


def _asked(context: Context, anatomy: drawn.Reader | None) -> judging.Asked:
    """What the study asks of treated films beside the judges' verdicts, `anatomy` already fitted."""
    study, findings = context.config.study, None
    trained = reidentification.network(context)
    identity = partial(trained.embed, batch=study.batch) if trained else None
    if study.attributes.run:
        predictor = _findings(context.config, context.mesh)
        findings = judging.findings_of(predictor, context.classes, study.batch)
    return judging.Asked(study.insertions, study.lungs, findings, identity, anatomy.read if anatomy else None)


def check_films(config: Any, films: data.Prepared) -> list[str]:
    """Refuses before any training films that the study could not use; returns what a reader has to know.

    Raises:
      UserError: see `sources.of`, or films that nobody drew where `study.anatomy` is on.
    """
    if config.study.anatomy:
        drawn.check_films(films)
    own = sources.of(config, sources.INSIDE, films)
    notes = sources.notes(config, own)
    foreign.check_films(config.study, _keys(own), config.data.size)
    if films.held_out == "val":
        notes.append("There is no test part: figures are of the validation part, which phases may have selected by.")
    return notes


def check_external(config: Any, sets: Mapping[str, data.Prepared]) -> list[str]:
    """As `check_films`, of the sets of `data.external`."""
    notes = []
    for name, films in sets.items():
        words = external.take(config, name, films, exclusive=True).words
        notes += [f"data.external.{name}: {words}."] if words else []
        notes += sources.notes(config, sources.of(config, name, films))
    return notes


def shared(
    context: Context, image: np.ndarray, parts: tuple[sweep.Part, ...], asked: judging.Asked = judging.NOTHING
) -> sweep.Sweep:
    """What every treatment of films (n, h, w, 1) of these sources shares; `asked` of every one."""
    config, states, mesh = context.config, context.states, context.mesh
    study, classes = config.study, tuple(config.data.classes)
    seen = [name for name in config.phases if config[name].task in classifier.TASKS]
    looking = {
        name: classifier.of(config[name], states[name], classes, config.data.size, mesh, source=f"phase {name}")
        for name in seen
    }
    trained = [name for name in config.phases if config[name].task in arms.DIFFUSIONS]
    # Each source's films count from 0, so that no set changes another's noise.
    keys = np.concatenate([treat.keys_of(config.seed, part.stop - part.start) for part in parts])
    return sweep.Sweep(
        image, {name: diffusion.of(config[name], states[name], mesh, classes) for name in trained}, looking,
        {role: looking[study[key]] for role, key in ROLES.items() if study[key] in looking},
        parts, mesh, study.batch, keys, context.log.console, asked,
    )  # fmt: skip


def parts_of(context: Context, every: list[sources.Source], name: str) -> tuple[sweep.Part, ...]:
    """The treated films of sources one after the other, their files in the folder `name` of the workdir or below it."""
    ends = np.cumsum([0, *(len(source.keep) for source in every)]).tolist()
    folders = [source.folder(context.workdir / name) for source in every]
    return tuple(starmap(sweep.Part, zip(folders, ends[:-1], ends[1:], strict=True)))


def _round_trip(whole: sweep.Sweep, study: Any, image: np.ndarray) -> Results:
    """What the autoencoder alone does to films (n, h, w, 1), where the diffusion is of latents."""
    system = whole.diffusions[study.diffusion_phase]
    if system.codec is None:
        return {}

    @jax.jit
    def through(variables: Any, image: Any) -> Any:
        return diffusion.round_trip(system._replace(variables=variables), image)

    back = in_batches(whole.mesh, whole.batch, partial(through, system.variables), image)
    same = {"mae": similarity.mae, "ssim": similarity.ssim, "psnr": similarity.psnr}
    figures = {k: entries.mean(f(image[..., 0], back[..., 0]), measures.UNITS[k]) for k, f in same.items()}
    return {"round_trip": figures}


def run(context: Context) -> Results:
    """Scores, sweep and figures; films and treated films go to `progress/*.npz`, those from elsewhere below it."""
    config, study = context.config, context.config.study
    every = [sources.of(config, name, films) for name, films in sources.every(context).items()]
    read = [source.read(source.keep) for source in every]
    image = np.concatenate([films["image"] for films in read])
    anatomy, told = drawn.fit(context) if study.anatomy else (None, {})
    whole = shared(context, image, parts_of(context, every, "progress"), _asked(context, anatomy))
    names, roles, seen = tuple(study.modes), tuple(whole.scoring), tuple(whole.classifiers)
    out = classifiers.score_all(context, seen, 1 - context.classes.index("Normal"))

    masks_of = sweep.run(whole, arms.of(study), tuple(study.lambdas))
    # All but one mask can go: they are as many as there are sources, each as large as the films.
    masks_of = {study.solvers.mode: masks_of[study.solvers.mode]} if study.solvers.evaluations else {}
    score = sweep.scorer(whole)
    own = whole.parts[0]
    theirs = foreign.run(
        study, _keys(every[0]), config.data.size, own.folder,
        lambda treated: judging.judged(score, whole.asked, own.of(whole.image), treated),
    )  # fmt: skip
    base = masks.base(study)
    cam = masks.make((base,), whole.classifiers, whole.image, whole.mesh, whole.batch)[base][..., 0]
    for source, films, part in zip(every, read, whole.parts, strict=True):
        _write(source, films, part, cam, anatomy)
    if study.pixel_run:
        names += pixels.run(context, whole)
    out["arms"] = {arm.name: arms.told(arm) for arm in arms.of(study)} | dict.fromkeys(theirs, foreign.TOLD)
    out |= {"anatomy": told} if told else {}
    out["healthy"] = {}
    for source, part in zip(every, whole.parts, strict=True):
        judged = sources.judge(source, score, roles)
        to = realism.reference(judged.pooled, int(source.sick.sum()))
        lambdas = dict.fromkeys(names, tuple(study.lambdas)) | (theirs if source.name == sources.INSIDE else {})
        found = measures.results(
            part.folder, tuple(lambdas), lambdas, roles, to, judged.cuts, ranking.guided(out, names)
        )
        lost = (part.of(cam).reshape(len(source.keep), -1).max(axis=1) == 0)[source.sick]
        found["progress"]["untreated"]["empty_mask"] = entries.rate(lost)
        out["healthy"][source.name] = judged.figures
        (out if source.name == sources.INSIDE else out["external"][source.name]).update(found)

    sick, truth = every[0].sick, _truth(read[0])
    out["warnings"] = sources.warnings(out["healthy"])
    out["sentences"] = sources.sentences(out["healthy"], "independent")
    out["sentences"] += outside.said(out, names, "independent", measures.LEVELS[0])
    ranked = (*names, *theirs)
    out["tables"] = ranking.tables(out, ranked, "independent", measures.LEVELS, bool(truth))
    out["tables"] += contest.tables(out, ranked, "independent", measures.LEVELS)
    out["tables"] += drawn.tables(out, ranked, "independent", measures.LEVELS[0])
    out["tables"] += outside.leaderboards(out, names, "independent", measures.LEVELS)
    out["tables"] += outside.tables(out, names, "independent", measures.LEVELS[0])
    out["tables"] += [sources.judges_table(out["healthy"]), *classifiers.tables_of(out, seen, context.films.held_out)]
    if study.pixel_run:
        out["tables"] += pixels.tables(out, names, "independent", measures.LEVELS)
    out |= _round_trip(whole, study, own.of(whole.image)[sick])
    found, words = reidentification.run(context)
    out |= {"reidentification": found} if found else {}
    out["sentences"].append(words)
    out["tables"] += reidentification.tables(found, study.identity_phase)
    if lam := study.again["lambda"]:
        rows = again.chosen(sick, study.again.films)
        root = again.run(whole, arms.of(study), lam, study.again.seeds, rows)
        out["again"] = again.results(own.folder, root, arms.of(study), lam, study.again.seeds, rows)
        out["tables"] += again.tables(out["again"], lam, study.again.seeds)
    if study.solvers.evaluations:
        image, keys = (own.of(rows)[sick] for rows in (whole.image, whole.keys))
        diseased = whole._replace(image=image, keys=keys, parts=(own._replace(stop=len(image)),))
        where = {name: own.of(rows)[sick] for name, rows in {"cam": cam, **masks_of}.items()}
        out |= solvers.run(diseased, study, where, {name: value[sick] for name, value in truth.items()})
        out["tables"] += solvers.tables(out, study)
    severities = {
        str(key): entries.plain(float(value), 1, "severity (0 to 1)")
        for key, value, ill in zip(read[0]["key"], read[0]["severity"], sick, strict=True)
        if ill and np.isfinite(value)
    }
    if severities:
        out["severity"] = severities
    return out


def _keys(source: sources.Source) -> list[str]:
    """The keys of a source's treated films, in their order."""
    return [str(key) for key in source.films.table(source.split)["key"][source.keep]]


def _truth(films: dict[str, Any]) -> dict[str, np.ndarray]:
    """`twin` and `lesion` (n, h, w) of films that have them."""
    if films["twin"] is None:
        return {}
    return {"twin": films["twin"][..., 0], "lesion": np.any(np.stack(list(films["masks"].values())), axis=0)}


def _write(
    source: sources.Source, films: dict[str, Any], part: sweep.Part, cam: np.ndarray, anatomy: drawn.Reader | None
) -> None:
    """The films of a source before treatment, with the judges' verdicts on them, and what their twins tell."""
    untreated = read_arrays(part.folder / "untreated.npz")
    before = {name: value for name, value in untreated.items() if name.startswith("normal_probability_")}
    twins = {} if anatomy is None or films["twin"] is None else anatomy.read(films["twin"])
    before |= {f"{measures.TWIN}{judging.ANATOMY}{name}": told for name, told in twins.items()}
    write_arrays(
        part.folder / "films.npz", key=np.asarray(films["key"], dtype=str), disease=source.sick,
        severity=films["severity"], image=films["image"][..., 0], cam=part.of(cam),
        lungs=masks.lung_fields(films["image"])[0][..., 0] > 0.5, **before, **_truth(films),
    )  # fmt: skip
