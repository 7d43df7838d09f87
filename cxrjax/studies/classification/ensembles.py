"""Means of several predictions as systems of their own: of several networks, and of several views of a film.

Averaged are probabilities. Seeds of a phase are one system already, by the same mean; the members of folds predict
films of their own at home, and are averaged on films from elsewhere (`external`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cxrjax import data
from cxrjax.errors import UserError, lookup
from cxrjax.phases import Context
from cxrjax.studies.classification import external, predictions
from cxrjax.studies.classification.predictions import ONE, System
from cxrjax.types import Arrays


def check(config: Any) -> None:
    """Raises UserError for an ensemble of nothing, of a system that is not there, or by a name that is taken."""
    phases = {name: name for name, _ in config.study.systems}
    for name, parts in config.study.ensembles:
        if name in config.phases or len(set(parts)) < 2:
            raise UserError(
                f"study.ensembles has {name!r} of {', '.join(parts) or 'nothing'}: expected a name that no phase has, "
                "and two or more of study.systems"
            )
        for part in parts:
            lookup(phases, part, f"study.ensembles ({name})")


def systems(context: Context, trained: list[System]) -> list[System]:
    """The ensembles of the study, and of each phase that averages views (`tta`) what it says by one.

    Raises:
      UserError: systems of an ensemble that did not predict the same films.
    """
    config, by_name = context.config, {system.name: system for system in trained}
    out = []
    for name, parts in config.study.ensembles:
        found = [by_name[part] for part in parts]
        predictions.check_same(*found)
        seen = [system.validation for system in found if system.validation is not None]
        title = f"{name}: mean of {', '.join(system.title for system in found)}"
        mean = predictions.mean_of([system.found for system in found])
        out.append(System(name, title, mean, predictions.mean_of(seen) if seen else None))
    for phase, title in config.study.systems:
        if config[phase].tta:
            one = predictions.system_of(context, phase, f"{title}, one view", ONE)
            out.append(one._replace(name=f"{phase}_{ONE}"))
    return out


def pairs(config: Any) -> list[tuple[str, str]]:
    """Whose difference is told: an ensemble and each of its parts, several views and one."""
    out = [(name, part) for name, parts in config.study.ensembles for part in parts]
    return out + [(phase, f"{phase}_{ONE}") for phase, _ in config.study.systems if config[phase].tta]


def outside(
    config: Any, averaged: list[System]
) -> list[tuple[System, Callable[[Context, data.Prepared], list[Arrays]]]]:
    """The ensembles, and how each predicts films from elsewhere: of folds by those that left out the same films."""

    def of(parts: tuple[str, ...]) -> Callable[[Context, data.Prepared], list[Arrays]]:
        def predict(context: Context, films: data.Prepared) -> list[Arrays]:
            found = [external.of_phase(part)(context, films) for part in parts]
            return [predictions.mean_of(list(each)) for each in zip(*found, strict=True)]

        return predict

    by_name = {system.name: system for system in averaged}
    return [(by_name[name], of(tuple(parts))) for name, parts in config.study.ensembles]
