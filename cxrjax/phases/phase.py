"""A phase of a run: which films and members it trains on, what it brings from earlier phases, and its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from cxrjax import data
from cxrjax.data import pairs
from cxrjax.data.lungs import SMALLEST
from cxrjax.errors import UserError, lookup
from cxrjax.infer import finished
from cxrjax.ops import losses
from cxrjax.phases import backbones, cached, grid, members, start
from cxrjax.phases.bind import Bound, bind
from cxrjax.phases.context import Context
from cxrjax.phases.members import Member
from cxrjax.tasks import OF_PAIRS, TASKS, classify
from cxrjax.train import loop, processes
from cxrjax.train import mesh as meshes
from cxrjax.types import Batch, State, Task


def check(config: Any, mesh: Mesh) -> dict[str, Any]:
    """Refuses, before films are prepared and a workdir is made, phases that could not begin.

    Returns:
      where each phase's weights begin, see `start.origin`.

    Raises:
      UserError: names the phase and what is wrong with its task, network, optimizer, batch or weights.
    """
    origins: dict[str, Any] = {}
    for i, name in enumerate(config.phases):
        phase, earlier = config[name], config.phases[:i]
        try:
            if phase.batch % mesh.size:
                raise UserError(f"batch is {phase.batch}: expected a multiple of the {mesh.size} devices")
            if phase.task == "grid":
                grid.check(config, name)
                origins[name] = start.origin(config, name)
                continue
            task = lookup(TASKS, phase.task, "task")(phase, finished.classes_of(config, name))
            state = jax.eval_shape(task.init, jax.random.key(0), members.example_of(config, name, mesh.size))
            if phase.get("folds", 0) > 1 and phase.get("seeds", 1) > 1:
                raise UserError("folds and seeds are both set; one phase repeats one way")
            if phase.carry:
                start.check_carry(phase, lookup({name: config[name] for name in earlier}, phase.carry, "carry"))
            for given, source in phase.get("given", ()):
                lookup({other: config[other] for other in earlier}, source, f"given ({given}: phase)")
            if phase.get("from_run", ""):
                finished.check_same(phase.from_run, name, config)
            if phase.get("crop", 0) > config.data.size:
                raise UserError(f"crop is {phase.crop}, larger than data.size, {config.data.size}")
            if phase.get("border", 0.0) and config.data.size < SMALLEST:
                raise UserError(f"border blanks lungs, found at {SMALLEST} px or more; data.size is {config.data.size}")
            balanced = tuple(phase.get("class_weight", ())) == ("balanced",)
            if phase.get("folds", 0) > 1 and (balanced or phase.get("optim_from", "")):
                raise UserError("balanced class weights and a grid's winner would come from films that folds hold out")
            if phase.get("optim_from", ""):
                lookup({name: name for name in earlier if config[name].task == "grid"}, phase.optim_from, "optim_from")
            if phase.get("cached", False):
                classify.check_cached(phase, state)
            origins[name] = start.origin(config, name, state)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return origins


def check_films(config: Any, films: data.Prepared, devices: int) -> dict[str, Bound]:
    """Refuses films that any phase could not begin or go on with, before the first is trained: asks for what it will.

    Returns:
      every phase, bound to the films.

    Raises:
      UserError: names the phase, and the class that no film has or whose labels do not do.
    """
    bound = bind(config, films, devices)
    for name, phase in bound.items():
        try:
            if phase.config.get("from_run", ""):
                finished.check_films(phase.config.from_run, films.fingerprint)
                continue
            if backbones.is_run(phase.config.get("weights", "")):
                backbones.check_films(phase.config.weights, config, films, phase.config.folds)
            if tuple(phase.config.get("class_weight", ())) == ("balanced",):
                _balanced(phase, films)
            if phase.config.task == "grid":
                grid.check_films(films)
            if phase.config.task in OF_PAIRS:
                pairs.check(pairs.of(films, phase.part), phase.config.batch, phase.part)
                continue
            folds = phase.members[0].held_out is not None
            for member in phase.members if folds else phase.members[:1]:  # seeds share their films
                data.batches(
                    films, phase.part, classes=phase.classes, batch_size=phase.config.batch, seed=0, keep=member.keep,
                    threads=0, field=phase.field, balance=bool(phase.config.get("balance", False)),
                ).close()  # fmt: skip
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return bound


def _balanced(phase: Bound, films: data.Prepared) -> tuple[float, ...]:
    """Weights that make the classes count alike; raises UserError for a class that no training film has."""
    label = data.labels.select(films.table("train")["labels"], films.columns, phase.classes)
    if phase.config.get("patients", 0):
        label = label[phase.members[0].keep]  # seeds share their films, and folds have no balanced weights
    present, absent = (label == 1).sum(axis=0), (label == 0).sum(axis=0)
    if not present.all():
        missing = [name for name, count in zip(phase.classes, present, strict=True) if not count]
        raise UserError(f"class_weight = 'balanced', but no training film is {', '.join(missing)}")
    exclusive = phase.config.loss in losses.EXCLUSIVE
    weight = len(label) / (len(phase.classes) * present) if exclusive else absent / present
    return tuple(float(w) for w in weight)


def resolve(phase: Bound, context: Context) -> Bound:
    """A phase with what is found only in a run: balanced class weights, a grid's best optimizer."""
    config = phase.config
    if tuple(config.get("class_weight", ())) == ("balanced",):
        config = config.copy_and_resolve_references()
        with config.ignore_type():
            config.class_weight = _balanced(phase, context.films)
    if config.get("optim_from", ""):
        best = context.found[config.optim_from]["best"]
        config = config.copy_and_resolve_references()
        config.optim.update({"name": best["optimizer"], "lr": float(best["lr"]), "b1": float(best["momentum"])})
        found = f"{best['optimizer']}, learning rate {best['lr']:g}, momentum {best['momentum']:g}"
        context.log.say(f"{phase.name}: {found}")
    return phase._replace(config=config)


def task_of(phase: Bound) -> Task:
    """The task of a phase's training, which of cached features is not the one that predicts films."""
    if phase.config.get("cached", False):
        return classify.on_features(phase.config, len(phase.classes), phase.example)
    return TASKS[phase.config.task](phase.config, phase.classes)


def train(context: Context, phase: Bound, member: Member, task: Task) -> State:
    """Trains one member of a phase, or brings back its finished state.

    Args:
      context: the run's.
      phase: resolved.
      member: which films, under which name.
      task: `task_of` the phase; members that share one share its compilations.
    """
    config, example, carry = phase.config, phase.example, start.begin(context, phase, member)
    parts = [phase.part, *(["val"] if context.films.splits.get("val") and member.held_out is None else [])]
    fields: dict[str, data.Field] = dict.fromkeys(parts, phase.field)
    if config.get("cached", False):
        state = cached.begun(context, phase, member, task)
        carry = lambda fresh: state  # noqa: E731
        fields = {part: cached.features(context, phase, member, state, part) for part in parts}
        shape = np.shape(fields[phase.part])[1:]
        example = dataclasses.replace(example, image=np.zeros((len(example.image), *shape), np.float32))
    root = members.root_of(config, member)
    seed = phase.seed_of(root)
    stream: loop.Stream
    evals: Callable[[], Iterator[Batch]] | None = None
    if config.task in OF_PAIRS:
        stream, evals = _pairs(context, phase, seed, parts)
    else:
        stream = context.batches(
            phase.part, classes=phase.classes, batch_size=config.batch, seed=seed, keep=member.keep,
            augment=tuple(config.augment), field=fields[phase.part], balance=bool(config.get("balance", False)),
        )  # fmt: skip
        if "val" in parts:
            evals = partial(
                context.eval_batches, "val", config.eval_batch, classes=phase.classes, keep=phase.val,
                field=fields["val"],
            )  # fmt: skip
    key = members.name_key(context.key, root)
    _announce(context, config, member, jax.eval_shape(task.init, key, example))
    times = loop.Phase(
        member.name, config.steps, config.log_every, config.eval_every, config.save_every, config.select,
        tuple(config.metric),
    )  # fmt: skip
    return context.fit(
        task, times, stream=stream, evals=evals, example=example, key=key, carry=carry,
    )  # fmt: skip


def _pairs(
    context: Context, phase: Bound, seed: int, parts: list[str]
) -> tuple[loop.Stream, Callable[[], Iterator[Batch]] | None]:
    """Pairs of films of one patient to train on, and the validation part's where it has at least two such patients."""
    stream = pairs.Pairs(pairs.of(context.films, phase.part), phase.config.batch, seed, context.shard)
    held = pairs.of(context.films, "val") if "val" in parts else None
    if held is None or len(held.groups) < 2:
        return stream, None
    whole = meshes.whole_batch(context.mesh, phase.config.eval_batch)
    return stream, partial(pairs.once, held, whole, context.shard)


def _announce(context: Context, config: Any, member: Member, abstract: State) -> None:
    overviews = []
    for network, params in abstract.params.items():
        count = parameter_overview.count_parameters(params)
        work = f"{config.steps:,} steps of {config.batch} films"
        context.log.say(f"{member.name}: {config.net.name} ({network}), {count:,} parameters, {work}")
        overviews.append(parameter_overview.get_parameter_overview(params, include_stats=False))
    if processes.primary() and member.number == 0:
        (context.workdir / f"parameters_{member.phase}.txt").write_text("\n".join(overviews) + "\n")


def run(context: Context, name: str, after: Callable[[Context, Member], None]) -> None:
    """Trains every member of a phase; `after` each one, what a study keeps of it is written.

    A grid phase leaves its findings in `context.found`, any other its states in `context.states`.
    """
    config = context.config[name]
    if config.get("run", ""):
        context.log.say(f"{name}: taken from {config.run}")
        return
    phase = context.phases[name]
    if config.get("from_run", ""):
        other = finished.load(config.from_run, context.mesh)
        for member in phase.members:
            context.states[member.name] = other.state(member.name)
            context.log.say(f"{member.name}: taken from {other.workdir}")
            after(context, member)
        return
    if config.task == "grid":
        context.found[name] = grid.train(context, phase)
        return
    phase = resolve(phase, context)
    task = task_of(phase)
    for member in phase.members:
        context.states[member.name] = train(context, phase, member, task)
        after(context, member)
        if not phase.carried:  # a study needs no moments, and the next phase the memory
            context.states[member.name] = dataclasses.replace(context.states[member.name], opt={})
