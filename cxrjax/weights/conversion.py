"""A torch state dict into a Flax network: every tensor used, or named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util as tree
import numpy as np

from cxrjax.errors import UserError
from cxrjax.ops import inputs
from cxrjax.types import PyTree, State
from cxrjax.weights import pretrained, read
from cxrjax.weights.rules import CLASS_LAYERS, FAMILIES, HEADS, UNREAD, family_of, flattened, recognized, to_flax


class Report(NamedTuple):
    """What became of every tensor, by the names that `clean` gives.

    Attributes:
      used: the Flax path of each torch key that was taken.
      ignored: the reason for each that was not.
      fresh: the Flax paths that kept the network's own values.
      folded: the stem of three channels that became one of gray films; "" where none did.
    """

    used: dict[str, str]
    ignored: dict[str, str]
    fresh: tuple[str, ...]
    folded: str = ""


def convert(
    state_dict: Mapping[str, np.ndarray],
    variables: PyTree,
    family: str,
    *,
    head: bool,
    classes: Sequence[str] = (),
    file_classes: Sequence[str] = (),
    normalize: str = "film",
) -> tuple[PyTree, Report]:
    """Fills a classifier's variables from a torchvision or torchxrayvision state dict.

    BatchNorm's running variance is taken as it is (torch's is unbiased), so that logits in evaluation are torch's.
    torchvision's networks expect inputs of the ImageNet mean and deviation, its Inception-v3 inputs in [-1, 1],
    torchxrayvision's films in [-1024, 1024]: the weights do not say so, the caller's `normalize` must.

    A stem of three channels is folded for a network of gray films: what it makes of one film is what the three made of
    the film three times, under the same `normalize`. Zeros beyond the film are added after it, so that this holds at
    the border too.

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
      normalize: of the films that the network is shown, a key of `inputs.NORMALIZATIONS`.

    Returns:
      variables of the same structure and dtypes, with numpy arrays where they were filled; the `Report`.

    Raises:
      UserError: names the family of a file of another; the keys that are unknown, the parameters that stay unfilled,
        the shapes that differ and the values that are not finite.
    """
    rules, state = FAMILIES[family_of(family)], read.clean(state_dict)
    if recognized(state) != family_of(family):
        raise UserError(
            f"these are weights of {_family_in_words(recognized(state))} ({_some(state, most=3)}), and the network is "
            f"{family!r}"
        )
    like = inputs.like_channels(normalize)
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
    folded = ""
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
        if target in wanted and _foldable(array.shape, leaves[target].shape, like):
            array = np.einsum("hwco,cp->hwpo", array.astype(np.float64), like)
            folded = key
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
    return tree.unflatten_dict({**leaves, **filled}, sep="/"), Report(used, ignored, tuple(fresh), folded)


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


class Source(NamedTuple):
    """A weight file for a network, and how it is to be taken.

    Attributes:
      given: the file, or `imagenet`; see `pretrained.locate`.
      net: the network's name.
      head, classes, file_classes, normalize: as in `convert`; a head needs the file's classes, since its rows are never
        taken by position alone.
    """

    given: str | Path
    net: str
    head: bool
    classes: tuple[str, ...] = ()
    file_classes: tuple[str, ...] = ()
    normalize: str = "film"

    def read(self) -> tuple[read.File, dict[str, str]]:
        """The file, and what its package says of it.

        Raises:
          UserError: as `pretrained.locate` and `read.read`; a head without classes; films normalized otherwise than
            ImageNet weights were trained under.
        """
        rules = FAMILIES[family_of(self.net)]
        if self.head and not self.file_classes:
            raise UserError(
                f"weights {self.given}: a head's rows are taken by name: say weights_classes, the file's classes in "
                "their order"
            )
        if self.given == pretrained.IMAGENET and self.normalize != rules.normalize:
            raise UserError(
                f"weights = {self.given!r} of {self.net} were trained under normalize = {rules.normalize!r}, and it is "
                f"{self.normalize!r}: set it"
            )
        path, package = pretrained.locate(self.given, self.net)
        return read.read(path), package

    def fill(self, file: read.File, variables: PyTree) -> tuple[PyTree, Report]:
        """`convert` with this file; an error begins with its name."""
        try:
            return convert(
                file.tensors, variables, self.net, head=self.head, classes=self.classes,
                file_classes=self.file_classes, normalize=self.normalize,
            )  # fmt: skip
        except UserError as e:
            raise UserError(f"weights {self.given}: {e}") from e


def bring(source: Source) -> Callable[[State], State]:
    """A `carry` of the train loop: takes a fresh state and gives it the weights of a file.

    The file is read at once. `params["net"]` and `stats["net"]` are replaced, and `ema["net"]` where a task keeps one:
    an average begins at the weights it averages.

    Raises:
      UserError: as `Source.read`; and, when the state comes, as `convert`, with the file's name before it.
    """
    file, _ = source.read()

    def carry(state: State) -> State:
        filled, _ = source.fill(file, variables_of(state))
        params = filled.pop("params")
        return dataclasses.replace(
            state,
            params={**state.params, "net": params},
            stats={**state.stats, "net": {name: filled.get(name, {}) for name in state.stats["net"]}},
            ema={**state.ema, "net": params} if "net" in state.ema else state.ema,
        )

    return carry


def variables_of(state: State) -> PyTree:
    """What a state's network is applied to, or the shapes of it."""
    return {"params": state.params["net"], **state.stats["net"]}


def account(source: Source, variables: PyTree) -> dict[str, Any]:
    """What a manifest says of a weight file, and of what becomes of each of its tensors in a network of these shapes.

    Returns:
      `file` and its `sha256`; of a package its `package`, `version` and `license`; `prefix`, what was taken off the
      names; `tensors`, their number; `used`, how many of them were; `folded`, where the stem was; `ignored`, the reason
      for each other one, those of one name and reason together; `fresh`, the parameters that keep their own values.

    Raises:
      UserError: as `bring`.
    """
    file, package = source.read()
    _, report = source.fill(file, variables)
    alike: dict[str, list[str]] = {}  # 49 counts of batches are one line of a page
    for key in report.ignored:
        leaf = key.rpartition(".")[2]
        alike.setdefault(leaf if leaf in UNREAD else key, []).append(key)
    return {
        "file": file.name, "sha256": file.sha256, **package, "prefix": file.prefix, "tensors": len(file.tensors),
        "used": len(report.used), **({"folded": report.folded} if report.folded else {}),
        "ignored": {
            f"*.{leaf} ({len(keys)})" if len(keys) > 1 else keys[0]: report.ignored[keys[0]]
            for leaf, keys in alike.items()
        },
        "fresh": report.fresh,
    }  # fmt: skip


def _foldable(given: tuple[int, ...], shape: tuple[int, ...], like: np.ndarray) -> bool:
    """Whether a kernel (h, w, 3, o) is to become one (h, w, planes, o) of gray films."""
    return len(given) == 4 and given[2] == 3 and shape == (*given[:2], like.shape[1], given[3])


def _family_in_words(name: str) -> str:
    return f"the family {name!r}" if name else f"none of the families {', '.join(FAMILIES)}"


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
