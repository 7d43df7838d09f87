"""A learning curve: the same recipe from several starts on more and more patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict


def point(start: str, size: int) -> str:
    """The phase that ends a start's training on so many patients, 0 for all: `imagenet_0064`, `imagenet_all`."""
    return f"{start}_{size:04d}" if size else f"{start}_all"


def points(curve: ConfigDict) -> dict[tuple[str, int], str]:
    """The phases of a study's section `curve`, by start and size."""
    return {(start, size): point(start, size) for start, _ in curve.starts for size in curve.sizes}


def curve(recipes: Mapping[str, Mapping[str, ConfigDict]], sizes: Sequence[int]) -> dict[str, ConfigDict]:
    """The phases of a learning curve, by name and in order.

    Args:
      recipes: by start, its phases by name and in order, such as `transfer` makes, each going on with an earlier one
        where `carry` names it. The last one's name begins those of the others. All starts are to see as many films.
      sizes: patients, growing; 0 for all stands last.

    Returns:
      Every start's recipe on every size; the last phase of each is called `point`, and so begin the others' names.
    """
    out = {}
    for size in sizes:
        for start, recipe in recipes.items():
            end, last = point(start, size), list(recipe)[-1]
            names = {name: end + name.removeprefix(last) for name in recipe}
            for name, phase in recipe.items():
                out[names[name]] = phase.copy_and_resolve_references()
                out[names[name]].update({"patients": size, "carry": names[phase.carry] if phase.carry else ""})
    return out
