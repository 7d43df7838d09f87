"""Classification: one network, exclusive or independent classes, and every training form of the papers."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxrjax import models
from cxrjax.errors import UserError, lookup
from cxrjax.metrics import classification
from cxrjax.models.classifier import Classifier, Head
from cxrjax.ops import augment, enhance, inputs, losses
from cxrjax.ops.inputs import normalize as normalize  # a judge of other tasks' films is shown them likewise
from cxrjax.train import optim
from cxrjax.types import Array, Batch, Key, PyTree, Rows, Scalars, State, Task

AUXILIARY_WEIGHT = 0.4  # of Inception's second head (Szegedy et al. 2016)


class Options(NamedTuple):
    """What a step needs beside the network.

    Attributes:
      loss: a key of `losses.LOSSES`.
      class_weight: (k,) weights (of the class, or of the positives where classes are independent); empty for none.
      label_smoothing: share of a label that is spread, in training only.
      focal_gamma: of the focal losses.
      ema: decay of the weights' moving average, which is then what predicts; 0 for none.
      backbone_stats: `trained`, or `kept`: the backbone's BatchNorm uses its running statistics and does not move them,
        also where its weights are trained. A frozen backbone's are kept.
      input: `cxr`, or `enh` for the three local-phase channels, computed here unless the films come with them.
      channels: 3 repeats a gray film, for networks of three channels.
      normalize: a key of `inputs.NORMALIZATIONS`.
      crop: side of a random square in training, of the middle one in evaluation; 0 for the whole film.
      tta: what evaluation averages the probabilities of, see `inputs.views`; empty for one view.
      border: width, as a share of the side, of the frame that is all the network sees, of films whose found lungs
        are blank; 0 for the whole film.
      ranges: of the augmentations in training.
      plateau: when a stalled validation loss lowers the learning rate.
    """

    loss: str = "softmax"
    class_weight: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    ema: float = 0.0
    backbone_stats: str = "trained"
    input: str = "cxr"
    channels: int = 1
    normalize: str = "film"
    crop: int = 0
    tta: tuple[str, ...] = ()
    border: float = 0.0
    ranges: augment.Ranges = augment.NONE
    plateau: optim.Plateau = optim.Plateau()

    @property
    def exclusive(self) -> bool:
        """Whether a film has exactly one class."""
        return self.loss in losses.EXCLUSIVE


def objective(options: Options, logits: Array, label: Array, valid: Array) -> Array:
    """The loss of logits (b, k), without label smoothing."""
    loss: Callable[..., Array] = losses.LOSSES[options.loss]
    if options.loss in ("focal", "sigmoid_focal"):
        loss = partial(loss, gamma=options.focal_gamma)
    return loss(logits, label, valid, jnp.asarray(options.class_weight) if options.class_weight else None)


def shown(options: Options, image: Array) -> Array:
    """What the network sees of films (b, h, w, 1 or 3) in [0, 1] that have their final size."""
    if options.border:
        image = inputs.border_only(image, options.border)
    if options.input == "enh" and image.shape[-1] == 1:
        image = enhance.enhance(image)  # (b, h, w, 3)
    if options.channels == 3 and image.shape[-1] == 1:
        image = jnp.repeat(image, 3, axis=-1)
    return inputs.normalize(image, options.normalize)


def middle(options: Options, image: Array) -> Array:
    """Films as evaluation crops them."""
    return inputs.center_crop(image, options.crop) if options.crop else image


def step(
    net: nn.Module,
    tx: optax.GradientTransformation,
    options: Options,
    state: State,
    batch: Batch,
    key: Key,
    cached: bool = False,
) -> tuple[State, Scalars]:
    """One optimizer step on a batch of films; `cached`: on their `features`, which the head alone is trained on."""
    crop_key, augment_key, dropout_key = jax.random.split(key, 3)
    how: dict[str, Any] = {"method": "head_from"}
    x = batch.image
    if not cached:
        image = inputs.random_crop(crop_key, batch.image, options.crop) if options.crop else batch.image
        x = shown(options, augment.vary(options.ranges, augment_key, image, batch.index))
        how = {"backbone_train": options.backbone_stats == "trained"}
    label = losses.smooth(batch.label, options.label_smoothing, options.exclusive)

    def loss_of(params: PyTree) -> tuple[Array, PyTree]:
        out, changed = net.apply(
            {"params": params, **state.stats["net"]},
            x,
            train=True,
            label=batch.label,
            mutable=list(state.stats["net"]),
            rngs={"dropout": dropout_key},
            **how,
        )
        logits, endpoints = (out, {}) if cached else out
        loss = objective(options, logits, label, batch.valid)
        if "aux_logits" in endpoints:
            loss = loss + AUXILIARY_WEIGHT * objective(options, endpoints["aux_logits"], label, batch.valid)
        return loss, changed

    params = state.params["net"]
    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt = tx.update(grads, state.opt["net"], params)
    if options.plateau.patience:
        updates = jax.tree.map(lambda u: u * state.evals["lr_scale"], updates)
    moved = optax.apply_updates(params, updates)
    new = dataclasses.replace(
        state,
        step=state.step + 1,
        params={"net": moved},
        stats={"net": stats},
        opt={"net": opt},
        ema={"net": optim.update_ema(state.ema["net"], moved, state.step, options.ema)} if options.ema else {},
    )
    return new, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def logits_of(net: nn.Module, options: Options, variables: PyTree, image: Array) -> Array:
    """Logits (b, k) of films (b, h, w, c) in [0, 1]; of several views, those of their mean probability."""
    if not options.tta:
        return net.apply(variables, shown(options, middle(options, image)), train=False)[0]
    views = inputs.views(image, options.tta, options.crop)  # (v, b, s, s, c)
    logits = jax.lax.map(lambda x: net.apply(variables, shown(options, x), train=False)[0], views)  # (v, b, k)
    if options.exclusive:
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - math.log(len(views))
    present, absent = (jax.nn.logsumexp(jax.nn.log_sigmoid(x), axis=0) for x in (logits, -logits))
    return present - absent


def variables_of(options: Options, state: State) -> PyTree:
    """The weights that predict, and the statistics."""
    return {"params": (state.ema if options.ema else state.params)["net"], **state.stats["net"]}


def predict(net: nn.Module, options: Options, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """Rows of logits (b, k) and labels (b, k)."""
    del key
    return {"logits": logits_of(net, options, variables_of(options, state), batch.image), "label": batch.label}


def features(net: Classifier, options: Options, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """Rows of `features`, (b, h', w', c) float32: the last maps of whole films, or their means, (b, 1, 1, c), where the
    head reads no more."""
    del key
    x = net.apply(variables_of(options, state), shown(options, batch.image), train=False)[1]["features"]
    head, x = net.head, x.astype(jnp.float32)
    reads_mean = isinstance(head, Head) and head.pool == "gap" and not (head.transition or head.widen_features)
    return {"features": x.mean(axis=(1, 2), keepdims=True) if reads_mean else x}


def _of_features(net: nn.Module, options: Options, state: State, batch: Batch, key: Key) -> dict[str, Array]:
    """The rows of `predict`, of a batch of `features`."""
    del key
    return {"logits": net.apply(variables_of(options, state), batch.image, method="head_from"), "label": batch.label}


def scores(options: Options, logits: np.ndarray) -> np.ndarray:
    """Logits -> probabilities (n, k) in float64, on the host."""
    logits = logits.astype(np.float64)
    if not options.exclusive:
        return 1 / (1 + np.exp(-logits))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def summarize(options: Options, rows: Rows) -> dict[str, float]:
    """Loss, mean AUROC over the classes that have both labels, and accuracy for exclusive classes."""
    label = rows["label"]
    valid = jnp.ones(len(label), jnp.float32)
    out = {"loss": float(objective(options, jnp.asarray(rows["logits"]), jnp.asarray(label), valid))}
    probability = scores(options, rows["logits"])
    per_class = np.asarray(classification.auroc_per_class(label, probability))
    out["auroc"] = float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")
    if options.exclusive:
        known = ~np.isnan(label).any(axis=1)
        out["accuracy"] = classification.accuracy(label[known].argmax(axis=1), probability[known].argmax(axis=1))
    return out


def on_eval(options: Options, state: State, summary: Mapping[str, float]) -> State:
    """Remembers the best validation loss, and lowers the learning rate where it has stalled."""
    return dataclasses.replace(state, evals=options.plateau.update(state.evals, summary["loss"]))


def init(net: nn.Module, tx: optax.GradientTransformation, options: Options, key: Key, batch: Batch) -> State:
    """A fresh state for films of the batch's shape."""
    x = shown(options, middle(options, jnp.asarray(batch.image)))
    # In training form, so that a second head that is used in training only has weights.
    variables = dict(net.init({"params": key, "dropout": key}, x, train=True))
    params = variables.pop("params")
    return State(
        step=jnp.int32(0),
        params={"net": params},
        stats={"net": variables},
        opt={"net": tx.init(params)},
        ema={"net": params} if options.ema else {},
        frozen={},
        evals={"best_loss": jnp.float32(jnp.inf), "bad_evals": jnp.int32(0), "lr_scale": jnp.float32(1)},
    )


def options_of(config: Any) -> Options:
    """A phase's options, from its keys of the same names and its optimizer's.

    Raises:
      UserError: names the key, its value and what was expected.
    """
    lookup(losses.LOSSES, config.loss, "the classification loss")
    values = {name: config[name] for name in Options._fields if name in config}
    values |= {"class_weight": tuple(config.class_weight), "tta": tuple(config.get("tta", ()))}
    values["ranges"] = augment.Ranges(**{name: config[name] for name in augment.Ranges._fields if name in config})
    if "optim" in config:  # a grid has many
        values["plateau"] = optim.plateau(config.optim)
        if any(re.search(pattern, "backbone/") for pattern in config.optim.frozen):
            values["backbone_stats"] = "kept"
    options = Options(**values)
    lookup(inputs.NORMALIZATIONS, options.normalize, "normalize")
    if options.loss == "sparse" and options.label_smoothing:
        raise UserError("label_smoothing means nothing to loss 'sparse', which reads class numbers; use softmax")
    if options.input not in ("cxr", "enh"):
        raise UserError(f"input = {options.input!r}: expected cxr or enh")
    if options.backbone_stats not in ("trained", "kept"):
        raise UserError(f"backbone_stats = {options.backbone_stats!r}: expected trained or kept")
    for kind in options.tta:
        lookup(dict.fromkeys(inputs.VIEWS), kind, "tta")
    for name, value in options.ranges._asdict().items():
        if value < 0 or (name in augment.SHARES and value >= 1):
            share = ", a share below 1" if name in augment.SHARES else ""
            raise UserError(f"{name} = {value}: expected the range of an augmentation, 0 or more{share}")
    if not 0 <= options.border < 0.5:
        raise UserError(f"border = {options.border}: expected a share of the side in [0, 0.5)")
    if options.border and options.input == "enh":
        raise UserError("border is a control of raw films: local phase reaches from the lungs into the frame")
    return options


def network(config: Any, num_classes: int) -> nn.Module:
    """The phase's network, `config.net.name` with the other keys of `config.net` as options."""
    options = dict(config.net)
    return models.build(options.pop("name"), num_classes=num_classes, **options)


def make(config: Any, num_classes: int) -> Task:
    """Binds a phase's configuration: `net`, `optim`, `steps`, and the fields of `Options`."""
    net, tx, options = network(config, num_classes), optim.make(config.optim, config.steps), options_of(config)
    return Task(
        init=partial(init, net, tx, options),
        step=partial(step, net, tx, options),
        predict=partial(predict, net, options),
        summarize=partial(summarize, options),
        on_eval=partial(on_eval, options),
    )


def on_features(config: Any, num_classes: int, films: Batch) -> Task:
    """The task of `make` on batches whose images are `features`: the whole state, of which the head alone is trained.

    Args:
      config, num_classes: as for `make`.
      films: blank ones of the phase's shape, for which the state is made.
    """
    task = make(config, num_classes)
    net, tx, options = network(config, num_classes), optim.make(config.optim, config.steps), options_of(config)
    return task._replace(
        init=lambda key, batch: task.init(key, films),
        step=partial(step, net, tx, options, cached=True),
        predict=partial(_of_features, net, options),
    )


def check_cached(config: Any, state: State) -> None:
    """Raises UserError where a phase cannot be trained on features that are computed once.

    Args:
      config: the phase's.
      state: a fresh one, or its shapes.
    """
    if config.task != "classify":
        raise UserError(f"cached is of films: task is {config.task!r}, expected 'classify'; set cached = False")
    params = state.params["net"]
    kept = optim.labels(params, [(pattern, "frozen") for pattern in config.optim.frozen], "train")
    if "train" in jax.tree.leaves(kept["backbone"]):
        raise UserError('cached trains the head alone: set optim.frozen = ("^backbone/",), or cached = False')
    if "aux" in params:
        raise UserError("cached reads the last map alone, and net has an auxiliary head: set net.aux = False")
    changed = [*config.augment, *options_of(config).ranges.on, *(["crop"] if config.crop else [])]
    if changed:
        raise UserError(
            f"cached computes every film's features once, and {changed[0]} would change the film at each step: leave "
            "it out here (the next phase may have it), or set cached = False"
        )
