"""A phase of a run: which films and members it trains on, what it brings from earlier phases, and its training."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from cxrjax import data, weights
from cxrjax.errors import lookup
from cxrjax.ops import losses
from cxrjax.studies import finished, grid, predictions
from cxrjax.tasks import TASKS, autoencoder, classify
from cxrjax.train import log as logs
from cxrjax.train import loop, optim
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch, Key, State, Task, UserError


class Context(NamedTuple):
    """What every phase and study of a run shares.

    Attributes:
      config: the run's.
      films: prepared.
      workdir: of the run.
      mesh: every device.
      key: the run's root key.
      log: where scalars and words go.
      states: of finished members, by name.
      found: what grid phases found, by name.
    """

    config: Any
    films: data.Prepared
    workdir: Path
    mesh: Mesh
    key: Key
    log: logs.Log
    states: dict[str, State]
    found: dict[str, dict[str, Any]]


class Member(NamedTuple):
    """One training of a phase: a fold of the patients, another seed, or the only one.

    Attributes:
      name: of its checkpoints, log lines and predictions.
      phase: the name of its config.
      number: from 0.
      keep: positions in the train part that it trains on; None for all.
      held_out: positions in the train part that are its test films; None where a part of its own is.
    """

    name: str
    phase: str
    number: int
    keep: np.ndarray | None
    held_out: np.ndarray | None


def name_key(key: Key, name: str) -> Key:
    """A key of its own for a name, stable over runs and Python's hash seed."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def only(films: data.Prepared, split: str, name: str) -> np.ndarray | None:
    """Indices of a split's films that carry one class; None, meaning all of them, for an empty name."""
    if not name:
        return None
    chosen = data.labels.select(films.table(split)["labels"], films.columns, (name,))[:, 0] == 1
    if not chosen.any():
        raise UserError(f"no film of the {split} part is labeled {name!r}, which this phase is to see only")
    return np.flatnonzero(chosen)


def kept(config: Any, films: data.Prepared, split: str, phase: str) -> np.ndarray | None:
    """Indices of a split's films that a phase sees; None for all of them.

    A phase with `normal = "drop"` sees only films of its classes.
    """
    chosen = only(films, split, config[phase].only)
    if config[phase].get("normal", "") != "drop":
        return chosen
    label = data.labels.select(films.table(split)["labels"], films.columns, tuple(config.data.classes))
    sick = np.flatnonzero((label == 1).any(axis=1))
    if not len(sick):
        raise UserError(
            f"no film of the {split} part has any of {', '.join(config.data.classes)}, and Normal is dropped"
        )
    return sick if chosen is None else np.intersect1d(sick, chosen)


def members(config: Any, films: data.Prepared, phase: str) -> list[Member]:
    """A phase's members: `folds` patient-grouped, stratified folds of the train part, or `seeds` trainings on all."""
    keep = kept(config, films, "train", phase)
    folds = config[phase].get("folds", 0)
    if folds < 2:
        return [Member(name, phase, i, keep, None) for i, name in enumerate(predictions.names(config, phase))]
    number = predictions.folds_of(config, films, folds)
    allowed = np.arange(len(number)) if keep is None else keep
    return [
        Member(name, phase, i, allowed[number[allowed] != i], allowed[number[allowed] == i])
        for i, name in enumerate(predictions.names(config, phase))
    ]


def bring(config: Any, earlier: State, fresh: State) -> State:
    """A fresh state with an earlier phase's weights, statistics and averages.

    Where this phase alone keeps an average, it begins at the weights that it averages; where the earlier one alone did,
    its average is left behind. The optimizer starts anew, unless the phase's `carry_opt` asks to go on with the moments
    that both have.
    """
    state = dataclasses.replace(fresh, params=earlier.params, stats=earlier.stats, ema=optim.averages(earlier, fresh))
    if not config.get("carry_opt", False):
        return state
    scale = {"lr_scale": earlier.evals["lr_scale"]} if "lr_scale" in earlier.evals else {}
    return dataclasses.replace(state, opt=optim.carry(earlier.opt, fresh.opt), evals={**fresh.evals, **scale})


def example_batch(config: Any, devices: int, channels: int = 1) -> Batch:
    """Blank films of the run's shape, one a device."""
    return finished.blank(devices, config.data.size, len(config.data.classes), channels)


def example_of(config: Any, phase: str, devices: int) -> Batch:
    """Blank films as the phase reads them."""
    return example_batch(config, devices, 3 if predictions.field_of(config, phase) == "enh" else 1)


def check(config: Any, mesh: Mesh) -> None:
    """Refuses, before films are prepared and a workdir is made, phases that could not begin.

    Raises:
      UserError: names the phase and what is wrong with its task, network, optimizer, batch, weights or shards.
    """
    for i, name in enumerate(config.phases):
        phase, earlier = config[name], config.phases[:i]
        try:
            if phase.batch % mesh.size:
                raise UserError(f"batch is {phase.batch}: expected a multiple of the {mesh.size} devices")
            if phase.task == "grid":
                grid.check(config, name)
                continue
            task = lookup(TASKS, phase.task, "task")(phase, tuple(config.data.classes))
            state = jax.eval_shape(task.init, jax.random.key(0), example_of(config, name, mesh.size))
            meshes.state_shardings(mesh, state, tuple(tuple(r) for r in config.mesh.shard))
            if phase.get("folds", 0) > 1 and phase.get("seeds", 1) > 1:
                raise UserError("folds and seeds are both set; one phase repeats one way")
            if phase.carry:
                _check_carry(phase, lookup({name: config[name] for name in earlier}, phase.carry, "carry"))
            for given, source in phase.get("given", ()):
                lookup({other: config[other] for other in earlier}, source, f"given ({given}: phase)")
            if phase.get("from_run", ""):
                finished.check_same(phase.from_run, name, config)
            if phase.get("crop", 0) > config.data.size:
                raise UserError(f"crop is {phase.crop}, larger than data.size, {config.data.size}")
            balanced = tuple(phase.get("class_weight", ())) == ("balanced",)
            if phase.get("folds", 0) > 1 and (balanced or phase.get("optim_from", "")):
                raise UserError("balanced class weights and a grid's winner would come from films that folds hold out")
            if phase.get("optim_from", ""):
                lookup({name: name for name in earlier if config[name].task == "grid"}, phase.optim_from, "optim_from")
            if phase.get("weights", ""):
                _weights(config, phase)(state)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error


def _check_carry(phase: Any, earlier: Any) -> None:
    """Raises UserError where weights cannot be carried, or would have seen films that a fold holds out."""
    if phase.net.to_dict() != earlier.net.to_dict():
        raise UserError(f"net is not that of {phase.carry}, whose weights it goes on with; set both")
    folds, before = phase.get("folds", 0), earlier.get("folds", 0)
    if folds > 1 and folds != before:
        raise UserError(f"folds is {folds}, that of {phase.carry} {before}: its weights would have seen held-out films")
    if phase.get("carry_opt", False) and phase.optim.name != earlier.optim.name:
        raise UserError(f"carry_opt goes on with the optimizer of {phase.carry}, which is {earlier.optim.name}")
    if phase.get("weights", ""):
        raise UserError(f"weights and carry are both set; give {phase.carry}.weights instead")


def resolve(context: Context, phase: str) -> Any:
    """A phase's config with what is found only in a run: balanced class weights, a grid's best optimizer."""
    config = context.config[phase]
    if tuple(config.get("class_weight", ())) == ("balanced",):
        classes = tuple(context.config.data.classes)
        label = data.labels.select(context.films.table("train")["labels"], context.films.columns, classes)
        present, absent = (label == 1).sum(axis=0), (label == 0).sum(axis=0)
        if not present.all():
            missing = [name for name, count in zip(classes, present, strict=True) if not count]
            raise UserError(f"{phase}: class_weight = 'balanced', but no training film is {', '.join(missing)}")
        exclusive = config.loss in losses.EXCLUSIVE
        weight = len(label) / (len(classes) * present) if exclusive else absent / present
        config = config.copy_and_resolve_references()
        with config.ignore_type():
            config.class_weight = tuple(float(w) for w in weight)
    if config.get("optim_from", ""):
        best = context.found[config.optim_from]["best"]
        config = config.copy_and_resolve_references()
        config.optim.update({"name": best["optimizer"], "lr": float(best["lr"]), "b1": float(best["momentum"])})
        context.log.say(f"{phase}: {best['optimizer']}, learning rate {best['lr']:g}, momentum {best['momentum']:g}")
    return config


def train(context: Context, member: Member, config: Any, task: Task) -> State:
    """Trains one member of a phase, or brings back its finished state.

    Args:
      context: the run's.
      member: which films, under which name.
      config: the phase's, resolved.
      task: made of it; members that share one share its compilations.
    """
    films, mesh = context.films, context.mesh
    classes = tuple(context.config.data.classes)
    # Seeds of the same number begin alike and see films in the same order in every phase, so that arms can be paired.
    root = f"seed_{member.number}" if config.get("seeds", 1) > 1 else member.name
    seed = zlib.crc32(f"{context.config.seed}/{root}".encode()) & 0x7FFFFFFF
    shard = (jax.process_index(), jax.process_count())
    field = predictions.field_of(context.config, member.phase)
    read = partial(data.batches, films, "train", classes=classes, batch_size=config.batch, seed=seed, shard=shard)
    stream = read(
        keep=member.keep, augment=tuple(config.augment), field=field, balance=bool(config.get("balance", False))
    )
    evals: Callable[[], Iterator[Batch]] | None = None
    if films.splits.get("val") and member.held_out is None:
        shown = kept(context.config, films, "val", member.phase)
        size = meshes.whole_batch(mesh, config.eval_batch)
        evals = partial(
            data.eval_batches, films, "val", classes=classes, batch_size=size, keep=shown, shard=shard, field=field
        )
    example = example_of(context.config, member.phase, mesh.size)
    key = name_key(context.key, root)
    _announce(context, config, member, jax.eval_shape(task.init, key, example))
    phase = loop.Phase(
        member.name, config.steps, config.log_every, config.eval_every, config.save_every, config.select,
        tuple(config.metric),
    )  # fmt: skip
    return loop.fit(
        task, phase, stream=stream, evals=evals, example=example, workdir=context.workdir, mesh=mesh, key=key,
        log=context.log, carry=_begin(context, config, member),
        shard_rules=tuple(tuple(r) for r in context.config.mesh.shard),
    )  # fmt: skip


def _begin(context: Context, config: Any, member: Member) -> Callable[[State], State] | None:
    """What a member begins with instead of chance, and what it reads of earlier phases."""
    carry = _carry(context, config, member)
    if not config.get("given", ()):
        return carry
    frozen = {name: _variables(context, phase) for name, phase in config.given}

    def begin(fresh: State) -> State:
        state = carry(fresh) if carry else fresh
        # A task without a use for one (no perceptual term, say) has no place for it.
        used = {name: value for name, value in frozen.items() if name in state.frozen}
        return dataclasses.replace(state, frozen={**state.frozen, **used})

    return begin


def _variables(context: Context, phase: str) -> Any:
    """What a finished phase's network is applied to."""
    config, state = context.config[phase], context.states[phase]
    if config.task == "autoencoder":
        return autoencoder.variables_of(state)
    return classify.variables_of(classify.options_of(config), state)


def _carry(context: Context, config: Any, member: Member) -> Callable[[State], State] | None:
    """What a member begins with instead of chance."""
    if config.carry:
        earlier = predictions.names(context.config, config.carry)
        source = earlier[member.number] if len(earlier) > member.number else earlier[0]
        return partial(bring, config, context.states[source])
    if config.get("weights", ""):
        return _weights(context.config, config)
    return None


def _weights(config: Any, phase: Any) -> Callable[[State], State]:
    """Brings a file's weights into a fresh state, or into its shapes alone."""
    classes = {"classes": tuple(config.data.classes), "file_classes": tuple(phase.weights_classes)}
    return weights.bring(phase.weights, phase.net.name, head=phase.weights_head, **classes)


def origins(config: Any) -> dict[str, Any]:
    """Where each phase's weights begin, for the manifest: "from scratch", a phase, a run, or a file and its digest."""
    out: dict[str, Any] = {}
    for name in config.phases:
        carry, path = config[name].get("carry", ""), config[name].get("weights", "")
        taken = config[name].get("run", "") or config[name].get("from_run", "")
        out[name] = (
            f"run {taken}"
            if taken
            else f"those of {carry}"
            if carry
            else weights.describe(path)
            if path
            else "from scratch"
        )
    return out


def _announce(context: Context, config: Any, member: Member, abstract: State) -> None:
    overviews = []
    for network, params in abstract.params.items():
        count = parameter_overview.count_parameters(params)
        work = f"{config.steps:,} steps of {config.batch} films"
        context.log.say(f"{member.name}: {config.net.name} ({network}), {count:,} parameters, {work}")
        overviews.append(parameter_overview.get_parameter_overview(params, include_stats=False))
    if jax.process_index() == 0 and member.number == 0:
        (context.workdir / f"parameters_{member.phase}.txt").write_text("\n".join(overviews) + "\n")


def run(context: Context, phase: str, after: Callable[[Context, Member], None]) -> None:
    """Trains every member of a phase; `after` each one, what a study keeps of it is written.

    A grid phase leaves its findings in `context.found`, any other its states in `context.states`.
    """
    if context.config[phase].get("run", ""):
        context.log.say(f"{phase}: taken from {context.config[phase].run}")
        return
    if context.config[phase].get("from_run", ""):
        other = finished.open_run(context.config[phase].from_run)
        example = example_of(context.config, phase, context.mesh.size)
        context.states[phase] = finished.state_of(other, phase, example, context.mesh)
        context.log.say(f"{phase}: taken from {other.workdir}")
        return
    if context.config[phase].task == "grid":
        context.found[phase] = grid.train(context, phase)
        return
    later = context.config.phases[context.config.phases.index(phase) + 1 :]
    carried = any(context.config[name].get("carry", "") == phase for name in later)
    config = resolve(context, phase)
    task = TASKS[config.task](config, tuple(context.config.data.classes))
    for member in members(context.config, context.films, phase):
        context.states[member.name] = train(context, member, config, task)
        after(context, member)
        if not carried:  # a study needs no moments, and the next phase the memory
            context.states[member.name] = dataclasses.replace(context.states[member.name], opt={})
