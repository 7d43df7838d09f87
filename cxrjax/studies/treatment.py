"""The whole progress study of a run: score the classifiers, choose the films, sweep, and gather every figure."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from cxrjax import data
from cxrjax.errors import did_you_mean
from cxrjax.metrics import bootstrap
from cxrjax.ops import guidance
from cxrjax.studies import classification, predictions, progress, sweep
from cxrjax.studies.predictions import held_out as held_out
from cxrjax.tasks import classify, ddpm
from cxrjax.train import loop
from cxrjax.train import mesh as meshes
from cxrjax.types import UserError

Results = dict[str, Any]


def check(config: Any) -> None:
    """Refuses before any training what the sweep could not do.

    Raises:
      UserError: a lambda that the diffusion was not trained for, an unknown mode, a missing phase, or classifiers that
        are no judges of Normal against one disease.
    """
    study = config.study
    for key in ("cam_phase", "judge_phase", "diffusion_phase"):
        if study[key] not in config.phases:
            raise UserError(f"study.{key} = {study[key]!r} is none of the phases {', '.join(config.phases)}")
    for key in ("cam_phase", "judge_phase"):
        sweep.check_judge(config[study[key]], tuple(config.data.classes))
    if study.guidance.source == "cam" and config[study.cam_phase].net.get("hidden"):
        raise UserError(
            f"study.guidance.source = 'cam' needs a head without hidden layers, and {study.cam_phase}.net.hidden is "
            f"{tuple(config[study.cam_phase].net.hidden)}; use gradcam"
        )
    diffusion = config[study.diffusion_phase]
    top = diffusion.t_max or diffusion.num_timesteps
    if not study.lambdas or min(study.lambdas) < 1 or max(study.lambdas) > top:
        raise UserError(
            f"study.lambdas = {tuple(study.lambdas)}: each must lie in 1 ... {top}, the times that "
            f"{study.diffusion_phase} is trained for; change them, or {study.diffusion_phase}.t_max"
        )
    for mode in study.modes:
        if sweep.base_mode(mode)[0] not in guidance.MODES:
            hint = did_you_mean(mode, guidance.MODES)
            raise UserError(
                f"study.modes has {mode!r}: expected {', '.join(guidance.MODES)}, or one of them + _hard{hint}"
            )


def held_out_labels(config: Any, films: data.Prepared) -> tuple[str, np.ndarray, np.ndarray]:
    """The held-out part, its labels (n, 2), and the indices of the study's films: diseased first, then controls.

    Raises:
      UserError: unknown labels, or films of one kind only.
    """
    split, classes, study = held_out(films), tuple(config.data.classes), config.study
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


def score_classifiers(context: Any, judges: dict[str, tuple[str, sweep.Judge]]) -> Results:
    """Every classifier on the whole held-out part, beside the floor trained and scored on the same films."""
    config, films = context.config, context.films
    classes, split = tuple(config.data.classes), held_out(films)
    shard = (jax.process_index(), jax.process_count())
    table = films.table(split)
    label = data.labels.select(table["labels"], films.columns, classes)
    disease = next(iter(judges.values()))[1].disease
    out: Results = {}
    probability = {}
    for name, judge in judges.values():
        task = classify.make(config[name], len(classes))
        size = meshes.whole_batch(context.mesh, config.study.batch)
        batches = data.eval_batches(films, split, classes=classes, batch_size=size, shard=shard)
        state = meshes.replicate(context.mesh, context.states[name])
        rows = loop.evaluate(jax.jit(task.predict), state, batches, context.mesh, context.key)
        probability[name] = classify.scores(classify.options_of(config[name]), rows["logits"])
        out[name] = {split: classification.score(label, probability[name], table["patient"], judge.disease)}
    train, train_label = predictions.films_of(context, "train")
    test, _ = predictions.films_of(context, split)
    patients = films.table("train")["patient"]
    floor = classification.logreg32(train, train_label, test, config.seed, config.study.penalties, patients=patients)
    out["logreg32"] = {split: classification.score(label, floor, table["patient"], disease)}
    for name in probability:
        out[name]["minus_logreg32"] = classification.compare(label, probability[name], floor, table["patient"], disease)
    return out


def run(context: Any) -> Results:
    """Scores, sweep and figures; the films and every treated film go to `progress/*.npz`."""
    config, films = context.config, context.films
    study, classes = config.study, tuple(config.data.classes)
    roles = {"cam_network": study.cam_phase, "independent": study.judge_phase}
    judges = {
        role: (phase, sweep.judge_of(config[phase], context.states[phase], classes)) for role, phase in roles.items()
    }
    out = score_classifiers(context, judges)

    split, label, keep = held_out_labels(config, films)
    normal = judges["cam_network"][1].normal
    chosen = data.films(films, split, keep)
    unet_config = config[study.diffusion_phase]
    unet = (
        ddpm.network(unet_config),
        ddpm.schedule_of(unet_config),
        unet_config.prediction,
        context.states[study.diffusion_phase].ema["unet"],
    )
    sweep.run(
        study, image=chosen["image"], unet=unet, judges={k: j for k, (_, j) in judges.items()},
        workdir=context.workdir, mesh=context.mesh, seed=config.seed, log=context.log,
    )  # fmt: skip
    with np.load(context.workdir / "progress" / "masks.npz") as file:
        soft = file["soft"]
    with np.load(context.workdir / "progress" / "untreated.npz") as file:
        before = {name: value for name, value in file.items() if name.startswith("normal_probability_")}
    truth = {}
    if chosen["twin"] is not None:
        lesion = np.any(np.stack(list(chosen["masks"].values())), axis=0)
        truth = {"twin": chosen["twin"][..., 0], "lesion": lesion}
    sweep.write_arrays(
        context.workdir / "progress" / "films.npz",
        key=np.asarray(chosen["key"], dtype=str), disease=label[keep, normal] != 1, severity=chosen["severity"],
        image=chosen["image"][..., 0], cam=soft, **before, **truth,
    )  # fmt: skip
    severities = {
        str(key): bootstrap.leaf(float(value), float("nan"), float("nan"), n=1, unit="severity (0 to 1)")
        for key, value, sick in zip(chosen["key"], chosen["severity"], label[keep, normal] != 1, strict=True)
        if sick and np.isfinite(value)
    }
    out |= progress.results(context.workdir, tuple(study.modes), tuple(study.lambdas), tuple(roles))
    lost = (soft.reshape(len(soft), -1).max(axis=1) == 0)[label[keep, normal] != 1]
    out["progress"]["untreated"]["empty_mask"] = progress.rate_leaf(lost)
    if severities:
        out["severity"] = severities
    return out
