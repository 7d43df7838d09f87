"""Where a classifier's maps point, against the masks of phantoms or the boxes that radiologists drew."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrjax import data
from cxrjax.errors import UserError
from cxrjax.infer import classifier
from cxrjax.metrics import bootstrap, entries
from cxrjax.metrics import localization as metrics
from cxrjax.ops import enhance
from cxrjax.phases import Context
from cxrjax.phases.members import Member
from cxrjax.studies import arrays
from cxrjax.studies.arrays import write_arrays
from cxrjax.studies.classification import predictions
from cxrjax.types import Results

LEVEL = 0.5
DRAWN = 12  # films of the figures
NOTE = (
    "Maps of films that do carry the finding, against {truth}; each map scaled to [0, 1], IoU and IoBB at level "
    "{level}. Pointing game: whether the map's greatest value lies inside; intervals over patients. Mean place: one "
    "map for all films of a finding, the share of its {training} that cover each point (of all findings' where it has "
    "none)."
)


def run(context: Context, phase: str) -> Results:
    """Pointing game, IoU and IoBB of one system's maps on its held-out films, beside those of a map that is the same
    for all: where the training films have the finding. Writes `maps.npz` for the figure.

    Films without masks or boxes give no figures.
    """
    config = context.config
    classes = tuple(config.data.classes)
    parts: list[dict[str, np.ndarray]] = []
    for member in context.phases[phase].members[: max(config[phase].folds, 1)]:  # of seeds the first
        found = arrays.read_arrays(predictions.path_of(context.workdir, member.name))
        split = "train" if str(found["split"]) == "folds" else str(found["split"])
        pairs = _pairs(context, split, found["key"], classes)[: config.study.num_maps]
        if pairs:
            place = mean_places(context, member, classes)
            part = _maps(context, phase, member.name, split, pairs, classes)
            parts.append(part | {"place": np.stack([place[name] for name in part["finding"]])})
    if not parts:
        return {}
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    shown = np.argsort(-whole["score"], kind="stable")[np.linspace(0, len(whole["key"]) - 1, DRAWN).astype(int)]
    drawn = {key: value[np.unique(shown)] for key, value in whole.items() if key not in ("patient", "place")}
    write_arrays(context.workdir / "maps.npz", **drawn)
    figures, beside = (
        {
            "pointing": metrics.pointing(whole[kind], whole["truth"]),
            **metrics.overlap(whole[kind], whole["truth"], LEVEL)._asdict(),
        }
        for kind in ("map", "place")
    )

    def entries_of(which: np.ndarray) -> Results:
        out = {}
        for name, values in [*figures.items(), *((f"mean_place_{name}", values) for name, values in beside.items())]:
            defined = which & np.isfinite(values)
            out[name] = entries.entry(
                *bootstrap.interval(lambda v: float(np.mean(v)), (values[defined],), whole["patient"][defined]),
                n=int(defined.sum()), unit="fraction",
            ) if defined.any() else None  # fmt: skip
        gap = bootstrap.paired_difference(
            figures["pointing"][which], beside["pointing"][which], whole["patient"][which]
        )
        out["pointing_minus_mean_place"] = entries.entry(*gap, n=int(which.sum()), unit="fraction")
        return out

    truth = "the phantoms' own masks" if context.films.has_truth else "radiologists' boxes"
    training = "training masks" if context.films.has_truth else "training boxes"
    return {
        "phase": phase,
        "note": NOTE.format(truth=truth, level=LEVEL, training=training),
        "by_class": {name: entries_of(whole["finding"] == name) for name in np.unique(whole["finding"]).tolist()},
        "all": entries_of(np.ones(len(whole["key"]), bool)),
    }


def _pairs(context: Context, split: str, keys: np.ndarray, classes: tuple[str, ...]) -> list[tuple[int, str, Any]]:
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


def mean_places(context: Context, member: Member, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """By finding the share of a member's training masks or boxes of it that cover each pixel, (size, size).

    Scaled to a greatest value of 1; of a finding that has none, that of all findings; blank where there are none.
    """
    size = context.config.data.size
    keys = context.films.table("train")["key"]
    pairs = _pairs(context, "train", keys if member.keep is None else keys[member.keep], classes)
    if context.films.has_truth:  # films must be read for it, and some will do
        order = np.random.default_rng(context.config.seed).permutation(len(pairs))[: context.config.study.num_maps]
        pairs = [pairs[i] for i in np.sort(order)]
    truth, _ = _truth(context, "train", pairs)
    finding = np.array([name for _, name, _ in pairs])
    out = {}
    for name in classes:
        mine = finding == name
        share = (truth[mine] if mine.any() else truth).mean(axis=0) if len(pairs) else np.zeros((size, size))
        out[name] = (share / max(share.max(), 1e-12)).astype(np.float32)
    return out


def _truth(
    context: Context, split: str, pairs: list[tuple[int, str, Any]]
) -> tuple[np.ndarray, dict[str, np.ndarray] | None]:
    """Where each finding is, (n, size, size) bool, and the films, if they had to be read for it."""
    size = context.config.data.size
    if not context.films.has_truth:
        sides = [np.array([[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes]) * size for _, _, boxes in pairs]
        masks = [metrics.masks(boxes, size, size).any(axis=0) for boxes in sides]
        return np.reshape(masks, (-1, size, size)), None
    films = data.films(context.films, split, np.array([i for i, _, _ in pairs], int))
    masks = [films["masks"][name][at] for at, (_, name, _) in enumerate(pairs)]
    return np.reshape(masks, (-1, size, size)), films


def _maps(
    context: Context, phase: str, member: str, split: str, pairs: list[tuple[int, str, Any]], classes: tuple[str, ...]
) -> dict[str, np.ndarray]:
    heat = predictions.network(context, phase, context.states[member]).compiled(classifier.class_map)
    positions = np.array([i for i, _, _ in pairs])
    truth, films = _truth(context, split, pairs)
    films = films or data.films(context.films, split, positions)
    image, maps, scores = films["image"], [], []
    for at, (_, name, _) in enumerate(pairs):
        m, s = heat(image[at : at + 1], classes.index(name))
        maps.append(np.asarray(m[0]))
        scores.append(float(s[0]))
        if not np.isfinite(maps[-1]).all():
            raise UserError(
                f"the map of {phase} for {name} is not finite on film {positions[at]} of {split}: look for a diverged "
                "classifier or a film that is not finite"
            )
    return {
        "image": image[..., 0], "map": np.stack(maps).astype(np.float32), "truth": truth,
        "finding": np.array([name for _, name, _ in pairs]), "key": np.asarray(films["key"], dtype=str),
        "score": np.array(scores), "patient": np.asarray(films["patient"], dtype=str),
    }  # fmt: skip


def write_enh(context: Context) -> None:
    """A film of each class with its three local-phase channels, for the page; writes `enh.npz`."""
    path = context.workdir / "enh.npz"
    if arrays.exists(path):
        return
    split = context.films.held_out
    classes = tuple(context.config.data.classes)
    label = data.labels.select(context.films.table(split)["labels"], context.films.columns, classes)
    chosen = [int(np.flatnonzero(label[:, c] == 1)[0]) for c in range(len(classes)) if (label[:, c] == 1).any()]
    image = data.films(context.films, split, np.array(chosen))["image"]
    names = np.array([name for c, name in enumerate(classes) if (label[:, c] == 1).any()])
    options = context.config.data.enh_options.to_dict()
    write_arrays(path, image=image[..., 0], enh=np.asarray(enhance.enhance(image, **options)), label=names)
