"""Where a classifier's maps point, against the masks of phantoms or the boxes that radiologists drew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cxrjax import data
from cxrjax.metrics import bootstrap
from cxrjax.metrics import localization as metrics
from cxrjax.ops import cam, enhance
from cxrjax.studies import predictions
from cxrjax.studies.chunks import write_arrays
from cxrjax.tasks import classify
from cxrjax.types import Array, UserError

Results = dict[str, Any]
LEVEL = 0.5
DRAWN = 12  # films of the figures
NOTE = (
    "Maps of films that do carry the finding, against {truth}; each map scaled to [0, 1], IoU and IoBB at level "
    "{level}. Pointing game: whether the map's greatest value lies inside; intervals over patients."
)


def run(context: Any, phase: str) -> Results:
    """Pointing game, IoU and IoBB of one system's maps on its held-out films; writes `maps.npz` for the figure.

    Films without masks or boxes give no figures.
    """
    config = context.config
    classes = tuple(config.data.classes)
    names = predictions.names(config, phase)[: max(config[phase].folds, 1)]  # of seeds the first
    parts: list[dict[str, np.ndarray]] = []
    for name in names:
        found = predictions.read(predictions.path_of(context.workdir, name))
        split = "train" if str(found["split"]) == "folds" else str(found["split"])
        pairs = _pairs(context, split, found["key"], classes)[: config.study.num_maps]
        if pairs:
            parts.append(_maps(context, phase, name, split, pairs, classes))
    if not parts:
        return {}
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    shown = np.argsort(-whole["score"], kind="stable")[np.linspace(0, len(whole["key"]) - 1, DRAWN).astype(int)]
    drawn = {key: value[np.unique(shown)] for key, value in whole.items() if key != "patient"}
    write_arrays(context.workdir / "maps.npz", **drawn)
    figures = {
        "pointing": metrics.pointing(whole["map"], whole["truth"]),
        **metrics.overlap(whole["map"], whole["truth"], LEVEL)._asdict(),
    }

    def leaves(which: np.ndarray) -> Results:
        out = {}
        for name, values in figures.items():
            defined = which & np.isfinite(values)
            out[name] = bootstrap.leaf(
                *bootstrap.interval(lambda v: float(np.mean(v)), (values[defined],), whole["patient"][defined]),
                n=int(defined.sum()), unit="fraction",
            ) if defined.any() else None  # fmt: skip
        return out

    truth = "the phantoms' own masks" if context.films.has_truth else "radiologists' boxes"
    return {
        "phase": phase,
        "note": NOTE.format(truth=truth, level=LEVEL),
        "by_class": {name: leaves(whole["finding"] == name) for name in np.unique(whole["finding"]).tolist()},
        "all": leaves(np.ones(len(whole["key"]), bool)),
    }


def _pairs(context: Any, split: str, keys: np.ndarray, classes: tuple[str, ...]) -> list[tuple[int, str, Any]]:
    """(position, finding, truth) of held-out films whose finding has a place; truth is a list of boxes or None."""
    table = context.films.table(split)
    position = {key: i for i, key in enumerate(table["key"])}
    allowed = [position[key] for key in keys]
    if context.films.has_truth:
        label = data.labels.select(table["labels"], context.films.columns, classes)
        return [
            (i, name, None) for i in allowed for c, name in enumerate(classes)
            if name != data.labels.NORMAL and label[i, c] == 1
        ]  # fmt: skip
    boxes = context.films.boxes(split)
    found = []
    for i in allowed:
        for name in dict.fromkeys(box[0] for box in boxes.get(i, ())):
            if name in classes:
                found.append((i, name, [box[1:] for box in boxes[i] if box[0] == name]))
    return found


def _maps(
    context: Any, phase: str, member: str, split: str, pairs: list[tuple[int, str, Any]], classes: tuple[str, ...]
) -> dict[str, np.ndarray]:
    config, size = context.config[phase], context.config.data.size
    options = classify.options_of(config)
    net = classify.network(config, len(classes))
    variables = classify.variables_of(options, context.states[member])
    heat = jax.jit(partial(class_map, net, options))
    positions = np.array([i for i, _, _ in pairs])
    films = data.films(context.films, split, positions)
    image, maps, scores = films["image"], [], []
    for at, (_, name, _) in enumerate(pairs):
        m, s = heat(variables, image[at : at + 1], classes.index(name))
        maps.append(np.asarray(m[0]))
        scores.append(float(s[0]))
        if not np.isfinite(maps[-1]).all():
            raise UserError(
                f"the map of {phase} for {name} is not finite on film {positions[at]} of {split}: look for a diverged "
                "classifier or a film that is not finite"
            )
    if context.films.has_truth:
        truth = np.stack([films["masks"][name][at] for at, (_, name, _) in enumerate(pairs)])
    else:
        sides = [np.array([[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes]) * size for _, _, boxes in pairs]
        truth = np.stack([metrics.masks(boxes, size, size).any(axis=0) for boxes in sides])
    return {
        "image": image[..., 0], "map": np.stack(maps).astype(np.float32), "truth": truth,
        "finding": np.array([name for _, name, _ in pairs]), "key": np.asarray(films["key"], dtype=str),
        "score": np.array(scores), "patient": np.asarray(films["patient"], dtype=str),
    }  # fmt: skip


def class_map(net: Any, options: classify.Options, variables: Any, image: Array, number: Array) -> tuple[Array, Array]:
    """The map of one class over whole films, and its probability.

    The head's own map where it has one, exact for a pool of maps and the CAM for a mean and one linear layer; else
    Grad-CAM.

    Args:
      image: (b, h, w, 1) in [0, 1].
      number: () class.

    Returns:
      (b, h, w) in [0, 1], (b,) in [0, 1].
    """
    b, h, w = image.shape[:3]
    logits, endpoints = net.apply(variables, classify.shown(options, image), train=False)
    if "map" in endpoints:
        coarse = jnp.take(endpoints["map"], number, axis=-1)  # (b, h', w')
    else:
        head: Callable[[Array], Array] = partial(net.apply, variables, method="head_from")
        coarse = cam.grad_cam(endpoints["features"], head, lambda y: jnp.take(y, number, axis=-1))
    probability = jax.nn.softmax(logits) if options.exclusive else jax.nn.sigmoid(logits)
    return cam.min_max(jax.image.resize(coarse, (b, h, w), "bilinear")), jnp.take(probability, number, axis=-1)


def write_enh(context: Any) -> None:
    """A film of each class with its three local-phase channels, for the page; writes `enh.npz`."""
    path = context.workdir / "enh.npz"
    if predictions.exists(path):
        return
    split = predictions.held_out(context.films)
    classes = tuple(context.config.data.classes)
    label = data.labels.select(context.films.table(split)["labels"], context.films.columns, classes)
    chosen = [int(np.flatnonzero(label[:, c] == 1)[0]) for c in range(len(classes)) if (label[:, c] == 1).any()]
    image = data.films(context.films, split, np.array(chosen))["image"]
    names = np.array([name for c, name in enumerate(classes) if (label[:, c] == 1).any()])
    options = context.config.data.enh_options.to_dict()
    write_arrays(path, image=image[..., 0], enh=np.asarray(enhance.enhance(image, **options)), label=names)
