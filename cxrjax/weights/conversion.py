"""A torch state dict into a Flax network: every tensor used, or named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util as tree
import numpy as np

from cxrjax.errors import UserError
from cxrjax.types import PyTree, State
from cxrjax.weights import read
from cxrjax.weights.rules import CLASS_LAYERS, HEADS, UNREAD, family_of, flattened, to_flax


class Report(NamedTuple):
    """What became of every tensor, by the names that `clean` gives.

    Attributes:
      used: the Flax path of each torch key that was taken.
      ignored: the reason for each that was not.
      fresh: the Flax paths that kept the network's own values.
    """

    used: dict[str, str]
    ignored: dict[str, str]
    fresh: tuple[str, ...]


def convert(
    state_dict: Mapping[str, np.ndarray],
    variables: PyTree,
    family: str,
    *,
    head: bool,
    classes: Sequence[str] = (),
    file_classes: Sequence[str] = (),
) -> tuple[PyTree, Report]:
    """Fills a classifier's variables from a torchvision or torchxrayvision state dict.

    BatchNorm's running variance is taken as it is (torch's is unbiased), so that logits in evaluation are torch's.
    torchvision's networks expect inputs of the ImageNet mean and deviation, its Inception-v3 inputs in [-1, 1],
    torchxrayvision's films in [-1024, 1024]: the weights do not say so, the caller's `normalize` must.

    Args:
      state_dict: arrays by torch name, as `load` gives them or with their prefixes still on.
      variables: `{"params": ..., "batch_stats": ...}` of `build(name, ...).init`, arrays or shapes alone; other
        collections pass through.
      family: a network's name (`densenet121`, `resnet50`, `vgg16`, `inception_v3`), or its family's.
      head: whether the layers above the backbone are filled too; false leaves all of `head/` and `aux/` as it is
        (shapes stay shapes there) and reports the file's own.
      classes: this network's, in the order of its logits.
      file_classes: the file's, in the order of the rows of its last layers, of which each class's is picked by name;
        empty where they are known to be the network's own, in its order.

    Returns:
      variables of the same structure and dtypes, with numpy arrays where they were filled; the `Report`.

    Raises:
      UserError: names the keys that are unknown, the parameters that stay unfilled, the shapes that differ and the
        values that are not finite.
    """
    rules, state = family_of(family), read.clean(state_dict)
    rows = rows_of(classes, file_classes) if head and file_classes else ()
    if rules.plain and head:
        state = flattened(state)
    paths = rules.paths(state)
    leaves: dict[str, Any] = tree.flatten_dict(dict(variables), keep_empty_nodes=True, sep="/")
    wanted = {path for path in leaves if path.startswith(("params/", "batch_stats/"))}
    has_aux = any(path.startswith("params/aux/") for path in wanted)
    filled: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    ignored: dict[str, str] = {}
    unknown: list[str] = []
    faults: list[str] = []
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if leaf in UNREAD:
            ignored[key] = UNREAD[leaf]
            continue
        path, found = paths.get(module), to_flax(key, value)
        if path is None or found is None:
            unknown.append(key)
            continue
        part = path.partition("/")[0]
        if part == "aux" and not has_aux:
            ignored[key] = "this network has no auxiliary head"
            continue
        if part in HEADS and not head:
            ignored[key] = f"head=False: {part}/ stays fresh"
            continue
        collection, name, array = found
        if rows and path in CLASS_LAYERS:
            if len(value) != len(file_classes):
                raise UserError(f"{key} has {len(value)} rows, and weights_classes names {len(file_classes)}")
            array = array[..., rows]
        target = f"{collection}/{path}/{name}"
        if target in filled:
            faults.append(f"{key} is a second tensor for {target}")
        elif target not in wanted and part in HEADS:
            faults.append(f"{key} has no place in this network's {part}: say head=False to keep its own")
        elif target not in wanted:
            unknown.append(key)
        elif array.shape != leaves[target].shape:
            faults.append(_misfit(key, value, path, leaves[target].shape, array.shape))
            filled[target] = array  # not a second complaint that it stays unfilled
        elif not np.isfinite(array).all():
            faults.append(f"{key} holds values that are not finite")
            filled[target] = array
        else:
            filled[target] = np.asarray(array, dtype=leaves[target].dtype)
            used[key] = target
    fresh = sorted(wanted - filled.keys())
    unfilled = [path for path in fresh if head or path.split("/")[1] not in HEADS]
    if unknown:
        faults.append(f"no place in this network for {_some(unknown)}")
    if unfilled:
        parts = {path.split("/")[1] for path in unfilled}
        advice = ": say head=False to keep them fresh" if parts <= set(HEADS) else ""
        advice += ", or build the network with aux=False" if parts == {"aux"} else ""
        faults.append(f"nothing for {_some(unfilled)}{advice}")
    if faults:
        raise UserError(f"these weights do not fit {family!r}: {_some(faults, '; ', 6)}")
    return tree.unflatten_dict({**leaves, **filled}, sep="/"), Report(used, ignored, tuple(fresh))


def rows_of(classes: Sequence[str], file_classes: Sequence[str]) -> list[int]:
    """The row of each class in the last layer of a file whose rows are `file_classes`, which may hold others too.

    Raises:
      UserError: a class is not exactly once among them.
    """
    wrong = [name for name in classes if list(file_classes).count(name) != 1]
    if wrong:
        raise UserError(
            f"weights_classes must have each of this network's classes once, and {_some(wrong)} is not so; the file's "
            f"are {_some(file_classes, most=20)}"
        )
    return [list(file_classes).index(name) for name in classes]


def bring(
    path: str | Path, family: str, *, head: bool, classes: Sequence[str] = (), file_classes: Sequence[str] = ()
) -> Callable[[State], State]:
    """A `carry` of the train loop: takes a fresh state and gives it the weights of a file.

    The file is read at once. `params["net"]` and `stats["net"]` are replaced, and `ema["net"]` where a task keeps one:
    an average begins at the weights it averages.

    Args:
      path, family, head, classes, file_classes: as `load` and `convert`; a head needs the file's classes, since its
        rows are never taken by position alone.

    Raises:
      UserError: as `load`; and, when the state comes, as `convert`, with the file's name before it.
    """
    state_dict = read.load(path)
    family_of(family)
    if head and not file_classes:
        raise UserError(
            f"weights {path}: a head's rows are taken by name: say weights_classes, the file's classes in their order"
        )

    def carry(state: State) -> State:
        try:
            variables = {"params": state.params["net"], **state.stats["net"]}
            filled, _ = convert(state_dict, variables, family, head=head, classes=classes, file_classes=file_classes)
        except UserError as e:
            raise UserError(f"weights {path}: {e}") from e
        params = filled.pop("params")
        return dataclasses.replace(
            state,
            params={**state.params, "net": params},
            stats={**state.stats, "net": {name: filled.get(name, {}) for name in state.stats["net"]}},
            ema={**state.ema, "net": params} if "net" in state.ema else state.ema,
        )

    return carry


def _misfit(key: str, value: np.ndarray, path: str, shape: tuple[int, ...], given: tuple[int, ...]) -> str:
    text = f"{key} is {value.shape}, for which {path} of this network would be {given}, and it is {shape}"
    if len(given) == len(shape) == 4 and {given[2], shape[2]} == {1, 3}:
        return f"{text}: set channels={given[2]}"
    if path.partition("/")[0] in HEADS:
        return f"{text}: say head=False to keep a fresh head of your own classes"
    return text


def _some(names: Iterable[str], comma: str = ", ", most: int = 8) -> str:
    names = list(names)
    more = f"{comma}and {len(names) - most} more" if len(names) > most else ""
    return comma.join(names[:most]) + more
