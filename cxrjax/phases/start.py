"""Where the weights of a phase begin: at chance, in an earlier phase, another run or a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from cxrjax import weights
from cxrjax.errors import UserError
from cxrjax.infer.finished import classes_of, member_names
from cxrjax.phases import backbones
from cxrjax.phases.bind import Bound
from cxrjax.phases.context import Context
from cxrjax.phases.members import Member
from cxrjax.tasks import autoencoder, classify
from cxrjax.train import optim
from cxrjax.types import State


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


def check_carry(phase: Any, earlier: Any) -> None:
    """Raises UserError where weights cannot be carried, or would have seen films that a fold holds out."""
    if phase.net.to_dict() != earlier.net.to_dict():
        raise UserError(f"net is not that of {phase.carry}, whose weights it goes on with; set both")
    folds, before = phase.get("folds", 0), earlier.get("folds", 0)
    if folds > 1 and folds != before:
        raise UserError(f"folds is {folds}, that of {phase.carry} {before}: its weights would have seen held-out films")
    few, many = phase.get("patients", 0), earlier.get("patients", 0)
    if few and not 0 < many <= few:
        raise UserError(f"patients is {few}, that of {phase.carry} {many}: its weights would have seen more of them")
    if phase.get("carry_opt", False) and phase.optim.name != earlier.optim.name:
        raise UserError(f"carry_opt goes on with the optimizer of {phase.carry}, which is {earlier.optim.name}")
    if phase.get("weights", ""):
        raise UserError(f"weights and carry are both set; give {phase.carry}.weights instead")


def begin(context: Context, phase: Bound, member: Member) -> Callable[[State], State] | None:
    """What a member begins with instead of chance, and what it reads of earlier phases."""
    config, carry = phase.config, _carry(context, phase.config, member)
    if not config.get("given", ()):
        return carry
    frozen = {name: _variables(context, source) for name, source in config.given}

    def whole(fresh: State) -> State:
        state = carry(fresh) if carry else fresh
        # A task without a use for one (no perceptual term, say) has no place for it.
        used = {name: value for name, value in frozen.items() if name in state.frozen}
        return dataclasses.replace(state, frozen={**state.frozen, **used})

    return whole


def _variables(context: Context, phase: str) -> Any:
    """What a finished phase's network is applied to."""
    config, state = context.config[phase], context.states[phase]
    if config.task == "autoencoder":
        return autoencoder.variables_of(state)
    return classify.variables_of(classify.options_of(config), state)


def _carry(context: Context, config: Any, member: Member) -> Callable[[State], State] | None:
    """What a member begins with instead of chance."""
    if config.carry:
        earlier = member_names(context.config, config.carry)
        source = earlier[member.number] if len(earlier) > member.number else earlier[0]
        return partial(bring, config, context.states[source])
    if backbones.is_run(config.get("weights", "")):
        return backbones.bring(config.weights, context.mesh)
    if config.get("weights", ""):
        return weights.bring(_source(context.config, member.phase))
    return None


def _source(config: Any, name: str) -> weights.Source:
    """The weight file of a phase that names one."""
    phase = config[name]
    return weights.Source(
        phase.weights, phase.net.name, phase.weights_head, classes_of(config, name), tuple(phase.weights_classes),
        phase.normalize,
    )  # fmt: skip


def origin(config: Any, name: str, shapes: State | None = None) -> Any:
    """Where a phase's weights begin, for the manifest: "from scratch", a phase, a run (`backbones.account`) or a
    file (`weights.account`).

    Args:
      config: the run's.
      name: of the phase.
      shapes: of its fresh state, which a file is held against.

    Raises:
      UserError: as `backbones.account` or `weights.account`.
    """
    phase = config[name]
    if taken := phase.get("run", "") or phase.get("from_run", ""):
        return f"run {taken}"
    if phase.get("carry", ""):
        return f"those of {phase.carry}"
    if backbones.is_run(phase.get("weights", "")) and shapes is not None:
        return backbones.account(phase.weights, phase, shapes)
    if phase.get("weights", "") and shapes is not None:
        return weights.account(_source(config, name), weights.variables_of(shapes))
    return "from scratch"
